"""How far a frame lies from the training frames, in feature space.

The features come in blocks: the pooled last layer (what the cells are) and channel statistics of earlier ones (stain,
sharpness, scale, camera). The last layer alone misses frames of another laboratory, which training taught it to ignore;
pooling all in one covariance lets the larger block drown the smaller. So each block is judged by itself, and the worst one
counts.

Training frames come in clusters, one a class and source: laboratories lie apart, and a single covariance over all of them
covers the space between, where an unseen laboratory may lie. So the distance is that to the nearest cluster.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from model_zoo.card import FeatureBlock
from model_zoo.errors import PackageError
from model_zoo.package import ModelPackage

PARTS = ("mean", "scale", "components", "centres", "whitening")


@dataclass(frozen=True)
class BlockDistance:
    """Gaussian models of one block's training features: Mahalanobis distance (Lee et al. 2018) to the nearest.

    Attributes:
        mean: (D,) float32, of all training frames.
        scale: (D,) float32, deviation of each feature.
        components: (D, K) float32, orthonormal directions of the standardised features.
        centres: (M, K) float32, one a cluster.
        whitening: (M, K, K) float32; a cluster's deviations from its centre times it have unit covariance.
        residual_scale: Mean squared residual of training frames outside the directions; None where that does not count.
    """

    mean: NDArray[np.float32]
    scale: NDArray[np.float32]
    components: NDArray[np.float32]
    centres: NDArray[np.float32]
    whitening: NDArray[np.float32]
    residual_scale: float | None = None

    def distances(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Distance (N, M) of features (N, D) from each centre, without residuals."""
        return np.asarray(np.sqrt(self._squares(self._inside(features)[1])), np.float32)

    def _inside(self, features: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        standard = np.clip((features - self.mean) / self.scale, -1e4, 1e4)
        return standard, standard @ self.components

    def _squares(self, inside: NDArray[np.float32]) -> NDArray[np.float32]:
        away = inside[:, None, :] - self.centres
        white = np.matmul(away.transpose(1, 0, 2), self.whitening)
        return np.asarray((white**2).mean(axis=2).T, np.float32)

    def score(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Score features (N, D): root of the mean squared whitened deviation from the nearest centre.

        Where residuals count, it is the root of the mean of that square and of the squared residual over its training mean.

        Returns:
            (N,) float32, 0 and up, about 1 for a training frame; larger is farther. NaN where a feature is.
        """
        standard, inside = self._inside(features)
        squares = self._squares(inside).min(axis=1)
        if self.residual_scale is not None:
            residual = np.maximum((standard**2).sum(axis=1) - (inside**2).sum(axis=1), 0)
            squares = (squares + residual / self.residual_scale) / 2
        return np.asarray(np.sqrt(squares), np.float32)


@dataclass(frozen=True)
class Detector:
    """The models of all blocks."""

    blocks: tuple[FeatureBlock, ...]
    models: tuple[BlockDistance, ...]

    @classmethod
    def from_package(cls, package: ModelPackage) -> Self:
        """Read the models that a package carries.

        Raises:
            IntegrityError: If an array is missing.
            PackageError: If the arrays do not fit each other.
        """
        blocks = package.card.out_of_distribution.blocks
        nearest = bool(package.card.out_of_distribution.clusters)
        models = tuple(_read(package, block) if nearest else _read_single(package, block) for block in blocks)
        for block, model in zip(blocks, models, strict=True):
            directions = model.components.shape[-1]
            wanted = (block.stop - block.start, directions)
            if model.components.shape != wanted or model.whitening.shape[1:] != (directions, directions):
                raise PackageError(
                    f"the detector's block {block.name} in {package.path} has arrays that do not fit: "
                    "package the model again"
                )
        return cls(blocks, models)

    def tensors(self) -> dict[str, NDArray[np.float32]]:
        """What a package stores, by name."""
        return {
            f"ood.{block.name}.{part}": np.ascontiguousarray(getattr(model, part), np.float32)
            for block, model in zip(self.blocks, self.models, strict=True)
            for part in PARTS
        }

    def by_block(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Score features (N, D): (N, blocks), each block's distance over its limit."""
        scores = [
            model.score(features[:, block.start : block.stop]) / block.limit
            for block, model in zip(self.blocks, self.models, strict=True)
        ]
        return np.asarray(np.stack(scores, axis=1), np.float32)

    def score(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Score features (N, D): the largest of the blocks' distances, each over its limit.

        Returns:
            (N,) float32, 0 and up; 1 is the edge of what counts as inside.
        """
        return np.asarray(self.by_block(features).max(axis=1), np.float32)


def _read(package: ModelPackage, block: FeatureBlock) -> BlockDistance:
    arrays = {part: package.tensor(f"ood.{block.name}.{part}") for part in PARTS}
    return BlockDistance(**arrays, residual_scale=block.residual_scale)


def _read_single(package: ModelPackage, block: FeatureBlock) -> BlockDistance:
    """A block of a card of version 1: one Gaussian, whose directions are stored divided by their deviation."""
    stored = package.tensor(f"ood.{block.name}.components")
    lengths = np.sqrt((stored**2).sum(axis=0))
    return BlockDistance(
        mean=package.tensor(f"ood.{block.name}.mean"),
        scale=package.tensor(f"ood.{block.name}.scale"),
        components=stored / lengths,
        centres=np.zeros((1, len(lengths)), np.float32),
        whitening=np.diag(lengths)[None].astype(np.float32),
        residual_scale=block.residual_scale,
    )
