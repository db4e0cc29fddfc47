"""The stop switch of a model version: its answers are not to be used from that moment on, in every case's result.

The switch is one row, and new frames follow it at once. Cases that the model has read before are computed anew by a thread,
a few hundred at a time, so that frames go on being recorded meanwhile; a restart goes on where it was. The workers are told
from the outbox, in the transaction of the switch, and again at each connection, since a broker may have lost what it retained.
"""

import logging
import threading
from collections.abc import Callable, Sequence

from sqlalchemy import Text, cast, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from broker_config.fleet_messages import MOST_STOPS, FleetStops, ModelStop
from broker_config.messages import now
from clinician_dashboard import audit
from clinician_dashboard.access.roles import Actor
from clinician_dashboard.errors import DashboardError, RecordError
from clinician_dashboard.outbox import enqueue
from clinician_dashboard.record.case_summary import apply_result, stopped_models
from clinician_dashboard.record.database import Record
from clinician_dashboard.record.desk_tables import ModelRow
from clinician_dashboard.record.tables import CaseRow
from clinician_dashboard.record.writer import Follower

logger = logging.getLogger(__name__)

CASES_AT_ONCE = 500
MAX_REASON = 1000
TOLD_REASON = 200
"""Characters of the reason that the workers are told."""
LOOK_EVERY_S = 30.0
_RETRY_S = 2.0


class ModelSwitchRefused(DashboardError):
    """Raised when a model version cannot be stopped or started; its sentence is for the page."""


def tell_fleet(session: Session, *, by: str) -> None:
    """Put the list of stopped model versions into the outbox; one that has not gone out yet is replaced.

    Args:
        session: Within `Record.transaction`.
        by: This dashboard's name.
    """
    session.flush()
    rows = session.scalars(
        select(ModelRow)
        .where(ModelRow.stopped_at.is_not(None))
        .order_by(ModelRow.stopped_at.desc())
        .limit(MOST_STOPS)
    )
    stops = tuple(
        ModelStop(
            weights_sha256=row.weights_sha256,
            name=row.name,
            version=row.version,
            reason=row.reason[:TOLD_REASON],
            stopped_at=row.stopped_at,
        )
        for row in rows
        if row.stopped_at is not None
    )
    enqueue(session, FleetStops(stops=stops, at=now(), by=by), site="", device="", key="fleet-stops")


class ModelStops:
    """Stops model versions, and lets them start again.

    Args:
        record: The open record.
        name: This dashboard's name, for messages that go out.
        followers: Called with cases whose result has changed, within the transaction that changed it.
        on_change: Called after a commit with the keys (site, code) of the cases that changed; must not raise.
    """

    def __init__(
        self,
        record: Record,
        *,
        name: str,
        followers: Sequence[Follower],
        on_change: Callable[[Sequence[tuple[str, str]]], None],
    ) -> None:
        self._record = record
        self._name = name
        self._followers = followers
        self._on_change = on_change
        self._rung = threading.Event()
        self._stopping = False
        self._connected = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Go on with what an earlier run has left."""
        self._rung.set()
        self._thread = threading.Thread(target=self._run, name="model-stops", daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float = 3.0) -> None:
        """End; cases that were not reached are the next start's."""
        self._stopping = True
        self._rung.set()
        if self._thread is not None:
            self._thread.join(timeout_s)

    def connected(self) -> None:
        """Tell the workers again which versions are stopped: there is a connection. Never blocks."""
        self._connected = True
        self._rung.set()

    def models(self) -> Sequence[ModelRow]:
        """Return every model version that has answered here, stopped ones first, then the latest."""
        with self._record.session() as session:
            rows = session.scalars(select(ModelRow).order_by(ModelRow.first_at.desc()).limit(200)).all()
        return sorted(rows, key=lambda row: row.stopped_at is None)

    def stopped(self) -> frozenset[str]:
        """Return the weights of the stopped model versions."""
        with self._record.session() as session:
            return stopped_models(session)

    def switch(self, weights_sha256: str, *, stopped: bool, reason: str, actor: Actor) -> ModelRow:
        """Stop a model version, or let it start again.

        Args:
            weights_sha256: Its weights.
            stopped: Whether its answers are not to be used.
            reason: In words, for the audit.
            actor: Who says so; the caller has looked at the permission.

        Raises:
            ModelSwitchRefused: If there is no such model, no reason, or nothing to change.
        """
        said = reason.strip()
        if not said or len(said) > MAX_REASON or "\x00" in said:
            raise ModelSwitchRefused(
                f"Say why, in 1 to {MAX_REASON} characters: the audit and every page of that model show it."
            )
        with self._record.transaction() as session:
            row = session.get(ModelRow, weights_sha256)
            if row is None:
                raise ModelSwitchRefused(
                    "No model with those weights has answered here: take one from the list."
                )
            if (row.stopped_at is not None) == stopped:
                raise ModelSwitchRefused(
                    f"{row.name} {row.version} is {'stopped' if stopped else 'in use'} already: somebody was quicker; "
                    "load the page again."
                )
            at = now()
            row.stopped_at = at if stopped else None
            row.changed_by, row.reason = actor.name, said
            row.generation += 1
            row.through = 0
            audit.append(
                session,
                actor=actor,
                action="model.stop" if stopped else "model.start",
                subject=f"model:{weights_sha256}",
                at=at,
                name=row.name,
                version=row.version,
                reason=said,
            )
            tell_fleet(session, by=self._name)
        self._on_change(())
        self._rung.set()
        return row

    # The thread that brings the cases up to date

    def _run(self) -> None:
        while not self._stopping:
            self._rung.wait(LOOK_EVERY_S)
            self._rung.clear()
            try:
                self._tell_again()
                while not self._stopping and self._step():
                    pass
            except (SQLAlchemyError, RecordError) as error:  # another may have the writer's lock for a while
                logger.warning("cases could not follow a stopped model, trying again: %s", error)
                self._rung.wait(_RETRY_S)
                self._rung.set()

    def _tell_again(self) -> None:
        if not self._connected or self._stopping:
            return
        with self._record.transaction() as session:
            # A record in which nobody ever stopped a model has no say in what another one has stopped.
            told = session.scalar(select(ModelRow.name).where(ModelRow.generation > 0).limit(1)) is not None
            if told:
                tell_fleet(session, by=self._name)
        self._connected = False
        if told:
            self._on_change(())

    def _step(self) -> bool:
        """Bring the next cases up to date; return whether there may be more."""
        with self._record.session() as session:
            if session.scalar(select(ModelRow.name).where(ModelRow.applied < ModelRow.generation)) is None:
                return False
        with self._record.transaction() as session:
            row = session.scalar(select(ModelRow).where(ModelRow.applied < ModelRow.generation).limit(1))
            if row is None:
                return False
            ids = session.scalars(
                select(CaseRow.id).where(CaseRow.id > row.through).order_by(CaseRow.id).limit(CASES_AT_ONCE)
            ).all()
            if not ids:
                row.applied = row.generation
                logger.info("every case follows the state of model %s %s", row.name, row.version)
                return True
            cases = session.scalars(
                select(CaseRow).where(
                    CaseRow.id.in_(ids), cast(CaseRow.totals, Text).contains(row.weights_sha256)
                )
            ).all()
            row.through = ids[-1]
            stopped, at = stopped_models(session), now()
            for case in cases:
                apply_result(case, stopped=stopped)
                case.changed_at = at
                case.revision += 1
            if cases:
                for follow in self._followers:
                    follow(session, cases, at)
            changed = [(case.site, case.code) for case in cases]
        if changed:
            self._on_change(changed)
        return True
