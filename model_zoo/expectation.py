"""What error to expect of further frames: of the same sources, and of a laboratory that training has never seen.

An interval here is for the figure of a further set, and not for the long run: it must hold both what these frames do not
tell and what a further set of as many patients adds by chance, so that whoever checks it with new frames may compare.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model_zoo.card import Estimate, Expectation, Expected, LeftOut
from model_zoo.intervals import wilson
from model_zoo.predictor import Prediction

DRAWS: Final = 2000
FURTHER_SET: Final = (
    "95 % for a further set of as many groups (wilson at half of the groups, and bootstrap over groups)"
)
LABORATORIES: Final = "mean over laboratories left out; from the lower end of the best one's interval to the upper end of the worst one's"


def further_set(hits: NDArray[np.bool_], groups: NDArray[np.int64], *, seed: int = 0) -> Estimate:
    """A proportion, with the interval in which that of a further set of as many groups should lie.

    The frames of a group count as one for the interval's width, and the sampling of the further set as much as that of
    this one, hence Wilson's interval at half of the groups; where drawing groups again gives a wider one, that.

    Args:
        hits: (N,) whether it holds of each frame.
        groups: (N,) group of each.
        seed: Of the draws.
    """
    if not len(hits):
        return Estimate(value=0.0, low=0.0, high=1.0, n=0, method="none: there is no such frame")
    _, index = np.unique(groups, return_inverse=True)
    frames = np.bincount(index).astype(np.float64)
    found = np.bincount(index, weights=hits.astype(np.float64))
    value, count = float(hits.mean()), len(frames)
    rng = np.random.default_rng(seed)
    draws = rng.multinomial(count, np.full(count, 1 / count), size=(2, DRAWS)).astype(np.float64)
    rates = (draws @ found) / np.maximum(draws @ frames, 1)
    # the difference of two draws is what lies between two sets
    low, high = (value + float(q) for q in np.percentile(rates[0] - rates[1], [2.5, 97.5]))
    bounds = wilson(value * count / 2, count / 2)
    return Estimate(
        value=value,
        low=max(0.0, min(low, bounds[0])),
        high=min(1.0, max(high, bounds[1])),
        n=count,
        method=FURTHER_SET,
    )


def expect_inside(
    predictions: Sequence[Prediction],
    truths: Sequence[str],
    groups: NDArray[np.int64],
    *,
    sources: Sequence[str],
) -> Expected:
    """What to expect of new patients of the same sources, in the same shares.

    Args:
        predictions: Of N frames of groups that neither training nor calibration has seen.
        truths: (N,) their labels.
        groups: (N,) their groups.
        sources: Names of the sources.
    """
    reported = np.asarray([found.decision == "report" for found in predictions], np.bool_)
    wrong = np.asarray(
        [found.prediction != truth for found, truth in zip(predictions, truths, strict=True)], np.bool_
    )
    both, among, referred = (
        further_set(reported & wrong, groups),
        further_set(wrong[reported], groups[reported]),
        further_set(~reported, groups),
    )
    count = len(np.unique(groups))
    return Expected(
        scope="same sources, new patients",
        statement=(
            f"Expected of new patients of {', '.join(sorted(set(sources)))}, in the same shares: of the frames reported, "
            f"{_said(among)} wrong; {_said(referred)} of all frames referred to a person. From {len(predictions)} frames of "
            f"{count} groups that training has not seen; the ranges are for a further set of as many groups."
        ),
        frames=len(predictions),
        groups=count,
        reported_wrong=both,
        error_among_reported=among,
        referred=referred,
        method=FURTHER_SET,
    )


def left_out(
    source: str, predictions: Sequence[Prediction], truths: Sequence[str], *, identifiable: bool
) -> LeftOut:
    """Count what a network did on a source that its training left out.

    Args:
        source: Its name.
        predictions: Of its frames.
        truths: Their labels; empty where unknown.
        identifiable: Whether training had the source's classes from another source. Without, no answer can be right.
    """
    counts: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    for found, truth in zip(predictions, truths, strict=True):
        if found.decision != "report":
            counts["referred"] += 1
            reasons.update({reason.split(":", 1)[0] for reason in found.reasons})
        elif not truth:
            counts["unknown"] += 1
        else:
            counts["right" if found.prediction == truth else "wrong"] += 1
    return LeftOut(
        source=source,
        frames=len(predictions),
        reported_right=counts["right"],
        reported_wrong=counts["wrong"],
        reported_unknown=counts["unknown"],
        referred=counts["referred"],
        reasons=dict(reasons.most_common()),
        identifiable=identifiable,
    )


def against(row: LeftOut) -> int:
    """Frames that count against the limit: reported and wrong, or reported where the truth is unknown."""
    return row.reported_wrong + row.reported_unknown


def expect_unseen(rows: Sequence[LeftOut]) -> Expected:
    """What to expect of a laboratory that training has never seen, from those that were left out, each weighing alike."""
    wrong = _over([(against(row), row.frames) for row in rows])
    among = _over([(against(row), row.frames - row.referred) for row in rows if row.referred < row.frames])
    referred = _over([(row.referred, row.frames) for row in rows])
    names = ", ".join(row.source for row in rows)
    return Expected(
        scope="a laboratory that it has never seen",
        statement=(
            f"Expected of a laboratory that training has never seen: {_said(wrong)} of all frames reported and wrong, "
            f"{_said(referred)} referred. From leaving {names} out, one at a time; a report on frames of unknown diagnosis "
            f"counts as wrong. {len(rows)} {'laboratory' if len(rows) == 1 else 'laboratories'}: a further one is worse than the worst of them with a chance of 1 in "
            f"{len(rows) + 1}."
        ),
        frames=sum(row.frames for row in rows),
        groups=len(rows),
        reported_wrong=wrong,
        error_among_reported=among,
        referred=referred,
        method=LABORATORIES,
    )


def expectation(inside: Expected | None, rows: Sequence[LeftOut]) -> Expectation:
    """Both together, for the card."""
    return Expectation(inside=inside, unseen=expect_unseen(rows) if rows else None, left_out=tuple(rows))


def _over(counts: Sequence[tuple[int, int]]) -> Estimate:
    counts = [(hits, n) for hits, n in counts if n]
    if not counts:
        return Estimate(value=0.0, low=0.0, high=1.0, n=0, method="none: there is no such frame")
    rates = [hits / n for hits, n in counts]
    return Estimate(
        value=float(np.mean(rates)),
        low=min(wilson(hits, n)[0] for hits, n in counts),
        high=max(wilson(hits, n)[1] for hits, n in counts),
        n=len(counts),
        method=LABORATORIES,
    )


def _said(estimate: Estimate) -> str:
    return f"{100 * estimate.value:.1f} % ({100 * estimate.low:.1f} to {100 * estimate.high:.1f})"
