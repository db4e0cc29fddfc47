"""The words of the pages: names of classes, urgencies and flags, and what a result says in one line."""

from collections.abc import Sequence
from dataclasses import dataclass

from broker_config.messages import CLASSES, DiseaseClass
from clinician_dashboard.record.missing import Missing
from clinician_dashboard.record.tables import CaseRow, DiagnosisRow, FrameRow

INTENDED_USE = "AI preliminary, not a diagnosis. Decision support, not a medical device."
SIGNED_USE = "Signed by a clinician; the model's answer is supporting evidence. Decision support, not a medical device."
AMEND_USE = (
    "Signed by a clinician; frames came after the signature, and what they say is AI preliminary. "
    "Decision support, not a medical device."
)
ACUTE_NOTE = (
    "Acute promyelocytic leukaemia (APL) is not excluded: look for Auer rods, check coagulation, and call the "
    "haematologist on duty."
)

CLASS_NAMES: dict[DiseaseClass, str] = {
    "healthy": "Healthy",
    "ALL": "Acute lymphoblastic leukaemia",
    "AML": "Acute myeloid leukaemia",
    "CLL": "Chronic lymphocytic leukaemia",
    "CML": "Chronic myeloid leukaemia",
}

SHORT_NAMES: dict[str, str] = {name: ("Healthy" if name == "healthy" else name) for name in CLASSES}


@dataclass(frozen=True)
class UrgencyWords:
    """How an urgency is named and explained."""

    label: str
    meaning: str


URGENCY_WORDS: dict[str, UrgencyWords] = {
    "critical": UrgencyWords("Critical", "acute leukaemia suspected"),
    "high": UrgencyWords("High", "chronic leukaemia suggested"),
    "refer": UrgencyWords("Refer", "the model does not answer: a person must read the smear"),
    "routine": UrgencyWords("Routine", "no leukaemia suggested"),
    "waiting": UrgencyWords("Waiting", "no frame has been read yet"),
}

FLAG_WORDS = {
    "soft_focus": "soft focus",
    "overexposed": "overexposed",
    "underexposed": "underexposed",
    "sparse": "few cells",
    "saturated": "saturated pixels",
}

STATE_WORDS = {
    "report": "Reported",
    "refer": "Referred",
    "waiting": "Waiting",
    "refused": "Unreadable",
}

SPANS_IN_WORDS = 5

TALLY_WORDS = {
    "malformed": "Unusable messages",
    "redelivered": "Repeats absorbed",
    "conflict": "Conflicts refused",
    "stale_state": "Late states ignored",
    "pending_dropped": "Dropped while waiting",
}


def missing(one: Missing) -> str:
    """Return what never came of a device's frames, in one sentence."""
    frames = f"{one.count:,} frame{'' if one.count == 1 else 's'}".replace(",", "\u202f")
    named = sum(last - first + 1 for first, last in one.spans)
    sentence = f"{frames} of {one.device} never came"
    if one.spans and named == one.count:
        sentence += f": {numbers(one.spans)}"
    elif one.spans:
        sentence = f"At least {sentence}, among them {numbers(one.spans)}"
    else:
        sentence = f"At least {sentence}; which ones shows when its spool is empty"
    if one.former:
        sentence += f" ({one.former} of them from before it was set up anew)"
    return sentence


def numbers(spans: Sequence[tuple[int, int]]) -> str:
    """Return ranges of numbers in words, the first few of them."""
    shown = [f"{first} to {last}" if last > first else f"{first}" for first, last in spans[:SPANS_IN_WORDS]]
    single = len(spans) == 1 and spans[0][0] == spans[0][1]
    more = f" and {len(spans) - SPANS_IN_WORDS} more ranges" if len(spans) > SPANS_IN_WORDS else ""
    return f"number{'' if single else 's'} {', '.join(shown)}{more}"


def headline(case: CaseRow) -> str:
    """Return what the model's result says in one line, for a clinician; a reader's own suspicion is told beside it."""
    if case.model_urgency == "waiting":
        return "Waiting for the first answer"
    if case.model_urgency == "critical":
        if case.decision == "report" and case.leading in ("ALL", "AML"):
            return f"{CLASS_NAMES[case.leading]} suspected"  # type: ignore[index]
        return "Acute leukaemia suspected, type not settled"
    if case.decision == "refer" or case.leading is None:
        return "The model does not answer"
    if case.leading == "healthy":
        return "No leukaemia suggested"
    return f"{CLASS_NAMES[case.leading]} suggested"  # type: ignore[index]


def simulated(frame: FrameRow, diagnosis: DiagnosisRow | None) -> str:
    """Return what is simulated: a real frame that a model of simulated smears read is no simulated frame."""
    if frame.simulated:
        return "SIMULATED"
    return "SIMULATED MODEL" if diagnosis and diagnosis.simulated else ""


def flag(code: str) -> str:
    """Return a quality flag in words."""
    return FLAG_WORDS.get(code, code.replace("_", " "))


def reason(text: str) -> tuple[str, str]:
    """Take a referral reason ``code: sentence`` apart; the sentence starts with a capital and ends with a stop."""
    code, colon, sentence = text.partition(":")
    if not colon or " " in code.strip():
        code, sentence = "", text
    sentence = (sentence.strip() or code).replace("_", " ") if not sentence.strip() else sentence.strip()
    sentence = sentence[:1].upper() + sentence[1:]
    return code.strip(), sentence if sentence.endswith((".", "!", "?")) else f"{sentence}."
