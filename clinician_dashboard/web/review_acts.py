"""The acts of the review as a table: what each takes, who may do it, and what it does. Pages and API are made from it."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from clinician_dashboard.access.roles import Actor, Permission
from clinician_dashboard.review.conclusions import MAX_COMMENT
from clinician_dashboard.review.critical import MAX_NOTE, Call
from clinician_dashboard.review.reading import Word
from clinician_dashboard.review.service import ReviewDesk
from clinician_dashboard.review.signing import MAX_REASON

MAX_FRAMES = 500
"""Frames that one request may call seen."""


def _none_if_empty(value: Any) -> Any:
    return None if value == "" else value


def _in_utc(value: datetime | None) -> datetime | None:
    return value.replace(tzinfo=UTC) if value is not None and value.tzinfo is None else value


Revision = Annotated[Annotated[int, Field(ge=0, le=2**31 - 1)] | None, BeforeValidator(_none_if_empty)]
Code = Annotated[str, Field(max_length=40)]
FrameId = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]


class Body(BaseModel):
    """What every act may carry.

    Attributes:
        revision: The review's revision that the page showed; a page that is out of date changes nothing.
    """

    model_config = ConfigDict(extra="forbid")

    revision: Revision = None


class TakeOver(Body):
    """Why a case is taken over."""

    reason: str = Field(max_length=MAX_REASON)


class Viewed(Body):
    """Frames that were opened."""

    frames: list[FrameId] = Field(max_length=MAX_FRAMES)


class Resolved(Body):
    """A class for a frame."""

    frame: FrameId
    label: Code
    reason: Code = ""


class Said(Body):
    """An impression or a conclusion."""

    conclusion: Code = ""
    finer: Code = ""
    reason: Code = ""
    comment: str = Field("", max_length=MAX_COMMENT)

    @property
    def word(self) -> Word:
        """As the review takes it."""
        # A form's line ends are two characters; what was allowed to be typed must not grow too long by them.
        return Word(self.conclusion, self.finer, self.reason, self.comment.replace("\r\n", "\n"))


class Told(Body):
    """A call that was made."""

    told_role: Code = ""
    told_code: Code = ""
    read_back: bool = False
    called_at: Annotated[datetime | None, BeforeValidator(_none_if_empty)] = None
    note: str = Field("", max_length=MAX_NOTE)


class Closed(Body):
    """Why nobody is called."""

    reason: str = Field(max_length=MAX_NOTE)


class Patient(Body):
    """The clinic's own opaque code of a patient."""

    patient_code: str = Field("", max_length=40)


class Signature(Body):
    """A signature."""

    password: str = Field("", max_length=1000, repr=False)
    warned: bool = False
    amend_reason: str = Field("", max_length=MAX_REASON)


@dataclass(frozen=True)
class Act:
    """One act.

    Attributes:
        name: In its address.
        summary: What it does, for the API's document.
        body: What it takes.
        do: Does it; what it returns goes back to a script.
        permission: Who may.
        done: What a page says afterwards.
    """

    name: str
    summary: str
    body: type[Body]
    do: Callable[[ReviewDesk, Actor, str, str, Any], dict[str, Any] | None]
    done: str
    permission: Permission = "cases.review"


def _claim(desk: ReviewDesk, actor: Actor, site: str, code: str, body: Body) -> None:
    desk.claim(actor, site, code, revision=body.revision)


def _release(desk: ReviewDesk, actor: Actor, site: str, code: str, body: Body) -> None:
    desk.release(actor, site, code, revision=body.revision)


def _take_over(desk: ReviewDesk, actor: Actor, site: str, code: str, body: TakeOver) -> None:
    desk.take_over(actor, site, code, reason=body.reason, revision=body.revision)


def _view(desk: ReviewDesk, actor: Actor, site: str, code: str, body: Viewed) -> dict[str, Any]:
    return {"new": desk.view(actor, site, code, body.frames)}


def _resolve(desk: ReviewDesk, actor: Actor, site: str, code: str, body: Resolved) -> None:
    desk.resolve(actor, site, code, body.frame, label=body.label, reason=body.reason)


def _impression(desk: ReviewDesk, actor: Actor, site: str, code: str, body: Said) -> None:
    desk.impression(actor, site, code, body.word, revision=body.revision)


def _conclude(desk: ReviewDesk, actor: Actor, site: str, code: str, body: Said) -> dict[str, Any]:
    return {"stage": desk.conclude(actor, site, code, body.word, revision=body.revision)}


def _acknowledge(desk: ReviewDesk, actor: Actor, site: str, code: str, body: Body) -> None:
    del body  # an alert is acknowledged whatever else was done
    desk.acknowledge(actor, site, code)


def _call(desk: ReviewDesk, actor: Actor, site: str, code: str, body: Told) -> None:
    call = Call(body.told_role, body.told_code, body.read_back, _in_utc(body.called_at), body.note)
    desk.log_call(actor, site, code, call)


def _close(desk: ReviewDesk, actor: Actor, site: str, code: str, body: Closed) -> None:
    desk.close_alert(actor, site, code, reason=body.reason)


def _patient(desk: ReviewDesk, actor: Actor, site: str, code: str, body: Patient) -> None:
    desk.name_patient(actor, site, code, body.patient_code, revision=body.revision)


def _sign(desk: ReviewDesk, actor: Actor, site: str, code: str, body: Signature) -> dict[str, Any]:
    made = desk.sign(
        actor,
        site,
        code,
        password=body.password,
        warned=body.warned,
        amend_reason=body.amend_reason.replace("\r\n", "\n"),
        revision=body.revision,
    )
    return {"version": made.version, "status": made.status, "sha256": made.sha256}


ACTS: tuple[Act, ...] = (
    Act("claim", "Claim the case, so that nobody else signs it.", Body, _claim, "The case is yours."),
    Act("release", "Give the case back.", Body, _release, "The case is given back."),
    Act("take-over", "Take the case over; the lab lead only.", TakeOver, _take_over, "The case is yours."),
    Act("view", "Note that frames were opened.", Viewed, _view, "Noted."),
    Act("resolve", "Give a frame a class, or call it not assessable.", Resolved, _resolve, "Frame resolved."),
    Act("impression", "Keep a first impression, given blind.", Said, _impression, "First impression kept."),
    Act(
        "conclude", "Record a conclusion: it confirms the model's, or differs.", Said, _conclude, "Recorded."
    ),
    Act("acknowledge", "Acknowledge a critical alert.", Body, _acknowledge, "Alert acknowledged."),
    Act("call", "Log the call that told a person of a critical finding.", Told, _call, "Call logged."),
    Act("close-alert", "Close a critical alert without a call.", Closed, _close, "Alert closed."),
    Act("patient", "Say by an opaque code whose case it is.", Patient, _patient, "Patient code kept."),
    Act("sign", "Sign the case, or amend it.", Signature, _sign, "Signed.", "cases.sign"),
)
