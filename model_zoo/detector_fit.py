"""Fitting the detector: clusters of training frames, and limits on groups that training has not seen."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model_zoo.calibration import group_quantile
from model_zoo.card import FeatureBlock
from model_zoo.detector import BlockDistance, Detector

DIMENSIONS: Final = 48
SMALLEST_CLUSTER: Final = 20
"""Frames; smaller clusters join their source's, and those that are still too small all others."""

LAST: Final = "last"
LAST_SHARE: Final = 0.2
"""Share of all refusals that the last layer may make: it tells classes apart, not laboratories."""


@dataclass(frozen=True)
class Population:
    """Features (N, D) of N frames, with class number, group number and source of each."""

    features: NDArray[np.float32]
    labels: NDArray[np.int64]
    groups: NDArray[np.int64]
    sources: Sequence[str]


@dataclass(frozen=True)
class FittedDetector:
    """A detector whose limit is 1, and what it rests on.

    Attributes:
        detector: To score with.
        clusters: Names of the clusters: source/class, source, or all.
        groups: Held-out groups that the limit rests on.
        shown: Whether there were groups enough to promise the wanted acceptance.
    """

    detector: Detector
    clusters: tuple[str, ...]
    groups: int
    shown: bool


def fit_detector(
    reference: Population,
    held_out: Population,
    *,
    bounds: dict[str, tuple[int, int]],
    classes: Sequence[str],
    acceptance: float = 0.95,
    dimensions: int = DIMENSIONS,
) -> FittedDetector:
    """Fit every block, and set limits so that further groups are accepted at the wanted rate.

    Every held-out group weighs alike, however many frames it has; a frame of a further group of the same sources scores at
    most 1 with a probability of at least `acceptance` (split-conformal over groups).

    Args:
        reference: Training frames.
        held_out: Frames of groups that training has not seen.
        bounds: First feature and first after the last, by the block's name.
        classes: Names of the classes.
        acceptance: Wanted share of further frames at or below 1.
        dimensions: Principal directions of a block, at most.
    """
    names = cluster_names(reference.labels, reference.sources, classes)
    refusals = 1 - acceptance
    shares = {name: 1 / len(bounds) for name in bounds}
    if LAST in bounds and len(bounds) > 1:
        shares = {name: (1 - LAST_SHARE) / (len(bounds) - 1) for name in bounds} | {LAST: LAST_SHARE}
    blocks, models = [], []
    for name, (start, stop) in bounds.items():
        model = _fit_block(reference.features[:, start:stop], names, dimensions=dimensions)
        limit, _ = group_quantile(
            model.score(held_out.features[:, start:stop]), held_out.groups, 1 - refusals * shares[name]
        )
        blocks.append(FeatureBlock(name=name, start=start, stop=stop, limit=limit))
        models.append(model)
    detector = Detector(tuple(blocks), tuple(models))
    edge, shown = group_quantile(detector.score(held_out.features), held_out.groups, acceptance)
    edge *= 1 + 1e-6  # the frame at the edge is inside, also after rounding
    scaled = tuple(replace_limit(block, block.limit * edge) for block in detector.blocks)
    return FittedDetector(
        replace(detector, blocks=scaled),
        tuple(sorted(set(names.tolist()))),
        len(np.unique(held_out.groups)),
        shown,
    )


def replace_limit(block: FeatureBlock, limit: float) -> FeatureBlock:
    """The same block with another limit."""
    return block.model_copy(update={"limit": limit})


def cluster_names(
    labels: NDArray[np.int64], sources: Sequence[str], classes: Sequence[str]
) -> NDArray[np.str_]:
    """(N,) cluster of each frame: source/class; only the source, or `all`, where frames are few."""
    fine = [f"{source}/{classes[label]}" for source, label in zip(sources, labels.tolist(), strict=True)]
    counts = Counter(fine)
    coarse = [
        name if counts[name] >= SMALLEST_CLUSTER else source
        for name, source in zip(fine, sources, strict=True)
    ]
    counts = Counter(coarse)
    return np.asarray([name if counts[name] >= SMALLEST_CLUSTER else "all" for name in coarse])


def _fit_block(
    features: NDArray[np.float32], clusters: NDArray[np.str_], *, dimensions: int
) -> BlockDistance:
    deviation = features.std(axis=0)
    scale = deviation + 1e-2 * float(np.median(deviation)) + 1e-6
    mean = features.mean(axis=0)
    standard = np.clip((features - mean) / scale, -20, 20).astype(np.float64)
    values, vectors = np.linalg.eigh(standard.T @ standard / len(standard))
    keep = np.argsort(values)[::-1][: min(dimensions, len(values), max(1, len(features) // 4))]
    inside = standard @ vectors[:, keep]
    centres, whitening = [], []
    for name in sorted(set(clusters.tolist())):
        # a cluster of all frames that have no better one is fitted to all of them
        own = inside if name == "all" else inside[clusters == name]
        centres.append(own.mean(axis=0))
        whitening.append(_whitening(own - own.mean(axis=0)))
    return BlockDistance(
        mean.astype(np.float32),
        scale.astype(np.float32),
        vectors[:, keep].astype(np.float32),
        np.stack(centres).astype(np.float32),
        np.stack(whitening).astype(np.float32),
    )


def _whitening(deviations: NDArray[np.float64]) -> NDArray[np.float64]:
    """Inverse root of the covariance, shrunk towards a multiple of the identity (Ledoit and Wolf 2004)."""
    count, size = deviations.shape
    covariance = deviations.T @ deviations / count
    level = np.trace(covariance) / size
    spread = float(((covariance - level * np.eye(size)) ** 2).sum())
    noise = float((((deviations**2).sum(axis=1) ** 2).sum() / count - (covariance**2).sum()) / count)
    share = min(1.0, max(0.0, noise / spread)) if spread > 0 else 1.0
    values, vectors = np.linalg.eigh((1 - share) * covariance + share * level * np.eye(size))
    return np.asarray(vectors / np.sqrt(np.maximum(values, 1e-9)), np.float64)
