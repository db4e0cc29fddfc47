"""Fitting the detector: clusters of training frames, and limits on groups that the fit has not seen.

Limits from a few dozen groups are at the mercy of the oddest: on real smears, one group of one laboratory moved the limit so
far that three quarters of another laboratory's frames were let in. Two things mend it. Every cluster's distance is divided
by a high quantile of its own, so that a laboratory whose frames vary does not widen the bounds of one whose frames do not.
And below the last layer, which alone has learnt its training frames by heart, distances of training groups count too: each
group is held out of a fit in its turn.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model_zoo import optics
from model_zoo.calibration import group_quantile
from model_zoo.card import FeatureBlock
from model_zoo.detector import BlockDistance, Detector

DIMENSIONS: Final = 48
SMALLEST_CLUSTER: Final = 20
"""Frames; smaller clusters join their source's, and those that are still too small all others."""

FOLDS: Final = 5
OWN_SHARE: Final = 0.9
"""Of a cluster's held-out frames, every group alike: the distance that as many stay below is the cluster's unit."""

ALL: Final = "all"
LAST: Final = "last"
ACCEPTANCE: Final = 0.94
"""Wanted share of further frames that count as inside."""
SMALL_SHARES: Final = {LAST: 1 / 6, optics.NAME: 1 / 6}
"""Of all refusals, what these blocks may make, each at most; the early levels of the network, which tell laboratories apart, share
the rest. A frame taken with the wrong focus or objective is far out, and is found with few refusals; a laboratory is near."""


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
        needed: Held-out groups that promising the wanted acceptance takes: each block may make a share of the refusals only.
        shown: Whether there were groups enough to promise the wanted acceptance.
    """

    detector: Detector
    clusters: tuple[str, ...]
    groups: int
    needed: int
    shown: bool


def fit_detector(
    reference: Population,
    held_out: Population,
    *,
    bounds: dict[str, tuple[int, int]],
    classes: Sequence[str],
    acceptance: float = ACCEPTANCE,
    dimensions: int = DIMENSIONS,
) -> FittedDetector:
    """Fit every block, and set limits so that further groups are accepted at the wanted rate.

    Every group weighs alike, however many frames it has. A frame of a further group of the same sources scores at most 1 with
    a probability of about `acceptance` or more: the blocks share the refusals; below the last layer the limit is cross-conformal over
    all groups (Vovk 2015), at the last split-conformal over the held-out ones.

    Args:
        reference: Training frames.
        held_out: Frames of groups that training has not seen.
        bounds: First feature and first after the last, by the block's name.
        classes: Names of the classes.
        acceptance: Wanted share of further frames at or below 1.
        dimensions: Principal directions of a block, at most.
    """
    refusals = 1 - acceptance
    shares = _shares(bounds)
    everything = _joined(reference, held_out)
    names = cluster_names(everything.labels, everything.sources, classes)
    fresh = np.arange(len(names)) >= len(reference.labels)
    clusters = sorted(set(names[~fresh].tolist()))
    folds = _folds(everything.groups, names)
    blocks, models, promised, needed = [], [], True, 0
    for name, (start, stop) in bounds.items():
        part = everything.features[:, start:stop]
        if name == LAST:
            judged = fresh
            model = _fit_block(part[~fresh], names[~fresh], clusters, dimensions=dimensions)
            distances = model.distances(part[fresh])
        else:
            judged = np.ones(len(names), np.bool_)
            model = _fit_block(part, names, clusters, dimensions=dimensions)
            distances = _out_of_fold(part, names, clusters, folds, dimensions=dimensions)
        units = _units(distances, names[judged], everything.groups[judged], clusters)
        limit, enough = group_quantile(
            (distances / units).min(axis=1), everything.groups[judged], 1 - refusals * shares[name]
        )
        # the frame at the edge is inside, also after rounding
        blocks.append(FeatureBlock(name=name, start=start, stop=stop, limit=limit * (1 + 1e-6)))
        models.append(replace(model, whitening=(model.whitening / units[:, None, None]).astype(np.float32)))
        promised = promised and enough
        if name == LAST:
            needed = _groups_for(refusals * shares[name])
        elif not enough:
            # its limit rests on training groups too, of which there are as many as there are
            training = len(np.unique(everything.groups)) - len(np.unique(held_out.groups))
            needed = max(needed, _groups_for(refusals * shares[name]) - training)
    return FittedDetector(
        Detector(tuple(blocks), tuple(models)),
        tuple(clusters),
        len(np.unique(held_out.groups)),
        needed,
        promised,
    )


def _groups_for(refused: float) -> int:
    """Groups from which `group_quantile` can promise that at most this share is refused: 1 / share - 1, rounded up."""
    return int(np.ceil(1 / refused - 1 - 1e-6))


def _shares(blocks: Iterable[str]) -> dict[str, float]:
    """What share of the refusals each block may make; they sum to 1."""
    early = [name for name in blocks if name not in SMALL_SHARES]
    small = {name: SMALL_SHARES[name] for name in blocks if name in SMALL_SHARES}
    if not early:
        return dict.fromkeys(small, 1 / len(small))
    return small | dict.fromkeys(early, (1 - sum(small.values())) / len(early))


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
    return np.asarray([name if counts[name] >= SMALLEST_CLUSTER else ALL for name in coarse])


def _joined(reference: Population, held_out: Population) -> Population:
    """Both, the held-out frames last; their groups are held to be different ones, whatever their numbers."""
    own, further = (np.unique(part.groups, return_inverse=True)[1] for part in (reference, held_out))
    return Population(
        np.concatenate([reference.features, held_out.features]),
        np.concatenate([reference.labels, held_out.labels]),
        np.concatenate([own, further + own.max() + 1]).astype(np.int64),
        (*reference.sources, *held_out.sources),
    )


def _folds(groups: NDArray[np.int64], names: NDArray[np.str_]) -> NDArray[np.int64]:
    """(N,) fold of each frame: whole groups, those of a cluster dealt in turn; two folds at least where there are two groups."""
    fold_of: dict[int, int] = {}
    dealt: Counter[str] = Counter()
    for group, name in zip(groups.tolist(), names.tolist(), strict=True):
        if group not in fold_of:
            fold_of[group] = dealt[name] % FOLDS
            dealt[name] += 1
    if (
        len(set(fold_of.values())) == 1
    ):  # with one group a cluster all would be held out, and none left to fit
        fold_of = {group: number % FOLDS for number, group in enumerate(fold_of)}
    return np.asarray([fold_of[group] for group in groups.tolist()], np.int64)


def _out_of_fold(
    features: NDArray[np.float32],
    names: NDArray[np.str_],
    clusters: Sequence[str],
    folds: NDArray[np.int64],
    *,
    dimensions: int,
) -> NDArray[np.float32]:
    """(N, M) distance of every frame to every cluster of a fit that has not seen its group; infinite where it has none."""
    found = np.full((len(features), len(clusters)), np.inf, np.float32)
    for fold in np.unique(folds).tolist():
        out = folds == fold
        present = [number for number, name in enumerate(clusters) if (names[~out] == name).any()]
        if not present:
            continue
        model = _fit_block(
            features[~out], names[~out], [clusters[number] for number in present], dimensions=dimensions
        )
        found[np.ix_(out, present)] = model.distances(features[out])
    return found


def _units(
    distances: NDArray[np.float32],
    names: NDArray[np.str_],
    groups: NDArray[np.int64],
    clusters: Sequence[str],
) -> NDArray[np.float64]:
    """(M,) the distance that `OWN_SHARE` of a cluster's own frames stay below; the middle one where a cluster has none."""
    units = np.full(len(clusters), np.nan)
    for number, name in enumerate(clusters):
        own = (names == name) & np.isfinite(distances[:, number])
        if own.any():
            units[number], _ = group_quantile(distances[own, number], groups[own], OWN_SHARE)
    known = units[np.isfinite(units)]
    return np.where(np.isfinite(units), np.maximum(units, 1e-6), np.median(known) if len(known) else 1.0)


def _fit_block(
    features: NDArray[np.float32], names: NDArray[np.str_], clusters: Sequence[str], *, dimensions: int
) -> BlockDistance:
    deviation = features.std(axis=0)
    scale = deviation + 1e-2 * float(np.median(deviation)) + 1e-6
    mean = features.mean(axis=0)
    standard = np.clip((features - mean) / scale, -20, 20).astype(np.float64)
    values, vectors = np.linalg.eigh(standard.T @ standard / len(standard))
    keep = np.argsort(values)[::-1][: min(dimensions, len(values), max(1, len(features) // 4))]
    inside = standard @ vectors[:, keep]
    centres, whitening = [], []
    for name in clusters:
        # a cluster of all frames that have no better one is fitted to all of them
        own = inside if name == ALL else inside[names == name]
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
