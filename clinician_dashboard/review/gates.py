"""The gates of the sign-off: one pure function, each gate with its words and where it is resolved.

Sources
    ISO 15189:2022, 7.4.1.2 (review and release by authorised personnel) and 7.4.1.3 (critical results are told to a person,
    who, when and to whom is recorded); CLSI GP47 (read-back of a critical result). The password again at the signature, and
    the signature's own meaning, are asked for by 21 CFR 11.50 and 11.200. Which frames must be seen is this system's own rule.
"""

from dataclasses import dataclass
from datetime import datetime

from clinician_dashboard.review.opinions import Standing


@dataclass(frozen=True)
class FrameFacts:
    """What of a case's frames concerns the signature.

    Attributes:
        recorded: Frames in the record with an answer.
        flagged: Frames that must be seen: referred ones, and those that the quality gate remarked on.
        unseen: Of them, those that the signer has not opened.
        seen: Frames of the case, flagged or not, that the signer has opened.
        unresolved: Referred frames to which nobody has given a class, or called not assessable with a reason.
        waiting: Frames without an answer.
        missing: Numbers of its microscopes that never came or are on their way; they may be of this case.
    """

    recorded: int = 0
    flagged: int = 0
    unseen: int = 0
    seen: int = 0
    unresolved: int = 0
    waiting: int = 0
    missing: int = 0


@dataclass(frozen=True)
class SignOff:
    """Everything that the gates look at.

    Attributes:
        signer: Login of the person who would sign.
        at: Now.
        claimed_by: Login of who has the case; empty if nobody.
        claim_expires_at: When that ends.
        standing: What the readings of this round amount to.
        frames: What of its frames concerns the signature.
        came_since: Frames recorded since the signer's conclusion.
        critical: Whether the case asks for a call: the model or a reader suspects acute leukaemia.
        acknowledged: Whether somebody has acknowledged it.
        called: Whether the call is logged with read-back, or the alert was closed with a reason.
        amending: Whether a signed version exists, which this one would amend.
        amend_reason: Why.
    """

    signer: str
    at: datetime
    claimed_by: str = ""
    claim_expires_at: datetime | None = None
    standing: Standing = Standing()  # noqa: RUF009 - frozen
    frames: FrameFacts = FrameFacts()
    came_since: int = 0
    critical: bool = False
    acknowledged: bool = False
    called: bool = False
    amending: bool = False
    amend_reason: str = ""


@dataclass(frozen=True)
class Gate:
    """One condition of the signature.

    Attributes:
        code: Stable.
        met: Whether it holds.
        sentence: What holds, or what is missing.
        link: Where it is resolved, within the case's page; empty where nothing is to be done.
        warns: It does not hold, and the signer may sign all the same by saying so.
    """

    code: str
    met: bool
    sentence: str
    link: str = ""
    warns: bool = False

    @property
    def blocks(self) -> bool:
        """Whether nothing can be signed while it stands so."""
        return not self.met and not self.warns


def gates(case: SignOff) -> tuple[Gate, ...]:
    """Return every gate of the sign-off, in the order in which a reader meets them. Pure.

    Args:
        case: What is known of the case at this moment.
    """
    return (
        _claim(case),
        _seen(case),
        _resolved(case),
        _concluded(case),
        _second(case),
        _agreed(case),
        *((_call(case),) if case.critical else ()),
        *((_reason(case),) if case.amending else ()),
        *_warnings(case),
    )


def _claim(case: SignOff) -> Gate:
    if case.claimed_by == case.signer and case.claim_expires_at and case.at < case.claim_expires_at:
        return Gate("claim", met=True, sentence="The case is yours.")
    if case.claimed_by and case.claim_expires_at and case.at < case.claim_expires_at:
        return Gate("claim", met=False, sentence=f"{case.claimed_by} has this case.", link="#review")
    return Gate("claim", met=False, sentence="Claim the case first.", link="#review")


