"""Two frames side by side: this smear beside an earlier one of the same patient, or two frames of one case."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from pydantic import StringConstraints

from clinician_dashboard.access.web import actor_of, needs, saw_case
from clinician_dashboard.record.frame_list import ListedFrame
from clinician_dashboard.record.tables import CaseRow
from clinician_dashboard.web import views
from clinician_dashboard.web.context import Context
from clinician_dashboard.web.pages import Pages
from clinician_dashboard.web.review_panel import blinded
from clinician_dashboard.web.worklist_page import STATUS_CHIPS

STRIP = 48
FrameId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$"), Query()]


@dataclass(frozen=True)
class Pane:
    """One side: the frame that is shown, and those of its case to choose from."""

    case: CaseRow
    card: views.FrameCard
    frames: Sequence[ListedFrame]
    hidden: bool
    stopped: bool


def compare_router(pages: Pages, context: Context) -> APIRouter:
    """Return the routes of the comparison."""
    reading = [Depends(needs("cases.read"))]
    router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)

    @router.get("/compare", dependencies=reading)
    def compare(request: Request, left: FrameId, right: FrameId) -> Response:
        panes = [_pane(context, request, frame_id) for frame_id in (left, right)]
        return pages.answer(request, "compare.html", **_shown(context, panes, left=left, right=right))

    @router.get("/compare/{site}/{code}", dependencies=reading)
    def compare_case(site: str, code: str) -> Response:
        case = context.reader.case(site, code)
        if case is None:
            raise HTTPException(404, "There is no such case in this record.")
        own = context.reader.frames_of(case.id, page_size=2).frames
        if not own:
            raise HTTPException(404, "No frame of this case is in the record: there is nothing to compare.")
        for prior in context.reader.priors(case):
            earlier = context.reader.frames_of(prior.id, page_size=1).frames
            if earlier:
                return _to(earlier[0], own[0])
        for other in context.review.prior(case):  # none is earlier: a later smear, on the right
            later = context.reader.frames_of(other.case.id, page_size=1).frames
            if later:
                return _to(own[0], later[0])
        return _to(own[0], own[-1])

    return router


def _to(left: ListedFrame, right: ListedFrame) -> Response:
    return RedirectResponse(f"/compare?left={left.row.frame_id}&right={right.row.frame_id}", status_code=303)


def _pane(context: Context, request: Request, frame_id: str) -> Pane:
    frame = context.reader.frame(frame_id)
    if frame is None:
        raise HTTPException(404, "There is no such frame in this record.")
    saw_case(request, frame.case.site, frame.case.code)
    listed = context.reader.frames_of(frame.case_id, page_size=STRIP).frames
    here = next((one for one in listed if one.row.frame_id == frame_id), ListedFrame(0, "waiting", frame))
    hidden = bool(context.review.hidden_cases(actor_of(request), [frame.case]))
    card = views.frame_card(here)
    return Pane(
        case=frame.case,
        card=blinded(card) if hidden else card,
        frames=listed,
        hidden=hidden,
        stopped=card.diagnosis is not None and card.diagnosis.weights_sha256 in context.models.stopped(),
    )


def _shown(context: Context, panes: Sequence[Pane], *, left: str, right: str) -> dict[str, Any]:
    return {
        "page": "compare",
        "panes": list(zip(("left", "right"), panes, strict=True)),
        "left": left,
        "right": right,
        "priors": [
            (prior, context.reader.latest_frames([prior.id], each=1).get(prior.id, []))
            for prior in context.reader.priors(panes[1].case)
        ],
        "status_words": STATUS_CHIPS,
        "needed": context.reader.needing_a_person(),
        "simulated": any(pane.case.simulated for pane in panes),
    }
