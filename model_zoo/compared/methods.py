"""Classifiers by name, each a scikit-learn estimator made afresh."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import RandomForestClassifier, VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC

from model_zoo.compared.features import BLOCKS
from model_zoo.compared.genetic import GeneticSelection
from model_zoo.compared.grasshopper import GrasshopperWeights
from model_zoo.compared.medoids import MedoidClassifier

Factory = Callable[[int], Any]
"""Makes an unfitted estimator from a seed."""


@dataclass(frozen=True)
class Method:
    """A row of the comparison.

    Attributes:
        name: As the study calls it.
        reported: Accuracy in percent that the study quotes for it, on whatever task and data; None where it gives none.
        note: What is ours where the literature does not say enough, or empty.
        factory: Makes the estimator, which picks its own blocks of `all_features`.
    """

    name: str
    reported: float | None
    note: str
    factory: Factory


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

_HAND_MADE: Final = ("colour", "texture", "shape")


def _columns(X: NDArray[np.float32], blocks: tuple[str, ...]) -> NDArray[np.float32]:
    return np.concatenate([X[:, BLOCKS[block]] for block in blocks], axis=1)


def _on(blocks: tuple[str, ...], *steps: Any) -> Any:
    return make_pipeline(FunctionTransformer(_columns, kw_args={"blocks": blocks}), *steps)


def _hand_made(*steps: Any) -> Any:
    return _on(_HAND_MADE, StandardScaler(), *steps)


def _mlp(seed: int, *layers: int) -> MLPClassifier:
    return MLPClassifier(layers, max_iter=200, early_stopping=True, n_iter_no_change=8, random_state=seed)


def _simple_cnn(seed: int) -> Any:
    from model_zoo.compared.cnn import SmallConvolution  # noqa: PLC0415 - torch takes seconds

    return _on(("picture",), SmallConvolution(seed=seed))


def _sine_cosine(seed: int) -> Any:
    from model_zoo.compared.sinecosine import SineCosineNetwork  # noqa: PLC0415 - torch takes seconds

    return _on(("picture",), SineCosineNetwork(seed=seed))


_SHORT: Final = {"max_iter": 25, "early_stopping": False, "learning_rate_init": 0.005}
"""Of a network while the genetic algorithm compares features: less training, at a higher rate."""

METHODS: Final[tuple[Method, ...]] = (
    Method("random forest", 94.3, "", lambda seed: _on(_HAND_MADE, _forest(seed))),
    Method(
        "KNN + naive Bayes",
        92.8,
        "the two vote by probability",
        lambda _seed: _hand_made(
            VotingClassifier([("knn", KNeighborsClassifier(5)), ("bayes", GaussianNB())], voting="soft")
        ),
    ),
    Method(
        "PCA + MLP",
        98.72,
        "stand-in for PCA + ABC-BPNN: Adam in place of the artificial bee colony",
        lambda seed: _hand_made(PCA(20, random_state=seed), _mlp(seed, 32)),
    ),
    Method(
        "K-medoids", 98.60, "clusters named by vote", lambda seed: _hand_made(MedoidClassifier(seed=seed))
    ),
    Method(
        "DOST + PCA + LDA",
        99.66,
        "energies of the bands",
        lambda seed: _on(
            ("stockwell",), StandardScaler(), PCA(20, random_state=seed), LinearDiscriminantAnalysis()
        ),
    ),
    Method(
        "GA + ANN",
        97.07,
        "one hidden layer of 16; the algorithm chooses features by this network's own accuracy",
        lambda seed: _hand_made(GeneticSelection(_mlp(seed, 16), shorter=_SHORT, seed=seed)),
    ),
    Method(
        "GA + MLP",
        97.1,
        "two hidden layers of 64 and 32; the algorithm chooses features by this network's own accuracy",
        lambda seed: _hand_made(GeneticSelection(_mlp(seed, 64, 32), shorter=_SHORT, seed=seed)),
    ),
    Method(
        "GA + SVM",
        99.50,
        "the algorithm chooses features by this machine's own accuracy",
        lambda seed: _hand_made(GeneticSelection(SVC(C=10, class_weight="balanced"), seed=seed)),
    ),
    Method("RBF SVM", 98.5, "", lambda _seed: _hand_made(SVC(C=10, class_weight="balanced"))),
    Method(
        "linear SVM",
        None,
        "the study quotes 89.81 to 99.00 for SVM pipelines",
        lambda _seed: _hand_made(SVC(kernel="linear", C=0.1, class_weight="balanced")),
    ),
    Method("simple CNN", 81.74, "two convolutions on 32 x 32 pixels, from random weights", _simple_cnn),
    Method(
        "GAO (stand-in)",
        93.84,
        "the study gives a name and a figure; here grasshopper optimisation weights features for an RBF SVM",
        lambda seed: _hand_made(GrasshopperWeights(SVC(C=10, class_weight="balanced"), seed=seed)),
    ),
    Method(
        "SCA deep CNN (stand-in)",
        98.70,
        "the search space and the network are not given; here a sine-cosine search sets up the small CNN",
        _sine_cosine,
    ),
)
"""The study's comparison. Two are stand-ins, and say so in their names."""
