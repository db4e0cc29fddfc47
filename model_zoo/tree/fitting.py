"""Makes a package's finer head from features, and measures it.

The network's body stays as training left it. The head is fitted on training frames; temperature and thresholds come from
training patients by cross-fitting (each asked of a head that has not seen the patient) and from the calibration patients, since
a subtype rarely has enough patients in the calibration part alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model_zoo.tree.answer import branch_of
from model_zoo.tree.grown import Branch, Grown, grow
from model_zoo.tree.head import (
    PENALTIES,
    Basis,
    Linear,
    balanced,
    cross_fitted,
    fit_linear,
    marginal_loss,
    softmax,
)
from model_zoo.tree.labels import LabelTree, Node, label_tree
from model_zoo.tree.statement import BIAS, WEIGHT, FinerBranch, FinerFigure, FinerLabels, FinerNode, Suspicion

ALPHA: Final = 0.1
"""Wanted share of frames whose true subtype is ruled out, and of patients whose dangerous subtype is not suspected."""


@dataclass(frozen=True)
class Labelled:
    """Frames with their features and what is known of each.

    Attributes:
        features: (N, D), the pooled last map first.
        nodes: As deep as each frame's label is known; None where the tree does not know its subtype.
        groups: (N,) patient groups.
    """

    features: NDArray[np.float32]
    nodes: Sequence[Node | None]
    groups: NDArray[np.int64]

    def of(self, disease: str) -> "Labelled":
        """The frames of one disease."""
        own = np.asarray([node is not None and node.disease == disease for node in self.nodes], bool)
        nodes = [node for node, inside in zip(self.nodes, own, strict=True) if inside]
        return Labelled(self.features[own], nodes, self.groups[own])

    def joined(self, other: "Labelled") -> "Labelled":
        """These frames and others."""
        return Labelled(
            np.concatenate([self.features, other.features]),
            [*self.nodes, *other.nodes],
            np.concatenate([self.groups, other.groups]),
        )


@dataclass(frozen=True)
class FinerModel:
    """A head and what the card says of it.

    Attributes:
        stated: For the card.
        linear: The rows of all branches, one after the other.
    """

    stated: FinerLabels
    linear: Linear

    def tensors(self) -> dict[str, NDArray[np.float32]]:
        """What a package stores, by tensor name."""
        return {
            WEIGHT: np.ascontiguousarray(self.linear.weight),
            BIAS: np.ascontiguousarray(self.linear.bias),
        }


def nodes_of(labels: Sequence[str], subtypes: Sequence[str]) -> list[Node | None]:
    """The nodes that a manifest's labels and subtypes name, as deep as the tree knows them.

    Raises:
        DatasetError: If a subtype belongs to another disease than its label.
    """
    tree = label_tree()
    return [
        tree.find(label, subtype) or tree.nodes[label] if label else None
        for label, subtype in zip(labels, subtypes, strict=True)
    ]


def grown_of(train: Labelled) -> Grown:
    """The branches that training frames have labels for."""
    return grow(label_tree(), train.nodes, train.groups.tolist())


def fit_finer(
    train: Labelled, calibration: Labelled, *, width: int, alpha: float = ALPHA, seed: int = 0
) -> FinerModel | None:
    """Fit the finer head.

    Args:
        train: Training frames.
        calibration: Frames of patients that training has not seen.
        width: How many of the features, from the first, are the pooled last map.
        alpha: Wanted share of frames whose true subtype is ruled out.
        seed: Of the folds.

    Returns:
        None where no disease has two labelled subtypes.
    """
    found = grown_of(train)
    if not found.branches:
        return None
    train = Labelled(train.features[:, :width], train.nodes, train.groups)
    calibration = Labelled(calibration.features[:, :width], calibration.nodes, calibration.groups)
    parts = [
        _fit_branch(b, train.of(b.disease), calibration.of(b.disease), alpha=alpha, seed=seed)
        for b in found.branches
    ]
    linear = Linear(
        np.concatenate([own.weight for own, _ in parts]), np.concatenate([own.bias for own, _ in parts])
    )
    stated = FinerLabels(
        tree_version=label_tree().version, branches=tuple(part for _, part in parts), notes=found.notes
    )
    return FinerModel(stated, linear)


def _fit_branch(
    branch: Branch, train: Labelled, calibration: Labelled, *, alpha: float, seed: int
) -> tuple[Linear, FinerBranch]:
    told = told_by(branch, train)
    nodes = [path_in(branch, node) for node in told.nodes]
    allowed = np.stack([branch.below(path) for path in nodes])
    weights = balanced(nodes, told.groups)
    basis = Basis.of(told.features)
    tried = {
        penalty: cross_fitted(basis.inputs, allowed, nodes, told.groups, penalty=penalty, seed=seed)
        for penalty in PENALTIES
    }
    penalty = min(tried, key=lambda p: _best_temperature(tried[p], allowed, weights)[1])
    linear = basis.back(fit_linear(basis.inputs, allowed, weights, penalty=penalty))
    later = told_by(branch, calibration)
    together = told.joined(later)
    scores = np.concatenate([tried[penalty], linear.scores(later.features)])
    paths = [path_in(branch, node) for node in together.nodes]
    open_leaves = np.stack([branch.below(path) for path in paths])
    temperature, _ = _best_temperature(scores, open_leaves, balanced(paths, together.groups))
    chances = softmax(scores, temperature)
    tree = label_tree()
    stated = FinerBranch(
        disease=branch.disease,
        system=branch.system,
        leaves=branch.leaves,
        nodes=tuple(
            FinerNode(
                path=path,
                name=tree.nodes[path].name,
                source=tree.nodes[path].source,
                frames=sum(branch.below(path)[branch.below(n)].all() for n in nodes),
                patients=len({int(g) for n, g in zip(nodes, told.groups, strict=True) if _inside(n, path)}),
                cross_fitted_auroc=auroc(branch, path, chances, paths, together.groups),
            )
            for path in branch.nodes
        ),
        temperature=temperature,
        penalty=penalty,
        threshold=_set_threshold(branch, chances, paths, together.groups, alpha=alpha),
        alpha=alpha,
        patients=len(np.unique(together.groups)),
        suspicions=tuple(
            _suspicion(branch, tree, path, chances, paths, together.groups, alpha=alpha)
            for path in branch.nodes
            if tree.nodes[path].suspicion
        ),
    )
    return linear, stated


def told_by(branch: Branch, frames: Labelled) -> Labelled:
    """The frames whose label says more than the disease."""
    own = np.asarray([path_in(branch, node) != branch.disease for node in frames.nodes], bool)
    nodes = [node for node, inside in zip(frames.nodes, own, strict=True) if inside]
    return Labelled(frames.features[own], nodes, frames.groups[own])


def path_in(branch: Branch, node: Node | None) -> str:
    """The deepest node of the branch that a frame's label lies at or below."""
    path = node.path if node is not None else branch.disease
    while path not in branch.nodes and path != branch.disease:
        path = path.rpartition("/")[0]
    return path


