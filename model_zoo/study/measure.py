"""The study's table from answers: accuracy, precision, recall and F1 by class, with intervals."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_zoo.audit.figure import macro_recall
from model_zoo.intervals import bootstrap, bootstrapped, f1_scores, patient_confusions
from model_zoo.labels import LABELS
from model_zoo.report.resampling import Resampling


@dataclass(frozen=True)
class Answers:
    """Answers of one network to tested images.

    Attributes:
        truth: (N,) class numbers.
        predicted: (N,) class numbers.
        groups: (N,) group numbers of the originals.
    """

    truth: NDArray[np.int64]
    predicted: NDArray[np.int64]
    groups: NDArray[np.int64]

    @property
    def right(self) -> NDArray[np.bool_]:
        """Where the answer is right."""
        return np.asarray(self.truth == self.predicted)


def measure(answers: Answers, *, classes: Sequence[int], seed: int = 0) -> dict[str, Any]:
    """All figures of a table.

    Every share has Wilson's interval over images, which supposes that they are independent, and a bootstrap over groups,
    which does not. Class accuracy is that of the study: yes or no, over all test images.

    Args:
        answers: To measure.
        classes: The class numbers that can occur.
        seed: Of the bootstrap.
    """
    again = Resampling.of(answers.groups, seed=seed)
    everything = np.ones(len(answers.truth), np.bool_)
    confusions = patient_confusions(answers.truth, answers.predicted, answers.groups, classes=len(LABELS))
    counts = confusions.sum(axis=0)
    draws = bootstrap(confusions, draws=1000, seed=seed)
    f1, f1_draws = f1_scores(counts), f1_scores(draws)
    balanced = macro_recall(answers.truth, answers.predicted, answers.groups, classes=len(LABELS))
    by_class = []
    for number in classes:
        truth, called = answers.truth == number, answers.predicted == number
        estimate = bootstrapped(
            float(np.nan_to_num(f1[number])), f1_draws[:, number], patients=again.count(truth | called)
        )
        by_class.append(
            {
                "class": LABELS[number],
                "images": int(truth.sum()),
                "groups": again.count(truth),
                "accuracy": again.estimate_share(truth == called, everything),
                "precision": again.estimate_share(truth, called),
                "recall": again.estimate_share(called, truth),
                "f1": {
                    "value": round(estimate.value, 5),
                    "bootstrap": [round(estimate.low, 5), round(estimate.high, 5)],
                },
            }
        )
    return {
        "images": len(answers.truth),
        "groups": again.groups,
        "errors": int((~answers.right).sum()),
        "accuracy": again.estimate_share(answers.right, everything),
        "balanced_accuracy": {
            "value": round(balanced.value, 5),
            "bootstrap": [round(balanced.low, 5), round(balanced.high, 5)],
        },
        "by_class": by_class,
        "labels": [LABELS[number] for number in classes],
        "confusion": counts[np.ix_(list(classes), list(classes))].astype(int).tolist(),
    }


def difference(first: Answers, second: Answers, *, seed: int = 0) -> dict[str, Any]:
    """Accuracy of the second less that of the first on the same images, paired, whole groups drawn again."""
    again = Resampling.of(first.groups, seed=seed)
    everything = np.ones(len(first.truth), np.bool_)
    draws = again.share(second.right, everything) - again.share(first.right, everything)
    low, high = np.percentile(draws[np.isfinite(draws)], [2.5, 97.5])
    value = float(second.right.mean() - first.right.mean())
    return {
        "value": round(value, 5),
        "interval": [round(float(low), 5), round(float(high), 5)],
        "method": "paired bootstrap 95 % over groups",
        "images": len(first.truth),
        "groups": again.groups,
    }
