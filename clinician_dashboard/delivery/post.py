"""Every target of the settings with its courier, as one thing that is started and stopped."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from prometheus_client import CollectorRegistry
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from broker_config.messages import now
from clinician_dashboard.access.roles import Actor
from clinician_dashboard.audit import append
from clinician_dashboard.delivery.courier import Courier, Target
from clinician_dashboard.delivery.fhir import FhirServer
from clinician_dashboard.delivery.metrics import DeliveryMetrics
from clinician_dashboard.delivery.mllp import MllpReceiver
from clinician_dashboard.delivery.orders import Orders
from clinician_dashboard.delivery.settings import FhirPushSettings, MllpSettings
from clinician_dashboard.delivery.tables import DeliveryRow
from clinician_dashboard.record.database import Record
from clinician_dashboard.record.reader import RecordReader
from clinician_dashboard.record.tables import CaseRow
from clinician_dashboard.review.signed import SignedVersion

STATES = ("parked", "waiting", "sent", "passed_over")


@dataclass(frozen=True)
class Standing:
    """How one target stands.

    Attributes:
        name: The target.
        waiting: Reports that have not arrived yet.
        parked: Reports that the other side refused: a person must look.
        oldest: When the oldest waiting one was ordered; none if all have arrived.
        fault: Why the target cannot be reached now; empty while it can.
        configured: Whether the settings name it still; what waits for one that they do not is not sent.
    """

    name: str
    waiting: int
    parked: int
    oldest: datetime | None
    fault: str
    configured: bool


class Post:
    """The way out to the health record.

    Args:
        record: The open record.
        fhir: The FHIR server's settings; none: nothing is pushed there.
        mllp: The HL7 v2 receiver's settings, likewise.
        registry: Of the metrics.
        on_change: Called after the state of an order changed; must be quick.
        clock: Returns the present time in UTC.
    """

    def __init__(
        self,
        record: Record,
        *,
        fhir: FhirPushSettings | None,
        mllp: MllpSettings | None,
        registry: CollectorRegistry,
        on_change: Callable[[], None] = lambda: None,
        clock: Callable[[], datetime] = now,
    ) -> None:
        self._record = record
        self._clock = clock
        targets: list[Target] = []
        if fhir is not None:
            targets.append(FhirServer(fhir))
        if mllp is not None:
            targets.append(MllpReceiver(mllp))
        metrics = DeliveryMetrics(registry)
        reader = RecordReader(record)
        self._couriers = {
            target.name: Courier(record, reader, target, metrics=metrics, on_change=on_change, clock=clock)
            for target in targets
        }
        self._orders = Orders({target.name: target.settings for target in targets})

    def follow(self, session: Session, cases: Sequence[CaseRow], at: datetime) -> None:
        """Order what a batch changed, within its transaction."""
        self._orders.follow(session, cases, at)

    def signed(self, session: Session, version: SignedVersion) -> None:
        """Order a signed version, within its transaction."""
        self._orders.signed(session, version)

    def start(self) -> None:
        """Start delivering."""
        for courier in self._couriers.values():
            courier.start()

    def stop(self, timeout_s: float = 3.0) -> None:
        """End; what has not arrived stays in the record."""
        for courier in self._couriers.values():
            courier.stop(timeout_s)

    def ring(self) -> None:
        """Say that there may be something to deliver. Never blocks."""
        for courier in self._couriers.values():
            courier.ring()

    def standings(self) -> list[Standing]:
        """Return how each target stands that is configured or has something in the record."""
        with self._record.session() as session:
            rows = session.execute(
                select(DeliveryRow.target, DeliveryRow.state, func.count(), func.min(DeliveryRow.created_at))
                .where(DeliveryRow.state.in_(("waiting", "parked")))
                .group_by(DeliveryRow.target, DeliveryRow.state)
            ).all()
        counted = {(target, state): (number, first) for target, state, number, first in rows}
        names = sorted({target for target, _state in counted} | set(self._couriers))
        return [
            Standing(
                name=name,
                waiting=counted.get((name, "waiting"), (0, None))[0],
                parked=counted.get((name, "parked"), (0, None))[0],
                oldest=counted.get((name, "waiting"), (0, None))[1],
                fault=self._couriers[name].fault if name in self._couriers else "",
                configured=name in self._couriers,
            )
            for name in names
        ]

    def listed(
        self, *, state: str = "", limit: int = 100, offset: int = 0
    ) -> tuple[Sequence[DeliveryRow], int]:
        """Return orders, the parked and waiting ones first, and how many there are.

        Args:
            state: Only in this state; all if empty or unknown.
            limit: Most of them.
            offset: How many to pass over.
        """
        where = [DeliveryRow.state == state] if state in STATES else []
        place = func.instr if self._record.file is not None else func.strpos
        with self._record.session() as session:
            total = session.scalar(select(func.count()).select_from(DeliveryRow).where(*where)) or 0
            rows = session.scalars(
                select(DeliveryRow)
                .where(*where)
                .order_by(place("parked waiting sent passed_over", DeliveryRow.state), DeliveryRow.id.desc())
                .limit(limit)
                .offset(offset)
            ).all()
        return rows, total

    def retry(self, actor: Actor, number: int) -> bool:
        """Send a parked report again, because a person says so; return whether there was such a one."""
        at = self._clock()
        with self._record.transaction() as session:
            row = session.get(DeliveryRow, number)
            if row is None or row.state != "parked":
                return False
            row.state, row.attempts, row.due_at = "waiting", 0, at
            append(
                session,
                actor=actor,
                action="delivery.retry",
                subject=f"case:{row.site}/{row.code}",
                at=at,
                target=row.target,
                status=row.status,
                version=row.version,
            )
        self.ring()
        return True
