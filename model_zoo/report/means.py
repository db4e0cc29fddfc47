"""A mean with its interval over frames."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Say = Callable[[str, int, int], None]
"""Told what is going on, how much of it is done, and how much there is."""
DRAWS = 2000


def mean_with_interval(values: NDArray[np.float64], rng: np.random.Generator) -> tuple[float, float, float]:
    """Mean of values (N,), and its 95 % bootstrap interval over frames."""
    draws = values[rng.integers(0, len(values), (DRAWS, len(values)))].mean(axis=1)
    low, high = np.percentile(draws, [2.5, 97.5])
    return round(float(values.mean()), 4), round(float(low), 4), round(float(high), 4)
