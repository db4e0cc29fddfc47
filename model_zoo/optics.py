"""What a frame's own grey values tell of the optics that took it: sharpness, noise and magnification.

A network learns to look past slight blur and another magnification, so that its features hardly show them; the frame does. Its
structure function, the mean squared difference of two places by the distance between them, holds the same as its power
spectrum: short distances see sharpness and noise, those of a cell's size see the magnification. Second differences see the finest
detail by itself. It costs about 0.15 ms, and is taken from the very input that the network gets, so that it is the same in packaging
and in serving.

Source: the structure function as a measure of an image's resolution is that of turbulence optics (Tatarskii 1961; Fried 1966).
"""

from collections.abc import Sequence
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from model_zoo.engines import Outputs
from model_zoo.preprocessing import Preprocessing

NAME: Final = "optics"
"""Of the detector's block."""

LAGS: Final = (1, 2, 4, 8, 12, 16, 24, 32)
"""Distances in pixels of the network's input, which a red cell spans about 20 of."""

FINE_LAGS: Final = (1, 2)
"""Of second differences."""

FEATURES: Final = 2 * (len(LAGS) + len(FINE_LAGS))
_FLOOR: Final = 0.1
"""Added before the logarithm, in squared grey values: about what rounding to whole ones leaves (1/12)."""


def measure_optics(grey: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Measure a frame as the network sees it.

    Args:
        grey: (H, W), each side larger than the largest lag.

    Returns:
        (FEATURES,) float32: logarithms of mean squared differences in grey values, across and down, of every lag; then
        those of second differences.
    """
    fine = grey.astype(np.int16)
    found = [
        *(_mean_square(one, other) for lag in LAGS for one, other in _shifted(grey, lag)),
        *(
            _mean_square(outer, 2 * inner)
            for lag in FINE_LAGS
            for outer, inner in (
                (fine[:, 2 * lag :] + fine[:, : -2 * lag], fine[:, lag:-lag]),
                (fine[2 * lag :] + fine[: -2 * lag], fine[lag:-lag]),
            )
        ),
    ]
    return np.asarray(np.log(np.asarray(found) + _FLOOR), np.float32)


def with_optics(
    outputs: Outputs, batch: Sequence[NDArray[np.float32]] | NDArray[np.float32], preprocessing: Preprocessing
) -> Outputs:
    """A network's outputs with the optics of its inputs behind its features.

    Args:
        outputs: Of N inputs.
        batch: The inputs, each (3, H, W), as `Preprocessing.prepare` makes them.
        preprocessing: That made them.
    """
    measured = np.stack([measure_optics(preprocessing.grey(one)) for one in batch])
    return outputs._replace(features=np.concatenate([outputs.features, measured], axis=1))


def _shifted(
    grey: NDArray[np.uint8], lag: int
) -> tuple[tuple[NDArray[np.uint8], NDArray[np.uint8]], tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    return (grey[:, lag:], grey[:, :-lag]), (grey[lag:], grey[:-lag])


def _mean_square(one: NDArray[np.generic], other: NDArray[np.generic]) -> float:
    return float(cv2.norm(one, other, cv2.NORM_L2SQR)) / one.size


__all__ = ["FEATURES", "NAME", "measure_optics", "with_optics"]
