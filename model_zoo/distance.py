"""How far a frame lies from the training frames, in feature space.

The features come in blocks: the pooled last layer (what the cells are) and channel statistics of an early one (stain,
sharpness, scale, camera). The last layer alone misses frames of another laboratory, which training taught it to ignore;
pooling both in one covariance lets the larger block drown the smaller. So each block is judged by itself, and the
worse one counts.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from model_zoo.card import FeatureBlock
from model_zoo.package import ModelPackage


@dataclass(frozen=True)
class BlockDistance:
    """A Gaussian model of one block's training features: Mahalanobis (Lee et al. 2018) with principal directions.

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


@dataclass(frozen=True)
class FeatureDistance:
    """The models of all blocks."""

    blocks: tuple[FeatureBlock, ...]
    models: tuple[BlockDistance, ...]

    @classmethod
    def fit(
        cls,
        reference: NDArray[np.float32],
        calibration: NDArray[np.float32],
        *,
        bounds: dict[str, tuple[int, int]],
        dimensions: int = 64,
        quantile: float = 0.975,
    ) -> Self:
        """Fit every block.

        Args:
            reference: (N, D) features of training frames, for the Gaussians.
            calibration: (M, D) features of frames of other patients, for the limits.
            bounds: First feature and first after the last, by the block's name.
            dimensions: Principal directions of a block.
            quantile: Share of calibration frames below a block's limit.
        """
        blocks, models = [], []
        for name, (start, stop) in bounds.items():
            model = BlockDistance.fit(reference[:, start:stop], dimensions=dimensions)
            limit = float(np.quantile(model.score(calibration[:, start:stop]), quantile))
            blocks.append(
                FeatureBlock(
                    name=name, start=start, stop=stop, residual_scale=model.residual_scale, limit=limit
                )
            )
            models.append(model)
        return cls(tuple(blocks), tuple(models))

    @classmethod
    def from_package(cls, package: ModelPackage) -> Self:
        """Read the models that a package carries."""
        blocks = package.card.out_of_distribution.blocks
        models = tuple(
            BlockDistance(
                mean=package.tensor(f"ood.{block.name}.mean"),
                scale=package.tensor(f"ood.{block.name}.scale"),
                components=package.tensor(f"ood.{block.name}.components"),
                residual_scale=block.residual_scale,
            )
            for block in blocks
        )
        return cls(blocks, models)

    def tensors(self) -> dict[str, NDArray[np.float32]]:
        """What a package stores, by tensor name."""
        return {
            f"ood.{block.name}.{part}": np.ascontiguousarray(getattr(model, part))
            for block, model in zip(self.blocks, self.models, strict=True)
            for part in ("mean", "scale", "components")
        }

    def score(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Score features (N, D): the largest of the blocks' distances, each over its limit.

        Returns:
            (N,) float32, 0 and up; about 1 at the edge of the calibration frames.
        """
        scores = [
            model.score(features[:, block.start : block.stop]) / block.limit
            for block, model in zip(self.blocks, self.models, strict=True)
        ]
        return np.asarray(np.max(scores, axis=0), np.float32)
