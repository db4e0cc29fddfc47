"""Classifiers by name, each a scikit-learn estimator made afresh."""

from collections.abc import Callable
from typing import Any, Final

from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

Factory = Callable[[int], Any]
"""Makes an unfitted estimator from a seed."""


def _forest(seed: int) -> Any:
    return RandomForestClassifier(100, random_state=seed, n_jobs=1, class_weight="balanced")


def _nearest(seed: int) -> Any:
    del seed
    return make_pipeline(StandardScaler(), KNeighborsClassifier(1))


def _logistic(seed: int) -> Any:
    """Multinomial logistic regression on standardised features."""
    model = LogisticRegression(C=0.1, max_iter=2000, class_weight="balanced", random_state=seed)
    return make_pipeline(StandardScaler(), model)


PROBES: Final[dict[str, Factory]] = {
    "random forest": _forest,
    "1-nearest-neighbour": _nearest,
    "logistic regression": _logistic,
}
"""Three of different kinds, quick enough for an audit."""
