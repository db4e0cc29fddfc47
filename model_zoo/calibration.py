"""Calibration on patients that training has not seen: temperature, prediction sets, and calibration error."""

import numpy as np
from numpy.typing import NDArray

from model_zoo.predictor import calibrated


def fit_temperature(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """The temperature that minimises the negative log-likelihood (Guo et al. 2017), by golden-section search.

    Args:
        logits: (N, C) float32.
        labels: (N,) class numbers.

    Returns:
        A temperature in 0.05..20.
    """

    def loss(log_temperature: float) -> float:
        chosen = calibrated(logits, float(np.exp(log_temperature)))[np.arange(len(labels)), labels]
        return float(-np.log(np.maximum(chosen, 1e-12)).mean())

    low, high, ratio = np.log(0.05), np.log(20.0), (np.sqrt(5) - 1) / 2
    while high - low > 1e-4:  # noqa: PLR2004
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        low, high = (low, right) if loss(left) < loss(right) else (left, high)
    return float(np.exp((low + high) / 2))


def fit_set_threshold(
    probabilities: NDArray[np.float64], labels: NDArray[np.int64], *, alpha: float
) -> float:
    """Threshold of split-conformal sets with the least-ambiguous score (Sadinle et al. 2019), marginal over classes.

    A class is in the set where its probability reaches the threshold; a fresh frame's true class does with a
    probability of at least 1 - alpha.

    Args:
        probabilities: (N, C), calibrated.
        labels: (N,) class numbers.
        alpha: Wanted miscoverage; N must be at least 1/alpha - 1, else every class is always in.

    Returns:
        A probability; at most 0.5, so that a class with a clear majority is always in the set.
    """
    own = np.sort(probabilities[np.arange(len(labels)), labels])
    rank = int(np.floor(alpha * (len(own) + 1)))
    return float(min(own[rank - 1], 0.5)) if rank >= 1 else 0.0


def calibration_error(
    probabilities: NDArray[np.float64], labels: NDArray[np.int64], *, bins: int = 15
) -> float:
    """Expected calibration error of the top class, in bins of equal mass; 0 is perfect."""
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    order = np.argsort(confidence, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    return float(sum(len(p) * abs(confidence[p].mean() - right[p].mean()) for p in parts) / len(labels))
