"""What the pages and the API ask of the record. Every answer is read, never computed from memory."""

from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, and_, func, or_, select
from sqlalchemy.orm import Session, selectinload

from broker_config.messages import now
from clinician_dashboard.record.arrival import read_by_arrival
from clinician_dashboard.record.case_filter import CaseFilter
from clinician_dashboard.record.database import Record
from clinician_dashboard.record.desk_tables import CaseWordRow
from clinician_dashboard.record.frame_list import FrameList, list_frames
from clinician_dashboard.record.memo import Memo
from clinician_dashboard.record.missing import Missing, find_missing
from clinician_dashboard.record.quality_over_time import Grouping, Quality, read_quality
from clinician_dashboard.record.summary import summarise
from clinician_dashboard.record.tables import (
    CaseRow,
    DeviceRow,
    FrameRow,
    LedgerRow,
    RejectionRow,
    TallyRow,
    WorkerRow,
)
from clinician_dashboard.record.worklist import Key, Worklist, read_worklist
from clinician_dashboard.review.tables import ReviewRow

KEPT_S = 2.0
SUMMARY_TIMES = 20.0
EVERY_CASE = CaseFilter()


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
        self._missing: Memo[list[Missing]] = Memo(KEPT_S)
        self._rejected: Memo[int] = Memo(KEPT_S)
        self._summary: Memo[dict[str, Any]] = Memo(0.0, times_its_cost=SUMMARY_TIMES)

    def worklist(
        self,
        wanted: CaseFilter = EVERY_CASE,
        *,
        urgency: str = "",
        search: str = "",
        limit: int = 100,
        offset: int = 0,
        after: Key | None = None,
        before: Key | None = None,
        by_arrival: bool = False,
    ) -> Worklist:
        """Return one page of the worklist; see `read_worklist`, and for who reads blind `read_by_arrival`."""
        if urgency or search:
            wanted = replace(wanted, urgency=urgency, search=search)
        with self._record.snapshot() as session:
            read = read_by_arrival if by_arrival else read_worklist
            return read(session, wanted, limit=limit, offset=offset, after=after, before=before)

    def latest_frames(self, case_ids: Sequence[int], *, each: int) -> dict[int, list[str]]:
        """Return the ids of up to ``each`` newest recorded frames of every case, newest first."""
        place = func.row_number().over(partition_by=FrameRow.case_id, order_by=FrameRow.captured_at.desc())
        ranked = (
            select(FrameRow.frame_id, FrameRow.case_id, place.label("place"))
            .where(FrameRow.case_id.in_(case_ids), FrameRow.recorded_at.is_not(None))
            .subquery()
        )
        found: dict[int, list[str]] = {}
        with self._record.session() as session:
            rows = session.execute(
                select(ranked.c.case_id, ranked.c.frame_id)
                .where(ranked.c.place <= each)
                .order_by(ranked.c.case_id, ranked.c.place)
            )
            for case_id, frame_id in rows:
                found.setdefault(case_id, []).append(frame_id)
        return found

    def cases_with_code(self, code: str) -> Sequence[CaseRow]:
        """Return every site's case of that code; usually one."""
        with self._record.session() as session:
            return session.scalars(select(CaseRow).where(_has_code(code)).order_by(CaseRow.site)).all()

    def case(self, site: str, code: str) -> CaseRow | None:
        """Return one case."""
        with self._record.session() as session:
            return session.scalar(select(CaseRow).where(CaseRow.site == site, CaseRow.code == code))

    def priors(self, case: CaseRow, *, limit: int = 20) -> Sequence[CaseRow]:
        """Return earlier cases of the same patient, the latest first: by the patient code at the site, or the same case code."""
        patient = select(ReviewRow.patient_code).where(ReviewRow.case_id == case.id).scalar_subquery()
        tied = (
            select(ReviewRow.case_id)
            .join(CaseRow, CaseRow.id == ReviewRow.case_id)
            .where(ReviewRow.patient_code == patient, CaseRow.site == case.site)
        )
        with self._record.session() as session:
            return session.scalars(
                select(CaseRow)
                .where(
                    or_(CaseRow.id.in_(tied), _has_code(case.code)),
                    CaseRow.id != case.id,
                    CaseRow.opened_at < case.opened_at,
                )
                .order_by(CaseRow.opened_at.desc())
                .limit(limit)
            ).all()

    def frames_of(
        self,
        case_id: int,
        *,
        state: str = "",
        page: int = 1,
        page_size: int = 100,
        only: Collection[str] | None = None,
    ) -> FrameList:
        """Return one page of a case's frames with their diagnoses, in the order of capture; see `list_frames`."""
        with self._record.snapshot() as session:
            return list_frames(session, case_id, state=state, page=page, page_size=page_size, only=only)

    def frame(self, frame_id: str) -> FrameRow | None:
        """Return one frame with its case and diagnoses."""
        with self._record.session() as session:
            return session.scalar(
                select(FrameRow)
                .where(FrameRow.frame_id == frame_id)
                .options(selectinload(FrameRow.diagnoses), selectinload(FrameRow.case))
            )

    def snapshot(self) -> AbstractContextManager[Session]:
        """Give a session whose reads all see one moment, for tables that this class does not know."""
        return self._record.snapshot()

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
        """Return what each device's open numbers say: frames that never came, and frames on their way.

        Every page shows the number, and it changes by waiting alone: an answer is used for two seconds, or until dead
        letters or states have come.
        """
        return self._missing.get(self._find_missing)

    def _find_missing(self) -> list[Missing]:
        with self._record.snapshot() as session:
            return find_missing(session, now=now())

    def forget(self) -> None:
        """Read anew what was kept for a moment: dead letters or states have come."""
        self._missing.forget()
        self._rejected.forget()

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
        """Return how many frames were rejected and not recorded after all; used for two seconds, as `missing`."""
        return self._rejected.get(self._count_rejected)

    def _count_rejected(self) -> int:
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

    def quality(
        self, *, by: Grouping, days: int, today: date, site: str = "", device: str = "", model: str = ""
    ) -> Quality:
        """Return rates and scores by day; see `read_quality`."""
        with self._record.snapshot() as session:
            return read_quality(session, by=by, days=days, today=today, site=site, device=device, model=model)

    def device_names(self, *, most: int = 300) -> list[str]:
        """Return the names of microscopes that have sent frames, at most so many."""
        with self._record.session() as session:
            names = select(LedgerRow.device).distinct().order_by(LedgerRow.device).limit(most)
            return list(session.scalars(names))

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

    def simulated_cases(self, case_ids: Sequence[int]) -> frozenset[int]:
        """Return the ids of those of ``case_ids`` that are simulated, or were read by a model of simulated smears."""
        with self._record.session() as session:
            asked = select(CaseRow.id).where(CaseRow.id.in_(case_ids), CaseRow.simulated)
            return frozenset(session.scalars(asked))

    def tallies(self) -> Sequence[TallyRow]:
        """Return every counter."""
        with self._record.session() as session:
            return session.scalars(select(TallyRow).order_by(TallyRow.name, TallyRow.count.desc())).all()

    def summary(self) -> dict[str, Any]:
        """Return the figures of the whole record; see `summarise`.

        Counting a million rows takes seconds, so that an answer that took long is used for as long as twenty times that.
        """
        kept = self._summary.get(self._summarise)
        missing = self.missing()
        return {
            **kept,
            "rejected": self.rejected(),
            "missing": sum(one.count for one in missing),
            "on_the_way": sum(one.on_the_way for one in missing),
        }

    def _summarise(self) -> dict[str, Any]:
        with self._record.snapshot() as session:
            return summarise(session)


def _has_code(code: str) -> ColumnElement[bool]:
    """Find a code by its words: there is no index of codes alone."""
    named = select(CaseWordRow.case_id).where(CaseWordRow.word == code.lower())
    return and_(CaseRow.id.in_(named), CaseRow.code == code)


def _unresolved() -> ColumnElement[bool]:
    return or_(FrameRow.frame_id.is_(None), FrameRow.recorded_at.is_(None))
