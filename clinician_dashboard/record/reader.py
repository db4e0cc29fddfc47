"""What the pages and the API ask of the record. Every answer is read, never computed from memory."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, exists, func, or_, select
from sqlalchemy.orm import selectinload

from broker_config.messages import now
from clinician_dashboard.case_result import URGENCIES
from clinician_dashboard.record.database import Record
from clinician_dashboard.record.frame_list import FrameList, list_frames
from clinician_dashboard.record.missing import Missing, find_missing
from clinician_dashboard.record.tables import (
    CaseRow,
    DeviceRow,
    DiagnosisRow,
    FrameRow,
    RejectionRow,
    TallyRow,
    WorkerRow,
)

LATENCY_SAMPLE = 5000


@dataclass(frozen=True)
class Worklist:
    """A page of cases.

    Attributes:
        cases: By urgency, stat before routine, then the oldest first.
        matching: How many cases match filter and search.
        by_urgency: Cases of each urgency that match the search.
        simulated: Whether any case of the record is simulated.
    """

    cases: Sequence[CaseRow]
    matching: int
    by_urgency: dict[str, int]
    simulated: bool


@dataclass(frozen=True)
class RejectionView:
    """A dead letter, the frame's image if the record has it, and whether the frame was recorded after all."""

    row: RejectionRow
    frame: FrameRow | None