def _inside(path: str, above: str) -> bool:
    return path == above or path.startswith(above + "/")


def _best_temperature(
    scores: NDArray[np.float64], allowed: NDArray[np.bool_], weights: NDArray[np.float64]
) -> tuple[float, float]:
    """The temperature of least marginal loss, and that loss; in 0.1..30 by halving steps of its logarithm."""
    centre, width = 0.0, np.log(30.0)
    best = (1.0, np.inf)
    for _ in range(6):
        for step in np.linspace(-width, width, 9):
            value = float(np.clip(np.exp(centre + step), 0.1, 30.0))
            loss = marginal_loss(softmax(scores, value), allowed, weights)
            if loss < best[1]:
                best = (value, loss)
        centre, width = float(np.log(best[0])), width / 3
    return best


def _set_threshold(
    branch: Branch,
    chances: NDArray[np.float64],
    paths: Sequence[str],
    groups: NDArray[np.int64],
    *,
    alpha: float,
) -> float | None:
    """Split-conformal over patients: a leaf below it is ruled out. Each patient counts once, by a frame at its own alpha-quantile.

    Frames of one patient are not exchangeable with those of others, so that patients are counted and not frames; None where
    there are fewer than 1/alpha - 1 of them.
    """
    scores = []
    for group in np.unique(groups).tolist():
        own = [
            chances[index, branch.leaves.index(paths[index])]
            for index in np.flatnonzero(groups == group).tolist()
            if paths[index] in branch.leaves
        ]
        if own:
            scores.append(float(np.quantile(own, alpha)))
    rank = int(np.floor(alpha * (len(scores) + 1)))
    return float(min(np.sort(scores)[rank - 1], 0.5)) if rank >= 1 else None


