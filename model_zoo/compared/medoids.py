"""K-medoids as a classifier: clusters around real images, each named for most of its members."""

from typing import Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import pairwise_distances


class MedoidClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    """Alternating K-medoids (Park and Jun 2009); a cluster answers with the class that most of its members have.

    Args:
        clusters: For each class; clusters are found without looking at classes.
        most: Training rows that are clustered; the others only vote.
        rounds: At most.
        seed: Of the start and of the choice of rows.
    """

    def __init__(self, *, clusters: int = 8, most: int = 1500, rounds: int = 30, seed: int = 0) -> None:
        self.clusters = clusters
        self.most = most
        self.rounds = rounds
        self.seed = seed

    def fit(self, X: NDArray[np.float32], y: NDArray[np.int64]) -> Self:
        """Find medoids among the training rows, then let all rows vote."""
        rng = np.random.default_rng(self.seed)
        self.classes_ = np.unique(y)
        chosen = rng.permutation(len(X))[: self.most]
        rows = X[chosen]
        distance = pairwise_distances(rows)
        count = min(self.clusters * len(self.classes_), len(rows))
        medoids = rng.choice(len(rows), count, replace=False)
        for _ in range(self.rounds):
            nearest = distance[:, medoids].argmin(axis=1)
            moved = medoids.copy()
            for number in range(count):
                members = np.flatnonzero(nearest == number)
                if len(members):
                    moved[number] = members[distance[np.ix_(members, members)].sum(axis=0).argmin()]
            if np.array_equal(moved, medoids):
                break
            medoids = moved
        self.medoids_ = rows[medoids]
        votes = np.zeros((count, int(self.classes_.max()) + 1))
        np.add.at(votes, (self._nearest(X), y), 1)
        self.names_ = votes.argmax(axis=1)
        return self

    def predict(self, X: NDArray[np.float32]) -> NDArray[np.int64]:
        """Classes of rows."""
        return np.asarray(self.names_[self._nearest(X)], np.int64)

    def _nearest(self, X: NDArray[np.float32]) -> NDArray[np.int64]:
        return np.asarray(pairwise_distances(X, self.medoids_).argmin(axis=1), np.int64)
