"""How good a candidate of a search is: its own classifier, fitted on some training rows and tried on others."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split


@dataclass(frozen=True)
class Trial:
    """Training rows set apart for a search: three quarters to fit a candidate on, a quarter to try it on.

    Attributes:
        rows: (n, D) features.
        classes: (n,) class numbers.
        held: (m, D) features.
        held_classes: (m,) class numbers.
    """

    rows: NDArray[np.float32]
    classes: NDArray[np.int64]
    held: NDArray[np.float32]
    held_classes: NDArray[np.int64]

    @classmethod
    def of(cls, X: NDArray[np.float32], y: NDArray[np.int64], *, most: int, seed: int) -> Self:
        """Draw at most `most` rows, and part them, classes in proportion."""
        if len(y) > most:
            _, X, _, y = train_test_split(X, y, test_size=most, random_state=seed, stratify=y)
        rows, held, classes, held_classes = train_test_split(X, y, test_size=0.25, random_state=seed)
        return cls(rows, classes, held, held_classes)

    def accuracy(
        self,
        classifier: Any,
        *,
        columns: NDArray[np.bool_] | None = None,
        weights: NDArray[np.float64] | None = None,
        changes: Mapping[str, Any] | None = None,
    ) -> float:
        """Accuracy on the held rows of a fresh copy of the classifier.

        Args:
            classifier: An estimator; it is not changed.
            columns: Features to use; all if None.
            weights: Factor on each of all features.
            changes: Parameters of the copy that differ, to keep a search short.
        """
        chosen = slice(None) if columns is None else columns
        scale = np.float32(1) if weights is None else weights.astype(np.float32)[chosen]
        own = clone(classifier).set_params(**(changes or {}))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # short fits are meant to be short
            own.fit(self.rows[:, chosen] * scale, self.classes)
        return float((own.predict(self.held[:, chosen] * scale) == self.held_classes).mean())
