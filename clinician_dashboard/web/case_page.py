"""What the case page and the viewer show, for one person: some of it is hidden from a reader who reads blind first."""

from typing import Any

from fastapi import HTTPException

from clinician_dashboard.access.roles import Actor
from clinician_dashboard.record.frame_list import FRAME_STATES, FrameState, ListedFrame
from clinician_dashboard.record.tables import FrameRow
from clinician_dashboard.reports.formats import available
from clinician_dashboard.web import views, words
from clinician_dashboard.web.context import Context
from clinician_dashboard.web.review_panel import (
    SHOWN_FRAMES,
    ReviewPanel,
    blinded,
    reads_apart,
    review_panel,
    told,
)

FRAMES_PER_PAGE = 48  # full rows of two, three, four, six and eight


def case_page(
    context: Context, actor: Actor, site: str, code: str, *, show: str, page: int
) -> dict[str, Any]:
    """Return what a case's page shows.

    Args:
        context: What the daemon offers.
        actor: Who looks.
        site: The case's site.
        code: Its code.
        show: One of `FRAME_STATES` or `SHOWN_FRAMES`; every frame otherwise.
        page: Of the frames, from 1.

    Raises:
        NoSuchCase: If there is none.
    """
    panel = review_panel(context.review, actor, site, code)
    case = panel.facts.case
    if panel.hidden:
        show = ""
    only = panel.ids(show)
    frames = context.reader.frames_of(case.id, state=show, page=page, page_size=FRAMES_PER_PAGE, only=only)
    cards = [views.frame_card(listed) for listed in frames.frames]
    return {
        "page": "case",
        "case": case,
        "panel": panel,
        "hidden": panel.hidden,
        "line": views.case_line(case, []),
        "bars": [] if panel.hidden else views.class_bars(case.result.get("shares", {}), leading=case.leading),
        "cards": [blinded(card) for card in cards] if panel.hidden else cards,
        "frames": frames,
        "show": show if show in (*FRAME_STATES, *SHOWN_FRAMES) else "",
        "models": frames.models,
        "stopped": context.models.stopped(),
        "reports": () if panel.hidden else available(),
        "simulated": case.simulated,
        "use": _use(panel),
        "needed": context.reader.needing_a_person(),
    }


def _use(panel: ReviewPanel) -> str:
    if not panel.amending:
        return words.INTENDED_USE
    return words.AMEND_USE if panel.facts.review.amend_needed else words.SIGNED_USE


def frame_detail(context: Context, actor: Actor, frame_id: str) -> dict[str, Any]:
    """Return what the viewer shows beside the image.

    Raises:
        HTTPException: 404 if there is no such frame.
    """
    frame = context.reader.frame(frame_id)
    if frame is None:
        raise HTTPException(404, "There is no such frame in this record.")
    facts = context.review.read(frame.case.site, frame.case.code)
    hidden = context.review.hidden(actor, facts)
    rejection = context.reader.rejection_of(frame_id)
    state: FrameState = "refused" if rejection else "waiting"
    card = views.frame_card(ListedFrame(0, state, frame))
    if hidden:
        card = blinded(card)
    diagnosis = card.diagnosis
    alone = bool(context.review.alone_cases(actor, [frame.case]))
    fact = next((one for one in facts.frames if one.frame_id == frame_id), None)
    return {
        "card": card,
        "frame": frame,
        "diagnosis": diagnosis,
        "bars": views.class_bars(
            diagnosis.probabilities, leading=diagnosis.prediction, prediction_set=diagnosis.prediction_set
        )
        if diagnosis
        else [],
        "case": frame.case,
        "rejection": None if hidden else rejection,
        "hidden": hidden,
        "fact": fact,
        "labelled": fact is not None
        and told(fact, actor.name, apart=reads_apart(actor, facts, hidden=hidden, alone=alone)),
        "stopped": diagnosis is not None and diagnosis.weights_sha256 in context.models.stopped(),
        "reader": actor.may("cases.review"),
    }


def answer_hidden(context: Context, actor: Actor, frame: FrameRow) -> bool:
    """Return whether the model's answer for a frame's case is hidden from ``actor``."""
    return frame.case_id in context.review.hidden_cases(actor, [frame.case])
