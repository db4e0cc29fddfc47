"""The simple convolutional network of the comparison (after Ahmed et al. 2019), as an estimator on small pictures."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from torch import Tensor, nn

SIDE: Final = 32


class SmallConvolution(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    """Two convolutions with pooling and two dense layers, from random weights, on pictures of 32 x 32 pixels.

    Args:
        epochs: Over the training rows.
        batch_size: Rows a step.
        learning_rate: Of Adam.
        filters: Of the first convolution; the second has twice as many.
        dense: Width of the dense layer before the last.
        seed: Of weights and order.
    """

    def __init__(
        self,
        *,
        epochs: int = 12,
        batch_size: int = 64,
        learning_rate: float = 1e-3,
        filters: int = 16,
        dense: int = 64,
        seed: int = 0,
    ) -> None:
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.filters = filters
        self.dense = dense
        self.seed = seed

    def fit(self, X: NDArray[np.float32], y: NDArray[np.int64]) -> Self:
        """Train on flattened pictures (N, 32 * 32 * 3) of 0..1."""
        generator = torch.Generator().manual_seed(self.seed)
        self.classes_ = np.unique(y)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self.network_ = _network(int(self.classes_.max()) + 1, self.filters, self.dense)
        optimizer = torch.optim.Adam(self.network_.parameters(), lr=self.learning_rate)
        images, labels = _images(X), torch.from_numpy(np.asarray(y, np.int64))
        self.network_.train()
        with _one_thread():
            for _ in range(self.epochs):
                order = torch.randperm(len(labels), generator=generator)
                for batch in order.split(self.batch_size):
                    loss = nn.functional.cross_entropy(self.network_(images[batch]), labels[batch])
                    optimizer.zero_grad(set_to_none=True)
                    loss.backward()
                    optimizer.step()
        self.network_.eval()
        return self

    def predict(self, X: NDArray[np.float32]) -> NDArray[np.int64]:
        """Classes of flattened pictures."""
        with torch.inference_mode():
            return np.asarray(self.network_(_images(X)).argmax(dim=1).numpy(), np.int64)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Work on one core: with layers as small as these, several threads wait for each other longer than they work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _images(X: NDArray[np.float32]) -> Tensor:
    pictures = np.ascontiguousarray(X.reshape(-1, SIDE, SIDE, 3).transpose(0, 3, 1, 2))
    return torch.from_numpy((pictures - 0.5) / 0.25)


def _network(classes: int, filters: int, dense: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, filters, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(filters, 2 * filters, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(2 * filters * (SIDE // 4) ** 2, dense),
        nn.ReLU(),
        nn.Linear(dense, classes),
    )
