"""The grasshopper optimisation algorithm (Saremi, Mirjalili and Lewis 2017), here on the weights of features."""

from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin

from model_zoo.compared.fitness import Trial

_ATTRACTION: Final = 0.5
_LENGTH: Final = 1.5
_WIDEST: Final = 1.0
_NARROWEST: Final = 1e-4
_USED: Final = 0.5


class GrasshopperWeights(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    """Weights features by a swarm of grasshoppers and fits a classifier on those that weigh enough.

    A grasshopper's place is one weight of 0..1 a feature; features below a half are left out. Grasshoppers push and pull
    each other within a zone that shrinks, around the best place found. Fitness is the accuracy of the classifier itself on
    training rows held out of the search, less a small price for each feature.

    Args:
        classifier: An unfitted estimator that minds the scale of features.
        swarm: Grasshoppers.
        rounds: How often they move.
        price: Of using all features, in accuracy.
        most: Training rows that the search looks at.
        seed: Of all chance.
    """

    def __init__(
        self,
        classifier: Any,
        *,
        swarm: int = 14,
        rounds: int = 8,
        price: float = 0.02,
        most: int = 600,
        seed: int = 0,
    ) -> None:
        self.classifier = classifier
        self.swarm = swarm
        self.rounds = rounds
        self.price = price
        self.most = most
        self.seed = seed

    def fit(self, X: NDArray[np.float32], y: NDArray[np.int64]) -> Self:
        """Find weights on a part of the training data, then fit the classifier on all of it."""
        rng = np.random.default_rng(self.seed)
        trial = Trial.of(X, y, most=self.most, seed=self.seed)
        places = rng.random((self.swarm, X.shape[1]))
        scores = np.asarray([self._fitness(place, trial) for place in places])
        best, highest = places[np.argmax(scores)].copy(), float(scores.max())
        for number in range(self.rounds):
            zone = _WIDEST - (number + 1) * (_WIDEST - _NARROWEST) / self.rounds
            places = moved(places, best, zone=zone)
            scores = np.asarray([self._fitness(place, trial) for place in places])
            if scores.max() > highest:
                best, highest = places[np.argmax(scores)].copy(), float(scores.max())
        self.weights_ = np.where(best >= _USED, best, 0.0)
        self.classes_ = np.unique(y)
        self.classifier.fit(self._weighted(X), y)
        return self

    def predict(self, X: NDArray[np.float32]) -> NDArray[np.int64]:
        """Classes of rows."""
        return np.asarray(self.classifier.predict(self._weighted(X)), np.int64)

    def _weighted(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        used = self.weights_ > 0
        return np.asarray(X[:, used] * self.weights_[used].astype(np.float32))

    def _fitness(self, place: NDArray[np.float64], trial: Trial) -> float:
        used = place >= _USED
        if not used.any():
            return 0.0
        right = trial.accuracy(self.classifier, columns=used, weights=place)
        return right - self.price * float(used.mean())


def moved(places: NDArray[np.float64], best: NDArray[np.float64], *, zone: float) -> NDArray[np.float64]:
    """One move of all grasshoppers within 0..1 (equation 2.7 of the paper).

    Args:
        places: (S, D).
        best: (D,) the best place found.
        zone: How far comfort reaches; it shrinks from round to round.
    """
    apart = places[None, :, :] - places[:, None, :]
    distance = np.linalg.norm(apart, axis=2)
    near = 2 + distance % 2  # the paper maps distances to where the social force changes sign
    force = _ATTRACTION * np.exp(-near / _LENGTH) - np.exp(-near)
    with np.errstate(invalid="ignore", divide="ignore"):
        unit = np.nan_to_num(apart / distance[:, :, None])
    social = (zone * 0.5 * force[:, :, None] * unit).sum(axis=1)
    return np.asarray(np.clip(zone * social + best, 0.0, 1.0))
