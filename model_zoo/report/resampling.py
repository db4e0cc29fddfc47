"""Whole groups drawn again, with replacement: one set of weights for every figure of a report.

The same draws serve every figure, so that differences of two figures on the same frames are paired.
"""

from collections.abc import Callable
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from model_zoo.card import Estimate
from model_zoo.intervals import proportion, wilson

DRAWS = 1000
BATCH = 50
_SAME = 1e-9


class Resampling:
    """Weights of N frames in every draw.

    Args:
        groups: (N,) group numbers.
        draws: How many.
        seed: Of the draws.
    """

    def __init__(self, groups: NDArray[np.int64], *, draws: int = DRAWS, seed: int = 0) -> None:
        _, self._own = np.unique(groups, return_inverse=True)
        self.groups = int(self._own.max()) + 1 if len(groups) else 0
        rng = np.random.default_rng(seed)
        share = np.full(max(self.groups, 1), 1 / max(self.groups, 1))
        self._times = rng.multinomial(self.groups, share, size=draws).astype(np.float64)

    @classmethod
    def of(cls, groups: NDArray[np.int64], *, seed: int) -> Self:
        """With the usual number of draws."""
        return cls(groups, seed=seed)

    def share(self, event: NDArray[np.bool_], among: NDArray[np.bool_]) -> NDArray[np.float64]:
        """In every draw, the share of `event` (N,) among the frames `among` (N,): (draws,), NaN where there is none."""
        hits = np.bincount(self._own, weights=event & among, minlength=self.groups)
        total = np.bincount(self._own, weights=among, minlength=self.groups)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray((self._times @ hits) / (self._times @ total))

    def each(
        self, figure: Callable[[NDArray[np.float64]], float], *, draws: int = 300
    ) -> NDArray[np.float64]:
        """A figure of weighted frames, in the first `draws` draws: (draws,)."""
        return np.asarray([figure(times[self._own]) for times in self._times[:draws]])

    def count(self, among: NDArray[np.bool_]) -> int:
        """How many groups have a frame among those."""
        return len(np.unique(self._own[among]))

    def estimate_share(self, event: NDArray[np.bool_], among: NDArray[np.bool_]) -> dict[str, Any]:
        """A proportion with both intervals: Wilson's over frames, and of groups drawn again."""
        hits, total = int((event & among).sum()), int(among.sum())
        plain = proportion(hits, total)
        low, high, method = spread(self.share(event, among), plain.value, groups=self.count(among))
        return {
            "value": round(plain.value, 5) if total else None,
            "hits": hits,
            "frames": total,
            "groups": self.count(among),
            "wilson": [round(plain.low, 5), round(plain.high, 5)],
            "bootstrap": [round(low, 5), round(high, 5)],
            "bootstrap_method": method,
        }


def spread(draws: NDArray[np.float64], value: float, *, groups: int) -> tuple[float, float, str]:
    """The 2.5 and 97.5 percentiles of draws of a proportion-like figure.

    Where all draws are the same, drawing again shows no doubt; then Wilson's interval over groups takes its place.
    """
    finite = draws[np.isfinite(draws)]
    if not finite.size:
        return 0.0, 1.0, "none: nothing to count"
    low, high = (float(end) for end in np.percentile(finite, [2.5, 97.5]))
    if high - low < _SAME:
        low, high = wilson(round(value * groups), groups)
        return low, high, "wilson over groups (no variation)"
    return low, high, "bootstrap over groups"


def as_row(estimate: Estimate) -> dict[str, Any]:
    """An estimate of the card, as rows of the report have it."""
    return {"value": estimate.value, "interval": [estimate.low, estimate.high], "method": estimate.method}
