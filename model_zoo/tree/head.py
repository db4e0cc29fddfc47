"""The mathematics of the finer head, in numpy.

Within a disease the leaves share a softmax of linear scores of the pooled features: p(leaf | disease). A leaf's probability is
p(disease) p(leaf | disease), so that the leaves of a disease sum to what the five-class head says of it, and every node's
probability is the sum of its children's. A frame that is known down to a node only counts with the sum over the leaves below
it (marginal likelihood); one that is known to the disease only has a sum of 1 and teaches nothing here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

PENALTIES: Final = (10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01)
"""Weights of the squared norm that are tried, in units of the mean loss."""


@dataclass(frozen=True)
class Linear:
    """Scores of leaves: `features @ weight.T + bias`.

    Attributes:
        weight: (L, D) float32.
        bias: (L,) float32.
    """

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]

    def scores(self, features: NDArray[np.floating]) -> NDArray[np.float64]:
        """Of features (N, D): (N, L)."""
        return np.asarray(
            features.astype(np.float64) @ self.weight.T.astype(np.float64) + self.bias, np.float64
        )


def softmax(scores: NDArray[np.float64], temperature: float = 1.0) -> NDArray[np.float64]:
    """Softmax over the last axis of (N, L)."""
    scaled = scores / temperature
    odds = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return np.asarray(odds / odds.sum(axis=1, keepdims=True), np.float64)


def marginal_loss(
    chances: NDArray[np.float64], allowed: NDArray[np.bool_], weights: NDArray[np.float64]
) -> float:
    """Weighted mean of -log of the probability of all allowed leaves.

    Args:
        chances: (N, L), p(leaf | disease).
        allowed: (N, L), the leaves that a frame's label leaves open.
        weights: (N,), 0 and up.
    """
    own = np.maximum((chances * allowed).sum(axis=1), 1e-12)
    return float(-(weights * np.log(own)).sum() / weights.sum())


def balanced(nodes: Sequence[str], groups: NDArray[np.int64]) -> NDArray[np.float64]:
    """Weights (N,) by which every node counts alike, and every patient group within a node; their mean is 1."""
    names, of_node = np.unique(np.asarray(nodes), return_inverse=True)
    weights = np.zeros(len(nodes))
    for number in range(len(names)):
        own = of_node == number
        members, sizes = np.unique(groups[own], return_counts=True)
        size = dict(zip(members.tolist(), sizes.tolist(), strict=True))
        weights[own] = [1.0 / (size[int(group)] * len(members)) for group in groups[own]]
    return np.asarray(weights * len(nodes) / weights.sum(), np.float64)


@dataclass(frozen=True)
class Basis:
    """Standardised features in their own row space: as few numbers a frame as there are frames, and no information lost.

    Attributes:
        inputs: (N, R), for `fit_linear`.
        directions: (R, D), orthonormal.
        mean: (D,).
        scale: (D,).
    """

    inputs: NDArray[np.float64]
    directions: NDArray[np.float64]
    mean: NDArray[np.float64]
    scale: NDArray[np.float64]

    @classmethod
    def of(cls, features: NDArray[np.float32]) -> Self:
        """Of features (N, D)."""
        mean = features.mean(axis=0, dtype=np.float64)
        scale = features.std(axis=0, dtype=np.float64) + 1e-6
        left, values, directions = np.linalg.svd((features - mean) / scale, full_matrices=False)
        kept = values > 1e-6 * values[0]
        return cls(left[:, kept] * values[kept], directions[kept], mean, scale)

    def back(self, fitted: Linear) -> Linear:
        """A head on `inputs` as a head on features."""
        weight = fitted.weight.astype(np.float64) @ self.directions / self.scale
        bias = fitted.bias - weight @ self.mean
        return Linear(weight.astype(np.float32), bias.astype(np.float32))


def fit_linear(
    inputs: NDArray[np.float64],
    allowed: NDArray[np.bool_],
    weights: NDArray[np.float64],
    *,
    penalty: float,
) -> Linear:
    """Fit by L-BFGS, with a squared norm on the weights.

    Args:
        inputs: (N, R), of a `Basis`.
        allowed: (N, L), the leaves that a frame's label leaves open.
        weights: (N,).
        penalty: Weight of the squared norm.
    """
    leaves, width = allowed.shape[1], inputs.shape[1]
    share = weights / weights.sum()

    def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weight, bias = flat[: leaves * width].reshape(leaves, width), flat[leaves * width :]
        chances = softmax(inputs @ weight.T + bias)
        inside = chances * allowed
        own = np.maximum(inside.sum(axis=1), 1e-12)
        slope = share[:, None] * (chances - inside / own[:, None])
        value = -(share * np.log(own)).sum() + 0.5 * penalty * (weight**2).sum()
        return float(value), np.concatenate(
            [(slope.T @ inputs + penalty * weight).ravel(), slope.sum(axis=0)]
        )

    start = np.zeros(leaves * (width + 1))
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 300}).x
    return Linear(
        found[: leaves * width].reshape(leaves, width).astype(np.float32),
        found[leaves * width :].astype(np.float32),
    )


def folds(groups: NDArray[np.int64], nodes: Sequence[str], *, count: int, seed: int) -> NDArray[np.int64]:
    """Deal whole patient groups to `count` folds, every node's groups evenly: (N,) fold numbers."""
    rng = np.random.default_rng(seed)
    fold_of: dict[int, int] = {}
    names = np.asarray(nodes)
    turn = 0
    for name in np.unique(names):
        members = [g for g in np.unique(groups[names == name]).tolist() if g not in fold_of]
        for group in rng.permutation(members).tolist():
            fold_of[group] = turn % count
            turn += 1
    return np.asarray([fold_of[int(group)] for group in groups])


def cross_fitted(
    inputs: NDArray[np.float64],
    allowed: NDArray[np.bool_],
    nodes: Sequence[str],
    groups: NDArray[np.int64],
    *,
    penalty: float,
    count: int = 5,
    seed: int = 0,
) -> NDArray[np.float64]:
    """Scores (N, L) of every frame by a head that has not seen its patient group."""
    number = folds(groups, nodes, count=count, seed=seed)
    scores = np.zeros(allowed.shape)
    for fold in np.unique(number).tolist():
        rest, own = number != fold, number == fold
        weights = balanced([n for n, inside in zip(nodes, rest, strict=True) if inside], groups[rest])
        scores[own] = fit_linear(inputs[rest], allowed[rest], weights, penalty=penalty).scores(inputs[own])
    return scores
