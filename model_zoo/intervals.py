"""Intervals: no figure without one."""

import math

import numpy as np
from numpy.typing import NDArray

from model_zoo.card import Estimate

Z95 = 1.959963984540054


def wilson(successes: float, n: float, *, z: float = Z95) -> tuple[float, float]:
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


def clopper_pearson_upper(successes: int, n: int, *, confidence: float = 0.95) -> float:
    """One-sided exact upper bound of a proportion (Clopper and Pearson 1934); 1 where n is 0."""
    if n == 0 or successes >= n:
        return 1.0
    logs = [math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) for k in range(successes + 1)]

    def tail(p: float) -> float:
        return sum(math.exp(log + k * math.log(p) + (n - k) * math.log1p(-p)) for k, log in enumerate(logs))

    low, high = successes / n, 1.0 - 1e-12
    low = max(low, 1e-12)
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if tail(middle) > 1 - confidence else (low, middle)
    return high


def auroc(
    inside: NDArray[np.floating],
    outside: NDArray[np.floating],
    *,
    inside_groups: NDArray[np.int64],
    outside_groups: NDArray[np.int64],
    draws: int = 1000,
    seed: int = 0,
) -> Estimate:
    """Area under the ROC curve of a score that should be larger outside; ties count half.

    The interval comes of drawing the groups of both sides again. With every pair in the right order drawing again shows no
    doubt; then the lower end is exact for the groups of the smaller side.

    Args:
        inside: (N,) scores.
        outside: (M,) scores.
        inside_groups: (N,) group numbers.
        outside_groups: (M,) group numbers.
        draws: How many.
        seed: Of the draws.
    """
    if not len(inside) or not len(outside):
        return Estimate(value=0.5, low=0.0, high=1.0, n=0, method="none: nothing to compare")
    values, outer = np.nan_to_num(inside, nan=np.inf), np.nan_to_num(outside, nan=np.inf)
    _, own = np.unique(inside_groups, return_inverse=True)
    _, other = np.unique(outside_groups, return_inverse=True)
    groups, others = int(own.max()) + 1, int(other.max()) + 1
    member = np.zeros((groups, len(inside)))
    member[own, np.arange(len(inside))] = 1
    # per inside group and outside frame: how many frames of the group score below, ties half
    wins = np.zeros((groups, others))
    for frame in range(len(outer)):
        wins[:, other[frame]] += member @ ((values < outer[frame]) + 0.5 * (values == outer[frame]))
    sizes, other_sizes = member.sum(axis=1), np.bincount(other, minlength=others).astype(np.float64)
    value = float(wins.sum() / (len(values) * len(outer)))
    rng = np.random.default_rng(seed)
    a = rng.multinomial(groups, np.full(groups, 1 / groups), size=draws).astype(np.float64)
    b = rng.multinomial(others, np.full(others, 1 / others), size=draws).astype(np.float64)
    found = ((a @ wins) * b).sum(axis=1) / ((a @ sizes) * (b @ other_sizes))
    low, high = (float(end) for end in np.percentile(found, [2.5, 97.5]))
    if high - low < 1e-9:  # noqa: PLR2004
        low, high, method = without_doubt(value, groups=min(groups, others))
        return Estimate(value=value, low=low, high=high, n=len(outer), method=method)
    return Estimate(value=value, low=low, high=high, n=len(outer), method="bootstrap 95 % over groups")


def without_doubt(value: float, *, groups: int) -> tuple[float, float, str]:
    """The interval of an area under the ROC curve that no draw of groups changes, and how it was made.

    It is exact where every pair is in the right order, or every one in the wrong; between them (ties alone, or one group)
    nothing is known.

    Args:
        value: The area.
        groups: Of the smaller side.
    """
    exact = float(0.05 ** (1 / groups))
    if value > 1 - 1e-9:
        return exact, 1.0, "exact: nothing out of order"
    if value < 1e-9:  # noqa: PLR2004
        return 0.0, 1 - exact, "exact: nothing in order"
    return 0.0, 1.0, "none: drawing groups again changes nothing"


def grouped_share(
    hits: NDArray[np.bool_], groups: NDArray[np.int64], *, draws: int = 1000, seed: int = 0
) -> Estimate:
    """A share of frames with an interval by drawing groups again; Wilson's over groups where nothing varies."""
    if not len(hits):
        return Estimate(value=0.0, low=0.0, high=1.0, n=0, method="none: no frame")
    _, own = np.unique(groups, return_inverse=True)
    count = int(own.max()) + 1
    good, size = np.bincount(own, weights=hits, minlength=count), np.bincount(own, minlength=count)
    times = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=draws)
    found = (times @ good) / (times @ size)
    return bootstrapped(float(np.mean(hits)), found, patients=count).model_copy(update={"n": len(hits)})
