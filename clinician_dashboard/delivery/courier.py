"""Takes what is ordered to one target, one report at a time, for as long as it takes.

Order
    Of one case the lowest version that waits goes first; a version that is parked holds none up. While the target itself is away, one
    report at a time is tried, after pauses that grow (exponential, full jitter) and end at once when it answers. A report that the
    target stumbles over (a 500) waits by itself, so that the others pass it.

Never twice, never none
    A row is marked as sent after the other side has said so. A crash in between sends it again, which changes nothing there: resources
    are named by identifiers, and messages by a control id, which are the same each time.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final, Protocol

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, aliased

from broker_config.backoff import backoff_s
from broker_config.messages import now
from clinician_dashboard.delivery.errors import NotNow, Refused
from clinician_dashboard.delivery.metrics import DeliveryMetrics
from clinician_dashboard.delivery.orders import PRELIMINARY
from clinician_dashboard.delivery.settings import TargetSettings
from clinician_dashboard.delivery.tables import DeliveryRow
from clinician_dashboard.record.database import Record
from clinician_dashboard.record.reader import RecordReader
from clinician_dashboard.reports.case_report import CaseReport
from clinician_dashboard.reports.errors import MissingPart, NoSuchCase, ReportError
from clinician_dashboard.reports.gather import gather

logger = logging.getLogger(__name__)

LOOK_EVERY_S: Final = 5.0
FIRST_PAUSE_S: Final = 1.0
LONGEST_RETRY_AFTER_S: Final = 86_400.0
LONGEST_FAULT: Final = 2000


class Target(Protocol):
    """Where reports go. Called from the courier's own thread only; it may take as long as its settings allow."""

    @property
    def name(self) -> str:
        """Its name in the record."""
        ...

    @property
    def settings(self) -> TargetSettings:
        """Its settings."""
        ...

    def send(self, report: CaseReport, reader: RecordReader) -> None:
        """Send a report; return when the other side has it.

        Raises:
            Refused: If it will not have it.
            NotNow: If it cannot be asked, or is not ready.
            ReportError: If the report cannot be made.
        """
        ...


