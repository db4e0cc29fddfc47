"""Curves over a threshold: ROC, precision and recall, reliability, risk and coverage."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_zoo.calibration import calibration_error
from model_zoo.intervals import wilson
from model_zoo.report.resampling import Resampling, spread

BINS = 15
_POINTS = 200


class Ranking:
    """Frames ranked by a score, for one class against the rest; ties share a rank.

    Args:
        scores: (N,), higher where the class is likelier.
        positive: (N,) whether the frame is of the class.
    """

    def __init__(self, scores: NDArray[np.float64], positive: NDArray[np.bool_]) -> None:
        values, inverse = np.unique(-scores, return_inverse=True)
        self._rank, self._ranks, self._positive = inverse, len(values), positive

    def counts(self, weights: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Weight of true and of false positives when the frames up to each rank are called positive."""
        true = np.bincount(self._rank, weights=weights * self._positive, minlength=self._ranks)
        false = np.bincount(self._rank, weights=weights * ~self._positive, minlength=self._ranks)
        return np.cumsum(true), np.cumsum(false)

    def auc(self, weights: NDArray[np.float64]) -> float:
        """Area under the ROC curve by trapezoids, which counts ties half; NaN where a side has no weight."""
        true, false = (np.concatenate([[0.0], side]) for side in self.counts(weights))
        area = float(np.sum(np.diff(false) * (true[1:] + true[:-1]) / 2))
        return area / (true[-1] * false[-1]) if true[-1] and false[-1] else float("nan")

    def average_precision(self, weights: NDArray[np.float64]) -> float:
        """Mean precision over the steps of recall; NaN without a positive."""
        true, false = self.counts(weights)
        if not true[-1]:
            return float("nan")
        precision = true / np.maximum(true + false, 1e-12)
        return float(np.sum(np.diff(np.concatenate([[0.0], true])) * precision) / true[-1])


def one_against_rest(
    labels: NDArray[np.int64],
    probabilities: NDArray[np.float64],
    classes: tuple[str, ...],
    again: Resampling,
) -> list[dict[str, Any]]:
    """ROC and precision-recall of every class that occurs, with areas and their intervals over groups."""
    found = []
    ones = np.ones(len(labels))
    for number, name in enumerate(classes):
        positive = labels == number
        if not positive.any() or positive.all():
            continue
        ranking = Ranking(probabilities[:, number], positive)
        true, false = ranking.counts(ones)
        smallest = min(again.count(positive), again.count(~positive))
        auc = ranking.auc(ones)
        low, high, method = _area(again.each(ranking.auc), smallest)
        precision = ranking.average_precision(ones)
        p_low, p_high, p_method = _area(again.each(ranking.average_precision), smallest)
        found.append(
            {
                "class": name,
                "frames": int(positive.sum()),
                "groups": again.count(positive),
                "auc": round(auc, 5),
                "auc_interval": [round(low, 5), round(high, 5)],
                "auc_method": method,
                "average_precision": round(precision, 5),
                "average_precision_interval": [round(p_low, 5), round(p_high, 5)],
                "average_precision_method": p_method,
                "prevalence": round(float(positive.mean()), 5),
                "roc": _thin([(0.0, 0.0), *zip(false / false[-1], true / true[-1], strict=True)]),
                "precision_recall": _thin(list(zip(true / true[-1], true / (true + false), strict=True))),
            }
        )
    return found


def _area(draws: NDArray[np.float64], groups: int) -> tuple[float, float, str]:
    finite = draws[np.isfinite(draws)]
    low, high = np.percentile(finite, [2.5, 97.5]) if finite.size else (0.0, 1.0)
    if high - low < 1e-9:  # noqa: PLR2004 - every pair in the right order: drawing again shows no doubt
        return float(0.05 ** (1 / groups)), float(high), "exact: nothing out of order"
    return float(low), float(high), "bootstrap over groups"


def _thin(points: list[tuple[float, float]]) -> list[list[float]]:
    """A curve of no more than some hundred points, first and last kept."""
    keep = np.unique(np.linspace(0, len(points) - 1, min(len(points), _POINTS)).round().astype(int))
    return [[round(float(points[index][0]), 5), round(float(points[index][1]), 5)] for index in keep]


def reliability(
    labels: NDArray[np.int64], probabilities: NDArray[np.float64], again: Resampling, *, seed: int
) -> dict[str, Any]:
    """Reliability of the top class in bins of equal mass, and the expected calibration error.

    So few frames show an error even where the probabilities are exact; `floor` is the mean error of perfectly calibrated
    answers with these very probabilities, by simulation.
    """
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    order = np.argsort(confidence, kind="stable")
    bins = []
    for part in np.array_split(order, BINS):
        if len(part):
            hits = int(right[part].sum())
            bins.append(
                {
                    "frames": len(part),
                    "confidence": round(float(confidence[part].mean()), 5),
                    "accuracy": round(hits / len(part), 5),
                    "wilson": [round(end, 5) for end in wilson(hits, len(part))],
                }
            )
    parts = np.array_split(order, BINS)

    def error(weights: NDArray[np.float64]) -> float:
        gaps = [abs(float((weights[p] * (confidence[p] - right[p])).sum())) for p in parts]
        return sum(gaps) / float(weights.sum())

    rng = np.random.default_rng(seed)
    floors = [_gap(confidence, rng.random(len(confidence)) < confidence, parts) for _ in range(200)]
    draws = again.each(error)
    return {
        "bins": bins,
        "expected_calibration_error": round(calibration_error(probabilities, labels, bins=BINS), 5),
        "interval": [round(float(end), 5) for end in np.percentile(draws, [2.5, 97.5])],
        "method": "bootstrap over groups, bins kept; leans upward, as the error cannot be negative",
        "floor": round(float(np.mean(floors)), 5),
        "floor_high": round(float(np.percentile(floors, 95)), 5),
        "mean_confidence": round(float(confidence.mean()), 5),
        "accuracy": round(float(right.mean()), 5),
    }


def _gap(confidence: NDArray[np.float64], right: NDArray[np.bool_], parts: list[NDArray[np.int64]]) -> float:
    return sum(abs(float((confidence[p] - right[p]).sum())) for p in parts) / len(confidence)


def risk_coverage(
    labels: NDArray[np.int64],
    probabilities: NDArray[np.float64],
    reported: NDArray[np.bool_],
    again: Resampling,
) -> dict[str, Any]:
    """Error among the frames answered, as fewer and fewer are, by the top class's probability; and the package's own point.

    The package refers for being unlike the training frames too, so that its point need not lie on the curve.
    """
    confidence, wrong = probabilities.max(axis=1), probabilities.argmax(axis=1) != labels
    order = np.argsort(-confidence, kind="stable")

    def area(weights: NDArray[np.float64]) -> float:
        taken = np.cumsum(weights[order])
        risk = np.cumsum(weights[order] * wrong[order]) / np.maximum(taken, 1e-12)
        return float((risk * weights[order]).sum() / weights.sum())

    share = np.arange(1, len(order) + 1) / len(order)
    risk = np.cumsum(wrong[order]) / np.arange(1, len(order) + 1)
    low, high, method = spread(
        again.each(area), area(np.ones(len(order))), groups=again.count(np.ones(len(order), np.bool_))
    )
    return {
        "curve": _thin(list(zip(share, risk, strict=True))),
        "area": round(area(np.ones(len(order))), 5),
        "area_interval": [round(low, 5), round(high, 5)],
        "area_method": method,
        "operating_point": {
            "coverage": round(float(reported.mean()), 5),
            "risk": round(float(wrong[reported].mean()), 5) if reported.any() else None,
        },
    }
