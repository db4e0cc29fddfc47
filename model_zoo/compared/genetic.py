"""A genetic algorithm that chooses features (Holland 1975; Siedlecki and Sklansky 1989), then a classifier on these."""

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin

from model_zoo.compared.fitness import Trial


class GeneticSelection(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    """Chooses features by a genetic algorithm and fits a classifier on them.

    A chromosome is one bit a feature. Fitness is the accuracy of the classifier itself, fitted on three quarters of some
    training rows and tried on the last, less a small price for each feature; the best two survive, the others are bred by
    tournament, uniform crossover and mutation.

    Args:
        classifier: An unfitted estimator.
        population: Chromosomes of a generation.
        generations: How many.
        mutation: Chance of each bit to flip.
        price: Of using all features, in accuracy.
        most: Training rows that the search looks at; the chosen features are then fitted on all.
        shorter: Parameters of the classifier that differ in the search, to keep it short.
        seed: Of all chance.
    """

    def __init__(
        self,
        classifier: Any,
        *,
        population: int = 16,
        generations: int = 8,
        mutation: float = 0.02,
        price: float = 0.02,
        most: int = 600,
        shorter: Mapping[str, Any] | None = None,
        seed: int = 0,
    ) -> None:
        self.classifier = classifier
        self.population = population
        self.generations = generations
        self.mutation = mutation
        self.price = price
        self.most = most
        self.shorter = shorter
        self.seed = seed

    def fit(self, X: NDArray[np.float32], y: NDArray[np.int64]) -> Self:
        """Choose features on a part of the training data, then fit the classifier on all of it."""
        rng = np.random.default_rng(self.seed)
        trial = Trial.of(X, y, most=self.most, seed=self.seed)
        genes = rng.random((self.population, X.shape[1])) < 0.5  # noqa: PLR2004
        scores = np.asarray([self._fitness(own, trial) for own in genes])
        for _ in range(self.generations):
            order = np.argsort(-scores)
            children = [genes[order[0]], genes[order[1]]]
            while len(children) < self.population:
                pairs = rng.integers(0, self.population, (2, 2))
                mother, father = (genes[pair[np.argmax(scores[pair])]] for pair in pairs)
                child = np.where(rng.random(X.shape[1]) < 0.5, mother, father)  # noqa: PLR2004
                children.append(child ^ (rng.random(X.shape[1]) < self.mutation))
            kept = scores[order[:2]]
            genes = np.stack(children)
            scores = np.concatenate([kept, [self._fitness(own, trial) for own in genes[2:]]])
        self.chosen_ = genes[np.argmax(scores)]
        self.classes_ = np.unique(y)
        self.classifier.fit(X[:, self.chosen_], y)
        return self

    def predict(self, X: NDArray[np.float32]) -> NDArray[np.int64]:
        """Classes of rows."""
        return np.asarray(self.classifier.predict(X[:, self.chosen_]), np.int64)

    def _fitness(self, genes: NDArray[np.bool_], trial: Trial) -> float:
        if not genes.any():
            return 0.0
        right = trial.accuracy(self.classifier, columns=genes, changes=self.shorter)
        return right - self.price * float(genes.mean())
