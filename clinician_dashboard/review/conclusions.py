"""What a reader may conclude, and why it may differ from the model: two tables, with SNOMED CT codes where one is certain.

A code is given only where its display was seen beside it: the disorders in the terminology that the reports use too, the
specimen's finding in public value sets. Everything else is ours, and says so by having none.
"""

from dataclasses import dataclass
from typing import Final

from broker_config.messages import DiseaseClass

MAX_COMMENT = 2000


@dataclass(frozen=True)
class Conclusion:
    """One thing that a reader may conclude.

    Attributes:
        code: Ours, stable.
        words: For people.
        disease: The model's class that it agrees with; none where the model has no word for it.
        acute: Whether it is acute leukaemia, which asks for a call.
        needs_comment: Whether it says too little without one.
        snomed: SNOMED CT code and display, or none.
    """

    code: str
    words: str
    disease: DiseaseClass | None
    acute: bool = False
    needs_comment: bool = False
    snomed: tuple[str, str] | None = None


_CONCLUSIONS = (
    Conclusion("healthy", "No leukaemia", "healthy"),
    Conclusion(
        "ALL",
        "Acute lymphoblastic leukaemia",
        "ALL",
        acute=True,
        snomed=("91857003", "Acute lymphoid leukemia"),
    ),
    Conclusion(
        "AML", "Acute myeloid leukaemia", "AML", acute=True, snomed=("91861009", "Acute myeloid leukemia")
    ),
    Conclusion(
        "CLL", "Chronic lymphocytic leukaemia", "CLL", snomed=("92814006", "Chronic lymphoid leukemia")
    ),
    Conclusion("CML", "Chronic myeloid leukaemia", "CML", snomed=("92818009", "Chronic myeloid leukemia")),
    Conclusion("other", "Not leukaemia: other finding", None, needs_comment=True),
    Conclusion(
        "insufficient",
        "Insufficient smear: repeat",
        None,
        snomed=("125154007", "Specimen unsatisfactory for evaluation"),
    ),
)
CONCLUSIONS: Final[dict[str, Conclusion]] = {one.code: one for one in _CONCLUSIONS}
"""By code, in the order in which they are offered."""


@dataclass(frozen=True)
class FinerLabel:
    """A finer label within a conclusion."""

    code: str
    words: str
    snomed: tuple[str, str] | None = None


FINER: Final[dict[str, tuple[FinerLabel, ...]]] = {
    "ALL": (FinerLabel("B-ALL", "B lineage"), FinerLabel("T-ALL", "T lineage")),
    "AML": (
        FinerLabel("M0", "FAB M0, minimal differentiation"),
        FinerLabel("M1", "FAB M1, without maturation"),
        FinerLabel("M2", "FAB M2, with maturation"),
        FinerLabel(
            "M3", "FAB M3, acute promyelocytic (APL)", ("110004001", "Acute promyelocytic leukemia, FAB M3")
        ),
        FinerLabel("M4", "FAB M4, myelomonocytic"),
        FinerLabel("M5", "FAB M5, monocytic"),
        FinerLabel("M6", "FAB M6, erythroid"),
        FinerLabel("M7", "FAB M7, megakaryoblastic"),
    ),
    "CML": (
        FinerLabel("chronic", "Chronic phase"),
        FinerLabel("accelerated", "Accelerated phase"),
        FinerLabel("blast", "Blast phase"),
    ),
}
"""By conclusion. Morphology alone rarely settles them: they are what the reader suspects."""


@dataclass(frozen=True)
class Reason:
    """Why a reader differs from the model."""

    code: str
    words: str
    snomed: tuple[str, str] | None = None
    needs_comment: bool = False


_REASONS = (
    Reason("blasts_missed", "Blasts that the model did not weigh"),
    Reason("blasts_doubtful", "What the model took for blasts is reactive or damaged"),
    Reason("lineage", "The lineage is another one"),
    Reason("maturation", "The maturation speaks for another disease"),
    Reason("lymphocytes", "Mature lymphocytes or smudge cells decide"),
    Reason("few_cells", "Too few cells, or not representative"),
    Reason("artefact", "Stain, drying or focus artefact misled the model"),
    Reason(
        "specimen",
        "The specimen cannot be judged",
        ("125154007", "Specimen unsatisfactory for evaluation"),
    ),
    Reason("clinical", "Clinical findings or other results decide", needs_comment=True),
    Reason("other", "Another reason, in the comment", needs_comment=True),
)
REASONS: Final[dict[str, Reason]] = {one.code: one for one in _REASONS}

NOT_ASSESSABLE = "not_assessable"
FRAME_LABELS: Final[dict[str, str]] = {
    "healthy": "No leukaemia",
    "ALL": "ALL",
    "AML": "AML",
    "CLL": "CLL",
    "CML": "CML",
    NOT_ASSESSABLE: "Not assessable",
}
FRAME_REASONS: Final[dict[str, str]] = {
    "read": "Read by eye",
    "out_of_focus": "Out of focus",
    "stain": "Stain or drying artefact",
    "too_few_cells": "Too few cells",
    "too_thick": "Too thick, cells overlap",
    "edge": "Feathered edge or debris",
    "other": "Other",
}


@dataclass(frozen=True)
class CallReceiver:
    """To whom a critical finding may be told, by role: never by a patient's name."""

    code: str
    words: str


_RECEIVERS = (
    CallReceiver("requesting_physician", "Requesting physician"),
    CallReceiver("ward_physician", "Ward physician on duty"),
    CallReceiver("haematologist_on_duty", "Haematologist on duty"),
    CallReceiver("emergency_department", "Emergency department"),
    CallReceiver("intensive_care", "Intensive care"),
)
RECEIVERS: Final[dict[str, CallReceiver]] = {one.code: one for one in _RECEIVERS}


def words_of(conclusion: str, finer: str = "") -> str:
    """Return a conclusion in words, with its finer label."""
    known = CONCLUSIONS.get(conclusion)
    said = known.words if known else conclusion
    label = next((one for one in FINER.get(conclusion, ()) if one.code == finer), None)
    return f"{said}, {label.words}" if label else said


def is_acute(conclusion: str) -> bool:
    """Return whether a conclusion is acute leukaemia."""
    known = CONCLUSIONS.get(conclusion)
    return known is not None and known.acute