def _suspicion(
    branch: Branch,
    tree: LabelTree,
    path: str,
    chances: NDArray[np.float64],
    paths: Sequence[str],
    groups: NDArray[np.int64],
    *,
    alpha: float,
) -> Suspicion:
    """The threshold on a patient's mean probability that misses no more than alpha of the patients with the subtype."""
    share = chances[:, branch.below(path)].sum(axis=1)
    with_it, without = by_patient(share, path, paths, groups)
    rank = int(np.floor(alpha * (len(with_it) + 1)))
    threshold = float(np.sort(with_it)[rank - 1]) if rank >= 1 else min([0.5, *with_it.tolist()])
    return Suspicion(
        path=path,
        sentence=tree.nodes[path].suspicion,
        source=tree.nodes[path].suspicion_source,
        threshold=min(threshold, 0.5),
        wanted_miss_rate=alpha,
        patients=len(with_it),
        sensitivity=float((with_it >= min(threshold, 0.5)).mean()) if len(with_it) else 0.0,
        specificity=float((without < min(threshold, 0.5)).mean()) if len(without) else 0.0,
    )


def by_patient(
    share: NDArray[np.float64], path: str, paths: Sequence[str], groups: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Means over frames of the patients with a subtype, and of those without it."""
    inside = np.asarray([_inside(p, path) for p in paths])
    outside = np.asarray([not _inside(p, path) and not _inside(path, p) for p in paths])
    return tuple(
        np.asarray([share[own & (groups == g)].mean() for g in np.unique(groups[own])])
        for own in (inside, outside)
    )  # type: ignore[return-value]


def auroc(
    branch: Branch,
    path: str,
    chances: NDArray[np.float64],
    paths: Sequence[str],
    groups: NDArray[np.int64],
) -> FinerFigure | None:
    """Area under the ROC curve of a subtype against the disease's others, by patient (mean over frames).

    The interval is Newcombe's (2006, method 5): that of a score test with Hanley and McNeil's variance, which does not shrink to
    nothing where a few patients are told apart without an error. None where either side has fewer than two patients.
    """
    share = chances[:, branch.below(path)].sum(axis=1)
    with_it, without = by_patient(share, path, paths, groups)
    first, second = len(with_it), len(without)
    if min(first, second) < 2:  # noqa: PLR2004
        return None
    above = (with_it[:, None] > without[None]).mean()
    value = float(above + 0.5 * (with_it[:, None] == without[None]).mean())
    return FinerFigure(
        value=round(value, 4),
        low=round(_area_limit(value, first, second, end=0.0), 4),
        high=round(_area_limit(value, first, second, end=1.0), 4),
        frames=len(paths),
        patients=first + second,
    )


def _area_limit(value: float, first: int, second: int, *, end: float) -> float:
    """The area between `value` and `end` from which `value` is 1.96 standard errors away, by halving."""
    half = (first + second) / 2 - 1
    near, far = value, end
    for _ in range(60):
        middle = (near + far) / 2
        spread = 1 + half * (1 - middle) / (2 - middle) + half * middle / (1 + middle)
        error = np.sqrt(middle * (1 - middle) * spread / (first * second))
        near, far = (middle, far) if abs(middle - value) < 1.959964 * error else (near, middle)
    return float((near + far) / 2)


def measured(model: FinerModel, test: Labelled, *, width: int) -> FinerLabels:
    """What the card says, with the figures on test patients.

    Args:
        model: Fitted.
        test: Frames of patients that neither training nor calibration has seen.
        width: As in `fit_finer`.
    """
    branches, start = [], 0
    for stated in model.stated.branches:
        branch = branch_of(stated)
        rows = slice(start, start + len(stated.leaves))
        start = rows.stop
        told = told_by(branch, test.of(stated.disease))
        own = Linear(model.linear.weight[rows], model.linear.bias[rows])
        chances = softmax(own.scores(told.features[:, :width]), stated.temperature)
        paths = [path_in(branch, node) for node in told.nodes]
        nodes = [
            node.model_copy(update={"test_auroc": auroc(branch, node.path, chances, paths, told.groups)})
            if paths
            else node
            for node in stated.nodes
        ]
        branches.append(stated.model_copy(update={"nodes": tuple(nodes)}))
    return model.stated.model_copy(update={"branches": tuple(branches)})