def _seen(case: SignOff) -> Gate:
    frames = case.frames
    if frames.unseen:
        return Gate(
            "viewed",
            met=False,
            sentence=f"{frames.unseen} of {frames.flagged} flagged frame{'' if frames.flagged == 1 else 's'} not viewed by you.",
            link="?show=unseen#frames",
        )
    if not frames.seen:
        return Gate("viewed", met=False, sentence="Open at least one frame.", link="#frames")
    if frames.flagged == 1:
        said = "The flagged frame is viewed."
    else:
        said = f"All {frames.flagged} flagged frames viewed." if frames.flagged else "No frame is flagged."
    return Gate("viewed", met=True, sentence=said)


def _resolved(case: SignOff) -> Gate:
    left = case.frames.unresolved
    if left:
        said = f"{left} referred frame{'' if left == 1 else 's'} {_is(left)} not resolved: give a class, or not assessable."
        return Gate("resolved", met=False, sentence=said, link="?show=unresolved#frames")
    return Gate("resolved", met=True, sentence="Every referred frame is resolved.")


def _concluded(case: SignOff) -> Gate:
    standing = case.standing
    if standing.first is None:
        return Gate("conclusion", met=False, sentence="No conclusion is recorded yet.", link="#review")
    return Gate("conclusion", met=True, sentence="A conclusion is recorded.")


def _second(case: SignOff) -> Gate:
    standing = case.standing
    if standing.first is None and case.critical:
        return Gate(
            "second",
            met=False,
            sentence="Two readers are needed: acute leukaemia is suspected.",
            link="#review",
        )
    if standing.first is None:
        return Gate(
            "second",
            met=True,
            sentence="A second reader is asked for where the first differs from the model.",
        )
    if not standing.second_needed:
        return Gate("second", met=True, sentence="No second reading is needed.")
    if standing.second is None:
        return Gate(
            "second",
            met=False,
            sentence=f"A second reader must read it, since {standing.second_needed}.",
            link="#second-reader",
        )
    return Gate("second", met=True, sentence=f"Second reading by {standing.second.reader}.")


def _agreed(case: SignOff) -> Gate:
    standing = case.standing
    if standing.disagree and standing.adjudication is None:
        return Gate(
            "agreed",
            met=False,
            sentence="The two readers disagree: one may change their mind, or a third reader or the lab lead decides.",
            link="#second-reader",
        )
    if standing.conclusion is not None and case.signer not in standing.signers:
        names = " or ".join(sorted(standing.signers))
        return Gate("agreed", met=False, sentence=f"The conclusion that stands is not yours: {names} signs.")
    if standing.conclusion is None:
        return Gate("agreed", met=False, sentence="No conclusion stands yet.", link="#review")
    return Gate("agreed", met=True, sentence="The conclusion stands, and it is yours.")


def _call(case: SignOff) -> Gate:
    if case.called:
        return Gate(
            "call", met=True, sentence="The critical finding was told, or its alert closed with a reason."
        )
    todo = (
        "log the call with read-back"
        if case.acknowledged
        else "acknowledge it, call, and log the call with read-back"
    )
    return Gate("call", met=False, sentence=f"Critical finding not told: {todo}.", link="#critical")


def _reason(case: SignOff) -> Gate:
    if case.amend_reason.strip():
        return Gate("reason", met=True, sentence="The amendment has its reason.")
    return Gate("reason", met=False, sentence="Say why the signed version is amended.", link="#amend")


def _warnings(case: SignOff) -> tuple[Gate, ...]:
    frames, found = case.frames, []
    if frames.waiting:
        said = f"{frames.waiting} frame{' of this case waits' if frames.waiting == 1 else 's of this case wait'} for an answer."
        found.append(Gate("waiting", met=False, sentence=said, link="?show=waiting#frames", warns=True))
    if frames.missing:
        said = f"{frames.missing} of its microscopes' frames from that time never came, or are on their way."
        found.append(Gate("missing", met=False, sentence=said, link="/attention", warns=True))
    if case.came_since:
        said = f"{case.came_since} frame{'' if case.came_since == 1 else 's'} came after your conclusion."
        found.append(Gate("later", met=False, sentence=said, link="#frames", warns=True))
    return tuple(found)


def _is(number: int) -> str:
    return "is" if number == 1 else "are"
