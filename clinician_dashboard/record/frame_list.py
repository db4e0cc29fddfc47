"""A case's frames as a numbered list that is read a page at a time.

Which frames there are, their numbers and their states cost a few narrow columns each; images' rows, grids and reasons
are read for the frames of one page only, so that a case of thousands stays quick to look at.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal, cast, get_args

from sqlalchemy import case, func, select
from sqlalchemy.orm import Session, selectinload

from clinician_dashboard.record.case_summary import stopped_models
from clinician_dashboard.record.tables import DiagnosisRow, FrameRow, RejectionRow

FrameState = Literal["report", "refer", "waiting", "refused"]
FRAME_STATES: tuple[FrameState, ...] = get_args(FrameState)
"""Reported; left to a person by the model; not answered yet; unreadable for every worker."""


@dataclass(frozen=True)
class ListedFrame:
    """One frame with its place in the case.

    Attributes:
        number: From 1, in the order of capture; the same whatever is filtered.
        state: By the diagnosis that counts, the latest; what a stopped model version said counts as referred.
        row: The frame with its diagnoses.
    """

    number: int
    state: FrameState
    row: FrameRow


@dataclass(frozen=True)
class FrameList:
    """One page of a case's frames.

    Attributes:
        frames: In the order of capture.
        by_state: How many frames of the case are in each state.
        page: This page, from 1; the last one where a later one was asked for.
        last_page: At least 1.
        models: One diagnosis of each model whose answer counts for some frame of the case.
    """

    frames: Sequence[ListedFrame]
    by_state: dict[FrameState, int]
    page: int
    last_page: int
    models: Sequence[DiagnosisRow]

    @property
    def total(self) -> int:
        """Frames of the case, in whatever state."""
        return sum(self.by_state.values())


def list_frames(
    session: Session,
    case_id: int,
    *,
    state: str,
    page: int,
    page_size: int,
    only: Collection[str] | None = None,
) -> FrameList:
    """Return one page of the frames of a case.

    Args:
        session: An open session.
        case_id: The case.
        state: Only frames in this state; every frame if empty or unknown.
        page: From 1.
        page_size: Most frames of a page.
        only: Ids of the frames to choose from; every frame of the case if none.
    """
    latest = (
        # Not as a condition: SQLite would take the index on `joined` and walk the whole record for every frame.
        select(func.max(case((DiagnosisRow.joined, DiagnosisRow.id))))
        .where(DiagnosisRow.frame_id == FrameRow.frame_id)
        .correlate(FrameRow)
        .scalar_subquery()
    )
    places = session.execute(
        select(FrameRow.frame_id, DiagnosisRow.id, DiagnosisRow.decision, DiagnosisRow.weights_sha256)
        .outerjoin(DiagnosisRow, DiagnosisRow.id == latest)
        .where(FrameRow.case_id == case_id)
        .order_by(FrameRow.captured_at, FrameRow.sequence, FrameRow.frame_id)
    ).all()
    refused = set(
        session.scalars(
            select(FrameRow.frame_id)
            .join(RejectionRow, RejectionRow.frame_id == FrameRow.frame_id)
            .where(FrameRow.case_id == case_id, FrameRow.recorded_at.is_(None))
        )
    )
    stopped = stopped_models(session)
    listed: list[tuple[int, FrameState, str]] = []
    by_state: dict[FrameState, int] = dict.fromkeys(FRAME_STATES, 0)
    for number, (frame_id, _diagnosis, decision, weights) in enumerate(places, 1):
        unread: FrameState = "refused" if frame_id in refused else "waiting"
        now = cast("FrameState", "refer" if weights in stopped else decision) if decision else unread
        by_state[now] += 1
        if (state not in FRAME_STATES or state == now) and (only is None or frame_id in only):
            listed.append((number, now, frame_id))
    last_page = max(1, -(-len(listed) // page_size))
    page = min(page, last_page)
    shown = listed[(page - 1) * page_size : page * page_size]
    rows = {
        row.frame_id: row
        for row in session.scalars(
            select(FrameRow)
            .where(FrameRow.frame_id.in_([frame_id for _, _, frame_id in shown]))
            .options(selectinload(FrameRow.diagnoses))
        )
    }
    of_model = {place.weights_sha256: place.id for place in places if place.id is not None}
    models = session.scalars(
        select(DiagnosisRow).where(DiagnosisRow.id.in_(of_model.values())).order_by(DiagnosisRow.id)
    ).all()
    return FrameList(
        frames=[ListedFrame(number, now, rows[frame_id]) for number, now, frame_id in shown],
        by_state=by_state,
        page=page,
        last_page=last_page,
        models=models,
    )
