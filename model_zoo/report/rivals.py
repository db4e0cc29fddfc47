"""Simpler answers on the same frames, and the paired difference: what a package has to beat before its figures say much."""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model_zoo.datasets.manifest import load_image
from model_zoo.preprocessing import Preprocessing
from model_zoo.report.answers import Answers
from model_zoo.report.resampling import Resampling

FOLDS: Final = 5
_FEWEST_GROUPS: Final = 10


def rivals(
    answers: Answers,
    again: Resampling,
    *,
    preprocessing: Preprocessing,
    seed: int,
    progress: Callable[[str, int, int], None],
) -> list[dict[str, Any]]:
    """Every rival's accuracy and mean recall on the labelled frames, and the package's lead with its interval.

    Args:
        answers: Of labelled frames.
        again: Over their groups; the same draws serve both sides of a difference.
        preprocessing: For the size at which the random forest sees a frame.
        seed: Of folds and forest.
        progress: Told what is going on.
    """
    rows = [
        _against("largest class of these frames", _largest(answers), answers, again),
        _against(
            "largest class of a frame's source, no look at the frame", _by_source(answers), answers, again
        ),
    ]
    name = f"random forest on colour and texture, {FOLDS} folds of whole groups of these frames"
    try:
        guesses = _forest(answers, preprocessing, seed, progress)
    except ImportError:
        return [*rows, {"name": name, "reason": "not done: scikit-learn is not installed here"}]
    if guesses is None:
        return [*rows, {"name": name, "reason": "not done: it takes two classes and ten groups"}]
    return [*rows, _against(name, guesses, answers, again)]


def _against(name: str, guesses: NDArray[np.int64], answers: Answers, again: Resampling) -> dict[str, Any]:
    ours, theirs = answers.predicted == answers.labels, guesses == answers.labels
    present = [answers.labels == number for number in np.unique(answers.labels).tolist()]

    def recall(right: NDArray[np.bool_], weights: NDArray[np.float64]) -> float:
        shares = [
            float(weights @ (right & own)) / total for own in present if (total := float(weights @ own))
        ]
        return sum(shares) / len(shares)

    def lead(weights: NDArray[np.float64]) -> float:
        return recall(ours, weights) - recall(theirs, weights)

    ones, everything = np.ones(len(answers)), np.ones(len(answers), np.bool_)
    gain = again.share(ours, everything) - again.share(theirs, everything)
    return {
        "name": name,
        "accuracy": again.estimate_share(theirs, everything),
        "mean_recall": round(recall(theirs, ones), 5),
        "accuracy_lead": round(float(ours.mean() - theirs.mean()), 5),
        "accuracy_lead_interval": [round(float(end), 5) for end in np.percentile(gain, [2.5, 97.5])],
        "mean_recall_lead": round(lead(ones), 5),
        "mean_recall_lead_interval": [
            round(float(end), 5) for end in np.percentile(again.each(lead), [2.5, 97.5])
        ],
        "method": "paired bootstrap over groups",
    }


def _largest(answers: Answers) -> NDArray[np.int64]:
    return np.full(len(answers), np.bincount(answers.labels).argmax(), np.int64)


def _by_source(answers: Answers) -> NDArray[np.int64]:
    sources = np.asarray(answers.sources)
    guesses = np.zeros(len(answers), np.int64)
    for source in set(sources.tolist()):
        own = sources == source
        guesses[own] = np.bincount(answers.labels[own]).argmax()
    return guesses


def _forest(
    answers: Answers, preprocessing: Preprocessing, seed: int, progress: Callable[[str, int, int], None]
) -> NDArray[np.int64] | None:
    if len(np.unique(answers.groups)) < _FEWEST_GROUPS or len(np.unique(answers.labels)) < 2:  # noqa: PLR2004
        return None
    from sklearn.ensemble import RandomForestClassifier  # noqa: PLC0415 - takes seconds, and only the train extra has it
    from sklearn.model_selection import GroupKFold  # noqa: PLC0415

    from model_zoo.baseline import image_features  # noqa: PLC0415

    features = []
    for number, row in enumerate(answers.rows, start=1):
        features.append(image_features(preprocessing.resize(load_image(row))))
        progress("Describing colour and texture", number, len(answers))
    table, guesses = np.stack(features), np.zeros(len(answers), np.int64)
    for learn, held in GroupKFold(FOLDS, shuffle=True, random_state=seed).split(table, groups=answers.groups):
        forest = RandomForestClassifier(200, class_weight="balanced_subsample", random_state=seed)
        guesses[held] = forest.fit(table[learn], answers.labels[learn]).predict(table[held])
    return guesses
