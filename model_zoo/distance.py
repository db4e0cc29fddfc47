"""How far a frame lies from the training frames, in feature space.

Mahalanobis distance (Lee et al. 2018) in the principal directions of the features, plus the residual outside them, both
scaled so that training frames score about 1 on average. The precise sum is documented at `FeatureDistance.score`.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from model_zoo.package import ModelPackage


@dataclass(frozen=True)
class FeatureDistance:
    """A Gaussian model of the training features.

    Attributes:
        mean: (D,) float32.
        scale: (D,) float32, deviation of each feature.
        components: (D, K) float32, principal directions of the standardised features, each divided by its deviation.
        residual_scale: Mean squared residual of training frames.
    """

    mean: NDArray[np.float32]
    scale: NDArray[np.float32]
    components: NDArray[np.float32]
    residual_scale: float

    @classmethod
    def fit(cls, features: NDArray[np.float32], *, dimensions: int = 64) -> Self:
        """Fit to training features (N, D), keeping the given number of principal directions."""
        mean = features.mean(axis=0)
        scale = features.std(axis=0) + 1e-2 * float(np.median(features.std(axis=0))) + 1e-6
        standard = np.clip((features - mean) / scale, -20, 20).astype(np.float64)
        values, vectors = np.linalg.eigh(standard.T @ standard / len(standard))
        keep = np.argsort(values)[::-1][: min(dimensions, len(values) - 1, max(1, len(features) // 4))]
        components = vectors[:, keep] / np.sqrt(values[keep] + 1e-6)
        inside = standard @ vectors[:, keep]
        residual = float(np.mean((standard**2).sum(axis=1) - (inside**2).sum(axis=1)))
        return cls(
            mean.astype(np.float32),
            scale.astype(np.float32),
            components.astype(np.float32),
            max(residual, 1e-6),
        )

    @classmethod
    def from_package(cls, package: ModelPackage) -> Self:
        """Read the model that a package carries."""
        names = package.card.out_of_distribution
        return cls(
            package.tensor(names.mean),
            package.tensor(names.scale),
            package.tensor(names.components),
            names.residual_scale,
        )

    def score(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Score features (N, D): root of the mean of two terms, each 1 for an average training frame.

        The first is the squared Mahalanobis distance inside the K principal directions over K; the second the squared
        residual outside them over its training mean.

        Returns:
            (N,) float32, 0 and up; larger is farther.
        """
        standard = np.clip((features - self.mean) / self.scale, -1e4, 1e4)
        whitened = standard @ self.components
        norms = (self.components**2).sum(axis=0)
        inside = ((whitened**2) / norms).sum(
            axis=1
        )  # squared length of the projection: directions are orthogonal
        near = (whitened**2).mean(axis=1)
        residual = np.maximum((standard**2).sum(axis=1) - inside, 0) / self.residual_scale
        return np.asarray(np.sqrt((near + residual) / 2), np.float32)