class RecordReader:
    """Reads the record; safe to use from several threads.

    Args:
        record: An open record.
    """

    def __init__(self, record: Record) -> None:
        self._record = record

    def worklist(self, *, urgency: str = "", search: str = "", limit: int = 100, offset: int = 0) -> Worklist:
        """Return one page of the worklist.

        Args:
            urgency: Only this urgency, or all if empty or unknown.
            search: Part of a case code, site or device, or a class name; not a pattern.
            limit: Most cases returned.
            offset: Cases to skip.
        """
        matching: list[ColumnElement[bool]] = []
        if search:
            part = search.strip()
            matching.append(
                or_(
                    CaseRow.code.icontains(part, autoescape=True),
                    CaseRow.site.icontains(part, autoescape=True),
                    CaseRow.devices.icontains(part, autoescape=True),
                    CaseRow.leading == part.upper(),
                    CaseRow.leading == part.lower(),
                )
            )
        with self._record.snapshot() as session:
            counted = session.execute(
                select(CaseRow.urgency, func.count()).where(*matching).group_by(CaseRow.urgency)
            )
            by_urgency = dict.fromkeys(URGENCIES, 0) | {row[0]: row[1] for row in counted}
            where = [*matching, CaseRow.urgency == urgency] if urgency in URGENCIES else matching
            cases = session.scalars(
                select(CaseRow)
                .where(*where)
                .order_by(CaseRow.urgency_rank, CaseRow.stat.desc(), CaseRow.opened_at, CaseRow.id)
                .limit(limit)
                .offset(offset)
            ).all()
            simulated = session.scalar(select(CaseRow.id).where(CaseRow.simulated).limit(1)) is not None
        total = by_urgency[urgency] if urgency in URGENCIES else sum(by_urgency.values())
        return Worklist(cases, total, by_urgency, simulated)

    def latest_frames(self, case_ids: Sequence[int], *, each: int) -> dict[int, list[FrameRow]]:
        """Return up to ``each`` newest recorded frames of every case, newest first."""
        place = func.row_number().over(partition_by=FrameRow.case_id, order_by=FrameRow.captured_at.desc())
        ranked = (
            select(FrameRow.frame_id, place.label("place"))
            .where(FrameRow.case_id.in_(case_ids), FrameRow.recorded_at.is_not(None))
            .subquery()
        )
        found: dict[int, list[FrameRow]] = {}
        with self._record.session() as session:
            rows = session.scalars(
                select(FrameRow)
                .join(ranked, ranked.c.frame_id == FrameRow.frame_id)
                .where(ranked.c.place <= each)
                .options(selectinload(FrameRow.diagnoses))
                .order_by(FrameRow.captured_at.desc())
            )
            for frame in rows:
                found.setdefault(frame.case_id, []).append(frame)
        return found

    def cases_with_code(self, code: str) -> Sequence[CaseRow]:
        """Return every site's case of that code; usually one."""
        with self._record.session() as session:
            return session.scalars(select(CaseRow).where(CaseRow.code == code).order_by(CaseRow.site)).all()

    def case(self, site: str, code: str) -> CaseRow | None:
        """Return one case."""
        with self._record.session() as session:
            return session.scalar(select(CaseRow).where(CaseRow.site == site, CaseRow.code == code))

    def frames_of(self, case_id: int, *, state: str = "", page: int = 1, page_size: int = 100) -> FrameList:
        """Return one page of a case's frames with their diagnoses, in the order of capture; see `list_frames`."""
        with self._record.snapshot() as session:
            return list_frames(session, case_id, state=state, page=page, page_size=page_size)

    def frame(self, frame_id: str) -> FrameRow | None:
        """Return one frame with its case and diagnoses."""
        with self._record.session() as session:
            return session.scalar(
                select(FrameRow)
                .where(FrameRow.frame_id == frame_id)
                .options(selectinload(FrameRow.diagnoses), selectinload(FrameRow.case))
            )

    def image_path(self, frame: FrameRow) -> Path:
        """Return where the frame's image lies."""
        return self._record.images.path(frame.image_sha256)

    def rejections(self, *, limit: int = 200, offset: int = 0) -> list[RejectionView]:
        """Return the dead letters that still need a person, the latest first.

        Args:
            limit: Most of them.
            offset: How many to pass over.
        """
        with self._record.session() as session:
            rows = session.execute(
                select(RejectionRow, FrameRow)
                .outerjoin(FrameRow, FrameRow.frame_id == RejectionRow.frame_id)
                .where(_unresolved())
                .order_by(RejectionRow.id.desc())
                .limit(limit)
                .offset(offset)
            ).all()
        return [RejectionView(row, frame) for row, frame in rows]

    def unresolved(self) -> int:
        """Return how many dead letters still need a person; several may be about one frame."""
        with self._record.session() as session:
            return (
                session.scalar(
                    select(func.count(RejectionRow.id))
                    .outerjoin(FrameRow, FrameRow.frame_id == RejectionRow.frame_id)
                    .where(_unresolved())
                )
                or 0
            )

    def missing(self) -> list[Missing]:
        """Return what each device's open numbers say: frames that never came, and frames on their way."""
        with self._record.snapshot() as session:
            return find_missing(session, now=now())

    def rejection_of(self, frame_id: str) -> RejectionRow | None:
        """Return the latest dead letter of a frame, or none."""
        with self._record.session() as session:
            return session.scalar(
                select(RejectionRow)
                .where(RejectionRow.frame_id == frame_id)
                .order_by(RejectionRow.id.desc())
                .limit(1)
            )

    def rejected(self) -> int:
        """Return how many frames were rejected and not recorded after all."""
        distinct = func.coalesce(RejectionRow.frame_id, RejectionRow.payload_sha256).distinct()
        with self._record.session() as session:
            return (
                session.scalar(
                    select(func.count(distinct))
                    .outerjoin(FrameRow, FrameRow.frame_id == RejectionRow.frame_id)
                    .where(_unresolved())
                )
                or 0
            )

    def needing_a_person(self) -> int:
        """Return how many frames a person must see to: rejected ones, and ones that never came."""
        return self.rejected() + sum(one.count for one in self.missing())

    def fleet(self, *, limit: int = 200, offset: int = 0) -> tuple[Sequence[DeviceRow], Sequence[WorkerRow]]:
        """Return devices and workers that ever announced themselves, by site and name.

        Args:
            limit: Most of each.
            offset: How many of each to pass over.
        """
        with self._record.session() as session:
            devices = session.scalars(
                select(DeviceRow).order_by(DeviceRow.site, DeviceRow.device).limit(limit).offset(offset)
            ).all()
            workers = session.scalars(
                select(WorkerRow).order_by(WorkerRow.worker).limit(limit).offset(offset)
            ).all()
        return devices, workers

    def fleet_size(self) -> tuple[int, int]:
        """Return how many devices and how many workers are known."""
        with self._record.session() as session:
            devices = session.scalar(select(func.count()).select_from(DeviceRow)) or 0
            return devices, session.scalar(select(func.count()).select_from(WorkerRow)) or 0

    def spooled(self) -> int:
        """Return how many frames wait in the microscopes' spools, as they last said."""
        with self._record.session() as session:
            return int(session.scalar(select(func.sum(DeviceRow.state["spooled"].as_integer()))) or 0)

    def simulated_devices(self) -> set[tuple[str, str]]:
        """Return the site and name of each device that says it is simulated."""
        with self._record.session() as session:
            rows = session.execute(
                select(DeviceRow.site, DeviceRow.device).where(DeviceRow.state["simulated"].as_boolean())
            )
            return {(site, device) for site, device in rows}

    def tallies(self) -> Sequence[TallyRow]:
        """Return every counter."""
        with self._record.session() as session:
            return session.scalars(select(TallyRow).order_by(TallyRow.name, TallyRow.count.desc())).all()

    def summary(self) -> dict[str, Any]:
        """Return the figures of the whole record.

        ``referred`` counts recorded frames that the model leaves to a person.
        ``duplicates`` counts what a clinician would see twice, as the tables have it: rows beyond the first of one frame
        and model, and recorded frames whose very image the case already holds under another frame id. ``redelivered``
        counts messages that came again and changed nothing: at-least-once delivery at work, and no fault. ``missing``
        counts frames that devices numbered and that never came, ``on_the_way`` numbers that may still be in their spools.
        """
        with self._record.snapshot() as session:
            frames = session.scalar(select(func.count()).select_from(FrameRow)) or 0
            recorded = session.scalar(select(func.count()).where(FrameRow.recorded_at.is_not(None))) or 0
            diagnoses = session.scalar(select(func.count()).where(DiagnosisRow.joined)) or 0
            pairs = session.scalar(
                select(func.count()).select_from(
                    select(DiagnosisRow.frame_id, DiagnosisRow.weights_sha256)
                    .where(DiagnosisRow.joined)
                    .distinct()
                    .subquery()
                )
            )
            images = session.scalar(
                select(func.count()).select_from(
                    select(FrameRow.case_id, FrameRow.image_sha256)
                    .where(FrameRow.recorded_at.is_not(None))
                    .distinct()
                    .subquery()
                )
            )
            refused = exists().where(RejectionRow.frame_id == FrameRow.frame_id)
            pending_frames = session.scalar(
                select(func.count()).where(FrameRow.recorded_at.is_(None), ~refused)
            )
            pending_diagnoses = (
                session.scalar(select(func.count()).where(DiagnosisRow.joined.is_(False))) or 0
            )
            sums = session.execute(select(TallyRow.name, func.sum(TallyRow.count)).group_by(TallyRow.name))
            tallies = {name: int(number) for name, number in sums}
            times = session.execute(
                select(FrameRow.captured_at, FrameRow.recorded_at)
                .where(FrameRow.recorded_at.is_not(None))
                .order_by(FrameRow.recorded_at.desc())
                .limit(LATENCY_SAMPLE)
            ).all()
            last = session.scalar(select(DiagnosisRow).order_by(DiagnosisRow.id.desc()).limit(1))
            cases = session.scalar(select(func.count()).select_from(CaseRow)) or 0
            referred = session.scalar(select(func.sum(CaseRow.referred))) or 0
            simulated = session.scalar(select(CaseRow.id).where(CaseRow.simulated).limit(1)) is not None
            missing = find_missing(session, now=now())
        latencies = sorted(
            max(0.0, (end - start).total_seconds() * 1000) for start, end in times if end is not None
        )
        return {
            "cases": cases,
            "frames": frames,
            "recorded": recorded,
            "referred": int(referred),
            "duplicates": diagnoses - (pairs or 0) + recorded - (images or 0),
            "redelivered": tallies.get("redelivered", 0),
            "pending": (pending_frames or 0) + pending_diagnoses,
            "pending_frames": pending_frames or 0,
            "pending_diagnoses": pending_diagnoses,
            "rejected": self.rejected(),
            "missing": sum(one.count for one in missing),
            "on_the_way": sum(one.on_the_way for one in missing),
            "conflicts": tallies.get("conflict", 0),
            "malformed": tallies.get("malformed", 0),
            "latency_ms": {"p50": percentile(latencies, 0.5), "p99": percentile(latencies, 0.99)},
            "engine": last.model.get("engine") if last else None,
            "model": f"{last.model['name']} {last.model['version']}" if last else None,
            "simulated": simulated,
        }


def percentile(ordered: Sequence[float], share: float) -> float | None:
    """Return the value below which ``share`` of the sorted values lie (nearest rank), or none if there are none."""
    if not ordered:
        return None
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 1)


def _unresolved() -> ColumnElement[bool]:
    return or_(FrameRow.frame_id.is_(None), FrameRow.recorded_at.is_(None))
