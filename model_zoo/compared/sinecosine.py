"""The sine-cosine algorithm (Mirjalili 2016), here on the hyper-parameters of a small convolutional network."""

from typing import Final, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin

from model_zoo.compared.cnn import SmallConvolution
from model_zoo.compared.fitness import Trial

_AMPLITUDE: Final = 2.0
_LOW: Final = np.array([-3.7, 3.0, 5.0])
_HIGH: Final = np.array([-2.0, 5.0, 7.5])
"""Ends of the search: logarithm (10) of the learning rate, logarithms (2) of the first filters and of the dense layer."""


class SineCosineNetwork(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    """A small convolutional network whose learning rate and widths a sine-cosine search has chosen.

    Agents swing around the best place found by sines and cosines whose amplitude shrinks to nothing. Fitness is the
    accuracy of a short training on training rows held out of the search.

    Args:
        agents: Places that move.
        rounds: How often.
        short: Epochs of a candidate's training.
        epochs: Of the final one.
        most: Training rows that the search looks at.
        seed: Of all chance.
    """

    def __init__(
        self,
        *,
        agents: int = 4,
        rounds: int = 3,
        short: int = 3,
        epochs: int = 12,
        most: int = 600,
        seed: int = 0,
    ) -> None:
        self.agents = agents
        self.rounds = rounds
        self.short = short
        self.epochs = epochs
        self.most = most
        self.seed = seed

    def fit(self, X: NDArray[np.float32], y: NDArray[np.int64]) -> Self:
        """Choose hyper-parameters on a part of the training data, then train on all of it."""
        rng = np.random.default_rng(self.seed)
        trial = Trial.of(X, y, most=self.most, seed=self.seed)
        places = rng.uniform(_LOW, _HIGH, (self.agents, len(_LOW)))
        scores = [self._fitness(place, trial) for place in places]
        best, highest = places[int(np.argmax(scores))].copy(), max(scores)
        for number in range(self.rounds):
            places = swung(places, best, amplitude=_AMPLITUDE * (1 - number / self.rounds), rng=rng)
            scores = [self._fitness(place, trial) for place in places]
            if max(scores) > highest:
                best, highest = places[int(np.argmax(scores))].copy(), max(scores)
        self.best_ = best
        self.classes_ = np.unique(y)
        self.network_ = self._network(best, self.epochs).fit(X, y)
        return self

    def predict(self, X: NDArray[np.float32]) -> NDArray[np.int64]:
        """Classes of rows."""
        return self.network_.predict(X)

    def _fitness(self, place: NDArray[np.float64], trial: Trial) -> float:
        return trial.accuracy(self._network(place, self.short))

    def _network(self, place: NDArray[np.float64], epochs: int) -> SmallConvolution:
        rate, filters, dense = place
        return SmallConvolution(
            epochs=epochs,
            learning_rate=float(10**rate),
            filters=round(2**filters),
            dense=round(2**dense),
            seed=self.seed,
        )


def swung(
    places: NDArray[np.float64], best: NDArray[np.float64], *, amplitude: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """One move of all agents (equation 3.3 of the paper), kept within the search's ends."""
    angle = rng.uniform(0, 2 * np.pi, places.shape)
    pull = np.abs(rng.uniform(0, 2, places.shape) * best - places)
    wave = np.where(rng.random(places.shape) < 0.5, np.sin(angle), np.cos(angle))  # noqa: PLR2004
    return np.asarray(np.clip(places + amplitude * wave * pull, _LOW, _HIGH))
