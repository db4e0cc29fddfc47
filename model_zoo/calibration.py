"""Calibration on groups that training has not seen: temperature, prediction sets, and calibration error.

Frames of one group (a patient, mostly) are alike, groups are exchangeable. So every group weighs alike, and what is promised
holds for a frame of a further group, drawn as these were (hierarchical conformal prediction: Lee, Barber and Willett 2023).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model_zoo.predictor import calibrated


@dataclass(frozen=True)
class SetThresholds:
    """Thresholds of the prediction sets.

    Attributes:
        common: For classes without one of their own.
        by_class: One a class, or None.
        alpha: Miscoverage that the groups allow; the wanted one, or the smallest that can be promised.
        method: As the card names it.
        statement: What is promised, in words.
    """

    common: float
    by_class: tuple[float | None, ...]
    alpha: float
    method: str
    statement: str


def fit_temperature(
    logits: NDArray[np.float32],
    labels: NDArray[np.int64],
    *,
    groups: NDArray[np.int64] | None = None,
    trained: Sequence[bool] | None = None,
) -> float:
    """The temperature that minimises the negative log-likelihood (Guo et al. 2017), by golden-section search.

    With groups, the targets are smoothed as in Platt (1999): n groups without an error do not show that there is none, and
    without smoothing the temperature would fall to its floor.

    Args:
        logits: (N, C) float32.
        labels: (N,) class numbers.
        groups: (N,) group numbers.
        trained: By class, whether it may have a probability; all otherwise.

    Returns:
        A temperature in 0.05..20.
    """
    known = np.ones(logits.shape[1], np.bool_) if trained is None else np.asarray(trained, np.bool_)
    others = max(1, int(known.sum()) - 1)
    slack = 0.0 if groups is None else 1 / (len(np.unique(groups)) + 2)
    rows = np.arange(len(labels))

    def loss(log_temperature: float) -> float:
        found = calibrated(logits, float(np.exp(log_temperature)), trained=trained)
        surprise = -np.log(np.maximum(found, 1e-12))
        own = surprise[rows, labels]
        rest = (surprise * known).sum(axis=1) - own
        return float(((1 - slack) * own + slack * rest / others).mean())

    low, high, ratio = np.log(0.05), np.log(20.0), (np.sqrt(5) - 1) / 2
    while high - low > 1e-4:  # noqa: PLR2004
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        low, high = (low, right) if loss(left) < loss(right) else (left, high)
    return float(np.exp((low + high) / 2))


def group_quantile(
    scores: NDArray[np.floating], groups: NDArray[np.int64], share: float
) -> tuple[float, bool]:
    """The smallest limit that a frame of a further group stays at or below with a probability of at least `share`.

    Every group weighs 1/(G + 1), spread over its frames; the rest is the further group's own.

    Args:
        scores: (N,), larger is worse.
        groups: (N,) group numbers.
        share: In 0..1.

    Returns:
        The limit, and whether the groups suffice to promise it; where they do not, the limit is the largest score.
    """
    _, index, counts = np.unique(groups, return_inverse=True, return_counts=True)
    weights = 1 / counts[index] / (len(counts) + 1)
    order = np.argsort(scores, kind="stable")
    reached = np.cumsum(weights[order])
    place = int(np.searchsorted(reached, share - 1e-9))
    if place >= len(order):
        return float(scores.max()), False
    return float(scores[order[place]]), True


def fit_set_thresholds(
    probabilities: NDArray[np.float64],
    labels: NDArray[np.int64],
    groups: NDArray[np.int64],
    *,
    alpha: float,
    classes: Sequence[str],
) -> SetThresholds:
    """Thresholds of split-conformal sets with the least-ambiguous score (Sadinle et al. 2019).

    A class is in the set where its probability reaches its threshold. A class with at least 1/alpha - 1 groups has a
    threshold of its own, so that the promise holds for it; the others share one that holds over all classes together. No
    threshold is above 0.5, so that a class with a clear majority is always in the set.

    Args:
        probabilities: (N, C), calibrated.
        labels: (N,) class numbers.
        groups: (N,) group numbers.
        alpha: Wanted miscoverage; raised to 1/(G + 1) where there are fewer than 1/alpha - 1 groups in all.
        classes: Names of the classes, for the statement.
    """
    total = len(np.unique(groups))
    wanted, alpha = alpha, max(alpha, 1 / (total + 1))
    scores = -probabilities[np.arange(len(labels)), labels]
    common, _ = group_quantile(scores, groups, 1 - alpha)
    own: list[float | None] = []
    for number in range(len(classes)):
        chosen = labels == number
        limit, shown = (
            group_quantile(scores[chosen], groups[chosen], 1 - alpha) if chosen.any() else (0.0, False)
        )
        own.append(min(-limit, 0.5) if shown else None)
    with_own = [name for name, value in zip(classes, own, strict=True) if value is not None]
    without = [
        name
        for number, (name, value) in enumerate(zip(classes, own, strict=True))
        if value is None and (labels == number).any()
    ]
    said = ""
    if alpha > wanted:
        said = f"Asked for {1 - wanted:.1%}; {total} calibration groups allow {1 - alpha:.1%}. "
    if not without:
        method = "split-conformal over groups, by class"
        said += f"The set holds the truth in {1 - alpha:.1%} of frames of further groups, for each class by itself."
    elif with_own:
        method = "split-conformal over groups, by class where there are groups enough"
        said += (
            f"By itself for {', '.join(with_own)}; {', '.join(without)} have fewer than the {1 / alpha - 1:.0f} groups that it takes, "
            "and share a threshold that holds over all classes together."
        )
    else:
        method = "split-conformal over groups, marginal"
        said += (
            f"The set holds the truth in {1 - alpha:.1%} of frames of further groups, over all classes together: no class has the "
            f"{1 / alpha - 1:.0f} groups that a promise for it alone takes, and a rare class may be covered less."
        )
    return SetThresholds(float(min(-common, 0.5)), tuple(own), alpha, method, said)


def calibration_error(
    probabilities: NDArray[np.float64], labels: NDArray[np.int64], *, bins: int = 15
) -> float:
    """Expected calibration error of the top class, in bins of equal mass; 0 is perfect."""
    return float(weighted_calibration_error(probabilities, labels, bins=bins)(np.ones(len(labels))))


def weighted_calibration_error(
    probabilities: NDArray[np.float64], labels: NDArray[np.int64], *, bins: int = 15
) -> "CalibrationError":
    """The same as a function of the frames' weights, with the bins kept, for drawing groups again."""
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    order = np.argsort(confidence, kind="stable")
    parts = tuple(part for part in np.array_split(order, bins) if len(part))
    return CalibrationError(confidence - right, parts)


@dataclass(frozen=True)
class CalibrationError:
    """Confidence minus correctness of every frame, in bins."""

    gaps: NDArray[np.float64]
    parts: tuple[NDArray[np.int64], ...]

    def __call__(self, weights: NDArray[np.float64]) -> float:
        """The error with these weights, one a frame."""
        return sum(abs(float(weights[p] @ self.gaps[p])) for p in self.parts) / float(weights.sum())
