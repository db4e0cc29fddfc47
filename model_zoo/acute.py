"""The acute rule: what may well be acute leukaemia is referred, and never reported as anything else.

An acute leukaemia called healthy or chronic costs days that the patient does not have; a referral costs minutes.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model_zoo.calibration import group_quantile
from model_zoo.card import AcuteRule, Estimate
from model_zoo.intervals import clopper_pearson_upper, wilson

ACUTE: Final = ("ALL", "AML")
MISS_LIMIT: Final = 0.02
COST: Final = 0.01
"""Share of frames that are not acute which the rule may refer beyond need, to be stricter than the limit asks."""


def fit_acute_rule(
    probabilities: NDArray[np.float64],
    labels: NDArray[np.int64],
    groups: NDArray[np.int64],
    *,
    classes: Sequence[str],
    miss_limit: float = MISS_LIMIT,
    cost: float = COST,
) -> AcuteRule | None:
    """Choose the threshold on calibration groups.

    A frame is missed where its most probable class is not acute and the acute classes together do not exceed the threshold.
    The threshold is the largest that keeps the expected miss rate of further groups at or below the limit (conformal risk
    control: Angelopoulos et al. 2022, every group weighing alike), or a smaller one as long as no more than `cost` of the
    other frames are referred for it.

    Args:
        probabilities: (N, C), calibrated.
        labels: (N,) class numbers.
        groups: (N,) group numbers.
        classes: Names of the classes.
        miss_limit: Largest wanted share of acute frames reported as not acute.
        cost: See above.

    Returns:
        The rule; None where no class is acute.
    """
    names = tuple(name for name in ACUTE if name in classes)
    if not names:
        return None
    numbers = [list(classes).index(name) for name in names]
    mass = probabilities[:, numbers].sum(axis=1)
    elsewhere = ~np.isin(probabilities.argmax(axis=1), numbers)
    acute = np.isin(labels, numbers)
    count = len(np.unique(groups[acute]))
    safe, shown = (1.0, False)
    if count:
        # how little acute probability a frame shows, where it is called something else; 0 where it is called acute
        hidden = np.where(elsewhere, 1 - mass, 0.0)[acute]
        limit, shown = group_quantile(hidden, groups[acute], 1 - miss_limit)
        safe = _below(1 - limit) if limit > 0 else 1.0
    affordable = 1.0
    if (~acute).any():
        others = np.where(elsewhere, mass, 0.0)[~acute]
        affordable = float(np.quantile(others, 1 - cost, method="higher"))
    threshold = float(np.clip(min(safe, affordable), 0.0, 1.0))
    missed = acute & elsewhere & (mass <= threshold)
    referred = ~acute & elsewhere & (mass > threshold)
    groups_missed = len(np.unique(groups[missed]))
    bound = clopper_pearson_upper(groups_missed, count)
    rate = _per_group(missed[acute], groups[acute])
    said = (
        f"A frame whose probability of {' and '.join(names)} together exceeds {threshold:.4f} is never reported as another class. On "
        f"{count} acute calibration groups the rule alone let {rate:.2%} of the frames through ({groups_missed} groups with any); "
        f"with 95 % confidence at most {bound:.1%} of further groups have any."
    )
    if not shown:
        said += f" A promise of {miss_limit:.0%} takes {round(1 / miss_limit) - 1} groups: here it is an aim, and not shown."
    return AcuteRule(
        labels=names,
        threshold=threshold,
        miss_limit=miss_limit,
        missed=_share(missed[acute], rate),
        upper_bound=bound,
        cost=_share(referred[~acute], float(referred[~acute].mean()) if (~acute).any() else 0.0),
        groups=count,
        shown=shown,
        statement=said,
    )


def _below(value: float) -> float:
    """The next smaller number, so that a frame at the value itself is referred."""
    return float(np.nextafter(value, 0.0))


def _per_group(hits: NDArray[np.bool_], groups: NDArray[np.int64]) -> float:
    if not len(hits):
        return 0.0
    _, index, counts = np.unique(groups, return_inverse=True, return_counts=True)
    return float((hits / counts[index]).sum() / len(counts))


def _share(hits: NDArray[np.bool_], value: float) -> Estimate:
    low, high = wilson(int(hits.sum()), len(hits))
    return Estimate(value=value, low=min(low, value), high=max(high, value), n=len(hits))
