"""The baseline in every table: colour and texture features with a random forest.

If it comes close to the networks, the data give the class away by colour or texture, and the figures mean little.
"""

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from model_zoo.card import Estimate
from model_zoo.datasets.split import Split
from model_zoo.evaluation import macro_accuracy
from model_zoo.intervals import patient_confusions
from model_zoo.labels import LABELS
from model_zoo.store import FrameStore

_LEVELS = 16
_OFFSETS = ((0, 1), (1, 0), (0, 3), (3, 0))


def image_features(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Colour histograms and moments (Lab, HSV), uniform local binary patterns, grey-level co-occurrence.

    Args:
        image: (H, W, 3) uint8 BGR.

    Returns:
        (D,) float32.
    """
    lab = cv2.cvtColor(image, cv2.COLOR_BGR2LAB)
    hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    parts = [
        *(
            np.histogram(space[:, :, axis], bins=16, range=(0, 256), density=True)[0] * 16
            for space in (lab, hsv)
            for axis in range(3)
        ),
        *(
            np.array([space[:, :, axis].mean(), space[:, :, axis].std()])
            for space in (lab, hsv)
            for axis in range(3)
        ),
        *(binary_patterns(grey, radius) for radius in (1, 2)),
        cooccurrence(grey),
    ]
    return np.concatenate(parts).astype(np.float32)


def binary_patterns(grey: NDArray[np.uint8], radius: int) -> NDArray[np.float64]:
    """Histogram of rotation-invariant uniform local binary patterns (Ojala et al. 2002), 8 neighbours: (10,)."""
    steps = [(-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1)]
    r = radius
    centre = grey[r:-r, r:-r]
    height, width = grey.shape
    bits = np.stack(
        [grey[r + r * y : height - r + r * y, r + r * x : width - r + r * x] >= centre for y, x in steps]
    ).astype(np.uint8)
    changes = np.abs(np.diff(np.concatenate([bits, bits[:1]]).astype(np.int8), axis=0)).sum(axis=0)
    code = np.where(changes <= 2, bits.sum(axis=0), 9)  # noqa: PLR2004
    return np.bincount(code.ravel(), minlength=10) / code.size


def cooccurrence(grey: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Contrast, homogeneity, energy, correlation and entropy (Haralick 1973) at four offsets: (20,)."""
    levels = (grey // (256 // _LEVELS)).astype(np.int64)
    i, j = np.indices((_LEVELS, _LEVELS))
    found: list[float] = []
    for dy, dx in _OFFSETS:
        first = levels[: levels.shape[0] - dy, : levels.shape[1] - dx]
        second = levels[dy:, dx:]
        p = (
            np.bincount((first * _LEVELS + second).ravel(), minlength=_LEVELS**2)
            .reshape(_LEVELS, _LEVELS)
            .astype(float)
        )
        p /= p.sum()
        mean_i, mean_j = (p * i).sum(), (p * j).sum()
        spread = np.sqrt((p * (i - mean_i) ** 2).sum() * (p * (j - mean_j) ** 2).sum())
        found += [
            float((p * (i - j) ** 2).sum()),
            float((p / (1 + np.abs(i - j))).sum()),
            float((p**2).sum()),
            float((p * (i - mean_i) * (j - mean_j)).sum() / max(spread, 1e-9)),
            float(-(p * np.log(p + 1e-12)).sum()),
        ]
    return np.asarray(found)


def baseline_accuracy(
    store: FrameStore,
    split: Split,
    *,
    seed: int = 0,
    trees: int = 400,
    progress: Callable[[int], None] | None = None,
) -> tuple[Estimate, NDArray[np.int64]]:
    """Train the forest on the training part and test it on the test part.

    Returns:
        Macro accuracy with its bootstrap interval over patients, and the confusion matrix (5, 5).
    """
    from sklearn.ensemble import RandomForestClassifier  # noqa: PLC0415 - the worker has no scikit-learn

    def table(indices: NDArray[np.int64]) -> NDArray[np.float32]:
        rows = []
        for index in indices.tolist():
            rows.append(image_features(np.asarray(store.pixels[index])))
            if progress is not None:
                progress(1)
        return np.stack(rows)

    forest = RandomForestClassifier(
        trees, random_state=seed, n_jobs=-1, class_weight="balanced", max_features="sqrt"
    )
    forest.fit(table(split.train), store.labels[split.train])
    predicted = np.asarray(forest.predict(table(split.test)), np.int64)
    confusions = patient_confusions(
        store.labels[split.test], predicted, store.groups[split.test], classes=len(LABELS)
    )
    return macro_accuracy(confusions), confusions.sum(axis=0).astype(np.int64)
