"""Intervals: no figure without one."""

import math

import numpy as np
from numpy.typing import NDArray

from model_zoo.card import Estimate

Z95 = 1.959963984540054


def wilson(successes: int, n: int, *, z: float = Z95) -> tuple[float, float]:
    """Wilson's score interval of a proportion (Wilson 1927); (0, 1) where n is 0."""
    if n == 0:
        return 0.0, 1.0
    p = successes / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return max(0.0, centre - half), min(1.0, centre + half)


def proportion(successes: int, n: int) -> Estimate:
    """A proportion with its 95 % Wilson interval; 0 of 0 counts as 0 with the interval (0, 1)."""
    low, high = wilson(successes, n)
    return Estimate(value=successes / n if n else 0.0, low=low, high=high, n=n)


def patient_confusions(
    truth: NDArray[np.int64], predicted: NDArray[np.int64], groups: NDArray[np.int64], *, classes: int
) -> NDArray[np.float64]:
    """One confusion matrix a patient group: (G, classes, classes), rows truth, columns prediction."""
    _, index = np.unique(groups, return_inverse=True)
    counts = np.zeros((int(index.max()) + 1, classes, classes))
    np.add.at(counts, (index, truth, predicted), 1)
    return counts


def bootstrap(confusions: NDArray[np.float64], *, draws: int = 2000, seed: int = 0) -> NDArray[np.float64]:
    """Resample whole patients, with replacement: (draws, classes, classes) confusion matrices."""
    rng = np.random.default_rng(seed)
    patients = len(confusions)
    weights = rng.multinomial(patients, np.full(patients, 1 / patients), size=draws).astype(np.float64)
    return np.asarray((weights @ confusions.reshape(patients, -1)).reshape(draws, *confusions.shape[1:]))


def recalls(confusion: NDArray[np.float64]) -> NDArray[np.float64]:
    """Recall by class of one or many confusion matrices (..., C, C); NaN for a class that is absent."""
    diagonal = np.diagonal(confusion, axis1=-2, axis2=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(diagonal / confusion.sum(axis=-1))


def f1_scores(confusion: NDArray[np.float64]) -> NDArray[np.float64]:
    """F1 by class of one or many confusion matrices (..., C, C); NaN where the class never occurs."""
    diagonal = np.diagonal(confusion, axis1=-2, axis2=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(2 * diagonal / (confusion.sum(axis=-1) + confusion.sum(axis=-2)))


def bootstrapped(value: float, draws: NDArray[np.float64], *, patients: int) -> Estimate:
    """A figure with the 2.5 and 97.5 percentiles of its bootstrap draws.

    Where every draw is the same (no error at all), the bootstrap knows no uncertainty; then Wilson's interval over the
    patients takes its place, and the method says so.
    """
    finite = draws[np.isfinite(draws)]
    if finite.size == 0:
        return Estimate(value=0.0, low=0.0, high=1.0, n=patients, method="none: the class is absent")
    low, high = (float(q) for q in np.percentile(finite, [2.5, 97.5]))
    if high - low < 1e-9:  # noqa: PLR2004
        low, high = wilson(round(value * patients), patients)
        return Estimate(
            value=value, low=low, high=high, n=patients, method="wilson 95 % over patients (no variation)"
        )
    return Estimate(value=value, low=low, high=high, n=patients, method="bootstrap 95 % over patients")