class Courier:
    """One thread that empties one target's orders.

    Args:
        record: The open record.
        reader: Reads it.
        target: Where to.
        metrics: Counts what became of each try.
        on_change: Called after the state of an order changed; must be quick.
        clock: Returns the present time in UTC.
    """

    def __init__(
        self,
        record: Record,
        reader: RecordReader,
        target: Target,
        *,
        metrics: DeliveryMetrics,
        on_change: Callable[[], None] = lambda: None,
        clock: Callable[[], datetime] = now,
    ) -> None:
        self._record = record
        self._reader = reader
        self._target = target
        self._metrics = metrics
        self._on_change = on_change
        self._clock = clock
        self._rung = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._failures = 0
        self.fault = ""
        """Why the target itself cannot be reached now, in one sentence; empty while it can."""

    def start(self) -> None:
        """Start delivering."""
        self._thread = threading.Thread(target=self._run, name=f"courier-{self._target.name}", daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float = 3.0) -> None:
        """End; what has not arrived stays in the record for the next start."""
        self._stopping.set()
        self._rung.set()
        if self._thread is not None:
            self._thread.join(timeout_s)

    def ring(self) -> None:
        """Say that there may be something to deliver. Never blocks."""
        self._rung.set()

    def _run(self) -> None:
        pause = 0.0
        while not self._stopping.is_set():
            if pause:
                # A pause for the target's sake is kept; one for want of work ends when there is some.
                (self._stopping if self._failures else self._rung).wait(pause)
            self._rung.clear()
            try:
                pause = self._turn()
            except SQLAlchemyError as error:
                logger.warning(
                    "the deliveries cannot be read or marked, trying again: %s", type(error).__name__
                )
                pause = LOOK_EVERY_S
            except Exception:
                logger.exception("a fault of the courier to %s, going on", self._target.name)
                pause = LOOK_EVERY_S

    def _turn(self) -> float:
        """Deliver what is due next; return how long to pause."""
        self._metrics.show(self._record, self._target.name)
        row = self._next()
        if row is None:
            return self._until_due()
        try:
            revision = self._deliver(row)
        except Refused as error:
            self._reached()
            self._mark(row, state="parked", fault=str(error), cause="refused")
        except NotNow as error:
            return self._again(row, error)
        except NoSuchCase:
            self._mark(row, state="passed_over", fault="", cause="passed_over")
        except MissingPart as error:
            return self._again(row, NotNow(str(error), cause="missing_part"))
        except ReportError as error:
            self._mark(row, state="parked", fault=str(error), cause="invalid")
        else:
            self._reached()
            self._mark(row, state="sent", fault="", cause="sent", revision=revision)
        return 0.0

    def _deliver(self, row: DeliveryRow) -> int:
        report = gather(self._reader, row.code, site=row.site, made_at=self._clock(), version=row.version)
        # The same state gives the same bytes, however often it is sent.
        self._target.send(replace(report, made_at=report.as_of), self._reader)
        return report.version

    def _next(self) -> DeliveryRow | None:
        before = aliased(DeliveryRow)
        held_up = (
            select(before.id)
            .where(
                before.target == DeliveryRow.target,
                before.case_id == DeliveryRow.case_id,
                before.state == "waiting",
                before.version < DeliveryRow.version,
            )
            .exists()
        )
        with self._record.session() as session:
            return session.scalar(
                select(DeliveryRow)
                .where(
                    DeliveryRow.target == self._target.name,
                    DeliveryRow.state == "waiting",
                    DeliveryRow.due_at <= self._clock(),
                    ~held_up,
                )
                .order_by(DeliveryRow.due_at, DeliveryRow.id)
                .limit(1)
            )

    def _until_due(self) -> float:
        with self._record.session() as session:
            due = session.scalar(
                select(DeliveryRow.due_at)
                .where(DeliveryRow.target == self._target.name, DeliveryRow.state == "waiting")
                .order_by(DeliveryRow.due_at)
                .limit(1)
            )
        if due is None:
            return LOOK_EVERY_S
        return min(LOOK_EVERY_S, max(0.05, (due - self._clock()).total_seconds()))

    def _again(self, row: DeliveryRow, error: NotNow) -> float:
        """Note that it did not arrive; return how long to leave the target alone."""
        longest = self._target.settings.longest_pause_s
        own = backoff_s(row.attempts + 1, first_s=FIRST_PAUSE_S, max_s=longest)
        asked = min(error.after_s or 0.0, LONGEST_RETRY_AFTER_S)
        self._failures += 1
        self.fault = str(error)[:LONGEST_FAULT]
        logger.warning(
            "%s has not taken order %d (%s), it is sent again", self._target.name, row.id, error.cause
        )
        self._mark(row, state="waiting", fault=str(error), cause=error.cause, wait_s=max(own, asked))
        if error.of_this and not asked:
            return backoff_s(self._failures, first_s=FIRST_PAUSE_S / 4, max_s=FIRST_PAUSE_S * 4)
        return max(asked, backoff_s(self._failures, first_s=FIRST_PAUSE_S, max_s=longest))

    def _reached(self) -> None:
        if self._failures:
            logger.info("%s takes reports again", self._target.name)
        if self._failures > 1:  # it was away; a single failure was that report's own
            self._hurry()
        self._failures = 0
        self.fault = ""

    def _hurry(self) -> None:
        """The target is back: what waits only because it was away waits no longer."""
        with self._record.transaction() as session:
            for row in session.scalars(
                select(DeliveryRow).where(
                    DeliveryRow.target == self._target.name,
                    DeliveryRow.state == "waiting",
                    DeliveryRow.attempts > 0,
                    DeliveryRow.due_at > self._clock(),
                )
            ):
                row.due_at = min(
                    row.due_at, self._clock() + timedelta(seconds=backoff_s(row.attempts, max_s=10))
                )

    def _mark(
        self,
        row: DeliveryRow,
        *,
        state: str,
        fault: str,
        cause: str,
        wait_s: float = 0.0,
        revision: int | None = None,
    ) -> None:
        at = self._clock()
        with self._record.transaction() as session:
            kept = session.get_one(DeliveryRow, row.id)
            if kept.state != "waiting" and state != "sent":
                return  # passed over, or looked at by a person, meanwhile
            newer = kept.version == PRELIMINARY and revision is not None and kept.revision > revision
            kept.fault = fault[:LONGEST_FAULT]
            if state == "sent":
                kept.sent_at = at
                kept.attempts = 0
                kept.state = "waiting" if newer else "sent"
            else:
                kept.attempts += 1
                kept.state = state
                kept.due_at = at + timedelta(seconds=wait_s)
            if state == "sent" and kept.version:
                self._pass_over_earlier(session, kept)
        self._metrics.outcomes.labels(self._target.name, cause).inc()
        self._metrics.show(self._record, self._target.name)
        self._on_change()

    @staticmethod
    def _pass_over_earlier(session: Session, sent: DeliveryRow) -> None:
        """What a later version that has arrived took the place of need not arrive any more."""
        for earlier in session.scalars(
            select(DeliveryRow).where(
                DeliveryRow.target == sent.target,
                DeliveryRow.case_id == sent.case_id,
                DeliveryRow.version < sent.version,
                DeliveryRow.state.in_(("waiting", "parked")),
            )
        ):
            earlier.state = "passed_over"
