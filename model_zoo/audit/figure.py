"""Figures with their intervals, by bootstrap over whole groups."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_zoo.card import Estimate
from model_zoo.intervals import bootstrap, bootstrapped, patient_confusions, recalls, without_doubt

DRAWS = 1000


def accuracy(
    truth: NDArray[np.int64], predicted: NDArray[np.int64], groups: NDArray[np.int64], *, classes: int
) -> Estimate:
    """Share of right answers."""
    confusions = patient_confusions(truth, predicted, groups, classes=classes)
    draws = bootstrap(confusions, draws=DRAWS)
    total = confusions.sum(axis=0)
    share = np.trace(draws, axis1=1, axis2=2) / np.maximum(draws.sum(axis=(1, 2)), 1)
    return bootstrapped(float(np.trace(total) / total.sum()), share, patients=len(confusions))


def macro_recall(
    truth: NDArray[np.int64], predicted: NDArray[np.int64], groups: NDArray[np.int64], *, classes: int
) -> Estimate:
    """Mean of the recalls of the classes that are there."""
    confusions = patient_confusions(truth, predicted, groups, classes=classes)
    present = confusions.sum(axis=(0, 2)) > 0
    value = float(recalls(confusions.sum(axis=0))[present].mean())
    with np.errstate(invalid="ignore"):
        draws = recalls(bootstrap(confusions, draws=DRAWS))[:, present].mean(axis=1)
    return bootstrapped(value, draws, patients=len(confusions))


def weighted_auc(
    above: NDArray[np.float64],
    below: NDArray[np.float64],
    weights_above: NDArray[np.float64],
    weights_below: NDArray[np.float64],
) -> NDArray[np.float64]:
    """AUC as the share of pairs in the right order, ties counting half (Mann and Whitney 1947), for many weightings.

    Args:
        above: (n,) scores that should be the higher ones.
        below: (m,) scores that should be the lower ones.
        weights_above: (draws, n) how often each counts.
        weights_below: (draws, m) likewise.

    Returns:
        (draws,); NaN where a side has no weight.
    """
    order = (above[:, None] > below[None, :]) + 0.5 * (above[:, None] == below[None, :])
    pairs = weights_above.sum(axis=1) * weights_below.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(((weights_above @ order) * weights_below).sum(axis=1) / pairs)


def mean_auc(
    truth: NDArray[np.int64],
    rounds: Sequence[tuple[NDArray[np.float64], NDArray[np.int64]]],
    groups: NDArray[np.int64],
    *,
    draws: int = 200,
    seed: int = 0,
) -> Estimate:
    """Mean AUC over all pairs of classes (Hand and Till 2001), taken fold by fold, over rounds of cross-validation.

    Scores of different folds come from different models; ranking them together would pull a chance result below one
    half. Whole groups are drawn again for the interval.

    Args:
        truth: (N,) class numbers, 0 to C - 1.
        rounds: Scores (N, C), each from the model that had not seen the image's group, and the fold (N,) in which each
            image was held out; one such pair for every round.
        groups: (N,) group numbers.
        draws: Of the bootstrap; 0 for the value alone.
        seed: Of the bootstrap.
    """
    _, own = np.unique(groups, return_inverse=True)
    count = int(own.max()) + 1
    rng = np.random.default_rng(seed)
    times = np.concatenate(
        [np.ones((1, count)), rng.multinomial(count, np.full(count, 1 / count), size=draws)]
    ).astype(np.float64)
    found = _over_rounds(truth, rounds, times[:, own])
    value, drawn = float(found[0]), found[1:]
    finite = drawn[np.isfinite(drawn)]
    low, high = np.percentile(finite, [2.5, 97.5]) if finite.size else (0.0, 1.0)
    method = "bootstrap 95 % over groups"
    if high - low < 1e-9:  # noqa: PLR2004 - the bootstrap knows no doubt
        smallest = min(len(np.unique(groups[truth == own])) for own in np.unique(truth).tolist())
        low, high, method = without_doubt(value, groups=smallest)
    return Estimate(value=value, low=float(low), high=float(high), n=count, method=method)


def _over_rounds(
    truth: NDArray[np.int64],
    rounds: Sequence[tuple[NDArray[np.float64], NDArray[np.int64]]],
    weights: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Mean over rounds, folds and pairs of classes, for each row of weights (draws, N): (draws,)."""
    found = []
    for scores, folds in rounds:
        for fold in np.unique(folds).tolist():
            inside = np.flatnonzero(folds == fold)
            present = np.unique(truth[inside]).tolist()
            for position, first in enumerate(present):
                for second in present[position + 1 :]:
                    one = inside[truth[inside] == first]
                    other = inside[truth[inside] == second]
                    margin = scores[:, first] - scores[:, second]
                    found.append(weighted_auc(margin[one], margin[other], weights[:, one], weights[:, other]))
    if not found:
        return np.full(len(weights), np.nan)
    table = np.stack(found)
    there = np.isfinite(table)
    return np.asarray(np.where(there, table, 0).sum(axis=0) / np.maximum(there.sum(axis=0), 1))


def as_dict(method: str, estimate: Estimate, **more: Any) -> dict[str, Any]:
    """A figure as it stands in the report: method, figure, interval, how the interval was made, and the groups."""
    return {
        "method": method,
        "figure": round(estimate.value, 4),
        "interval": [round(estimate.low, 4), round(estimate.high, 4)],
        "interval_method": estimate.method,
        "groups": estimate.n,
        **more,
    }
