"""What the study reports (Bibi et al., IoMT-Based Automated Detection and Classification of Leukemia, 2020)."""

from dataclasses import dataclass
from typing import Final

from model_zoo.labels import LABELS


@dataclass(frozen=True)
class Published:
    """Figures of one network, in percent.

    Attributes:
        accuracy: Over all test images.
        errors: Test images answered wrongly.
        by_class: Accuracy of each class against the rest (right answers, yes or no, over all test images).
    """

    accuracy: float
    errors: int
    by_class: dict[str, float]


TEST_IMAGES: Final = 1126
PUBLISHED: Final[dict[str, Published]] = {
    "resnet34": Published(
        99.56, 5, {"healthy": 100.0, "ALL": 100.0, "AML": 99.65, "CLL": 99.73, "CML": 99.73}
    ),
    "densenet121": Published(
        99.91, 1, {"healthy": 100.0, "ALL": 100.0, "AML": 99.91, "CLL": 99.91, "CML": 100.0}
    ),
}


def published(architecture: str) -> Published | None:
    """The study's figures of a network, if it has any."""
    found = PUBLISHED.get(architecture)
    if found is not None and set(found.by_class) != set(LABELS):
        raise AssertionError(architecture)
    return found
