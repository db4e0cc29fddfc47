"""The classes, in the one order that every array, message and page follows."""

from typing import Final

LABELS: Final[tuple[str, ...]] = ("healthy", "ALL", "AML", "CLL", "CML")

LABEL_NAMES: Final[dict[str, str]] = {
    "healthy": "no leukaemia",
    "ALL": "acute lymphoblastic leukaemia",
    "AML": "acute myeloid leukaemia",
    "CLL": "chronic lymphocytic leukaemia",
    "CML": "chronic myeloid leukaemia",
}
