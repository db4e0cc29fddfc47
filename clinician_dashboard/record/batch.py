"""What one batch of messages needs of the record, read by a handful of queries, and what it changes."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session, joinedload

from broker_config.messages import Diagnosis, Frame
from clinician_dashboard.record.changes import Applied
from clinician_dashboard.record.sums import DaySums
from clinician_dashboard.record.tables import (
    CaseRow,
    DeviceRow,
    DiagnosisRow,
    FrameRow,
    RejectionRow,
    TallyRow,
    WorkerRow,
)

MAX_DETAIL = 500
LIFE_EVERY = timedelta(seconds=3)


class Batch:
    """The rows that a batch is about; whatever is not in it is not in the record.

    Args:
        session: An open session that does not flush by itself.
        at: The present time in UTC; one moment for the whole batch.
    """

    def __init__(self, session: Session, *, at: datetime) -> None:
        self.session = session
        self.at = at
        self.applied = Applied()
        self.days = DaySums()
        self.touched: dict[tuple[str, str], CaseRow] = {}
        self.frames: dict[str, FrameRow] = {}
        self._diagnoses: dict[str, list[DiagnosisRow]] = {}
        self._cases: dict[tuple[str, str], CaseRow] = {}
        self._tallies: dict[tuple[str, str], TallyRow] = {}
        self._rejections: int | None = None
        self._seen: set[tuple[str, ...]] = set()

    def read(self, items: Sequence[object]) -> None:
        """Read the frames, diagnoses and cases that ``items`` name."""
        frames = [item for item in items if isinstance(item, Frame)]
        ids = {item.frame_id for item in items if isinstance(item, Frame | Diagnosis)}
        if not ids:
            return
        found = self.session.scalars(
            select(FrameRow).where(FrameRow.frame_id.in_(ids)).options(joinedload(FrameRow.case))
        )
        self.frames = {row.frame_id: row for row in found}
        answers = self.session.scalars(
            select(DiagnosisRow).where(DiagnosisRow.frame_id.in_(ids)).order_by(DiagnosisRow.id)
        )
        for answer in answers:
            self._diagnoses.setdefault(answer.frame_id, []).append(answer)
        codes = {frame.case for frame in frames if frame.frame_id not in self.frames}
        for case in self.session.scalars(select(CaseRow).where(CaseRow.code.in_(codes))):
            self._cases[case.site, case.code] = case

    @property
    def rejections(self) -> int:
        """How many dead letters the record has; counted once a batch."""
        if self._rejections is None:
            self._rejections = self.count(RejectionRow.id.is_not(None))
        return self._rejections

    @rejections.setter
    def rejections(self, number: int) -> None:
        self._rejections = number

    def diagnoses_of(self, frame_id: str) -> list[DiagnosisRow]:
        """Return the diagnoses of a frame, the earliest first; the list is the batch's own."""
        return self._diagnoses.setdefault(frame_id, [])

    def case_of(self, frame: Frame) -> CaseRow:
        """Return the case of a frame, made if it is new."""
        key = (frame.site, frame.case)
        case = self._cases.get(key)
        if case is None:
            case = CaseRow(
                site=frame.site, code=frame.case, opened_at=frame.captured_at, changed_at=self.at, totals={}
            )
            self.session.add(case)
            self._cases[key] = case
        return case

    def touch(self, case: CaseRow) -> None:
        """Note that a case changed."""
        self.touched[case.site, case.code] = case

    def tally(self, name: str, code: str, detail: str = "") -> None:
        """Count something that a person may want to know."""
        row = self._tallies.get((name, code)) or self.session.get(TallyRow, (name, code))
        if row is None:
            row = TallyRow(name=name, code=code, count=0, last_at=self.at, last_detail="")
            self.session.add(row)
        self._tallies[name, code] = row
        row.count += 1
        row.last_at = self.at
        if detail:
            row.last_detail = detail.encode("utf-8", "replace").decode()[:MAX_DETAIL]
        self.applied.tallies[name, code] = self.applied.tallies.get((name, code), 0) + 1

    def alive(self, *who: str) -> None:
        """Note that something came from a device (site, name) or a worker (name), whatever its state says."""
        self._seen.add(who)

    def note_life(self, rows: Iterable[DeviceRow | WorkerRow | None]) -> None:
        """Set the last sign of life of ``rows``; the fleet changed where one was thought to be gone."""
        for row in rows:
            if row is None:
                continue
            if row.seen_at is not None and timedelta(0) <= self.at - row.seen_at < LIFE_EVERY:
                continue  # one write in a while is enough to know that it lives
            row.seen_at = self.at
            self.applied.fleet = self.applied.fleet or row.presence == "offline"

    def seen_rows(self) -> Iterable[DeviceRow | WorkerRow | None]:
        """Yield the row of everybody who gave a sign of life."""
        for who in sorted(self._seen):
            if len(who) == 1:
                yield self.session.get(WorkerRow, who[0])
            else:
                yield self.session.get(DeviceRow, who)

    def count(self, *where: object) -> int:
        """Return how many rows match."""
        return self.session.scalar(select(func.count()).where(*where)) or 0  # type: ignore[arg-type]
