"""Tables of a report: by class, by outcome, by source and site, sets, and why frames are referred."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model_zoo.card import Card
from model_zoo.report.answers import UNNAMED, Answers
from model_zoo.report.resampling import Resampling, spread

ACUTE: Final = ("ALL", "AML")


def by_class(answers: Answers, again: Resampling) -> list[dict[str, Any]]:
    """Sensitivity, specificity, positive predictive value and F1 of every class, all frames answered."""
    predicted, everything = answers.predicted, np.ones(len(answers), np.bool_)
    rows = []
    for number, name in enumerate(answers.classes):
        truth, called = answers.labels == number, predicted == number

        def f1(
            weights: NDArray[np.float64],
            truth: NDArray[np.bool_] = truth,
            called: NDArray[np.bool_] = called,
        ) -> float:
            both = float(weights @ (truth & called))
            total = float(weights @ truth + weights @ called)
            return 2 * both / total if total else float("nan")

        value = f1(np.ones(len(answers)))
        low, high, method = spread(again.each(f1, draws=1000), value, groups=again.count(truth | called))
        rows.append(
            {
                "class": name,
                "frames": int(truth.sum()),
                "groups": again.count(truth),
                "sensitivity": again.estimate_share(called, truth),
                "specificity": again.estimate_share(~called, ~truth),
                "ppv": again.estimate_share(truth, called & everything),
                "f1": {
                    "value": round(value, 5) if truth.any() else None,
                    "bootstrap": [round(low, 5), round(high, 5)],
                    "bootstrap_method": method,
                },
            }
        )
    return rows


def outcomes(answers: Answers, again: Resampling) -> dict[str, Any]:
    """What becomes of the labelled frames: reported or referred, right or wrong; and acute leukaemia that is missed."""
    right, reported = answers.predicted == answers.labels, answers.reported
    everything = np.ones(len(answers), np.bool_)
    acute_numbers = [answers.classes.index(name) for name in ACUTE if name in answers.classes]
    acute = np.isin(answers.labels, acute_numbers)
    missed = acute & reported & ~np.isin(answers.predicted, acute_numbers)
    return {
        "accuracy": again.estimate_share(right, everything),
        "referred": again.estimate_share(~reported, everything),
        "reported_right": again.estimate_share(reported & right, everything),
        "reported_wrong": again.estimate_share(reported & ~right, everything),
        "right_among_reported": again.estimate_share(right, reported),
        "wrong_caught": again.estimate_share(~reported, ~right),
        "right_among_referred": again.estimate_share(right, ~reported),
        "acute_missed": again.estimate_share(missed, acute),
    }


def prediction_sets(answers: Answers, again: Resampling, card: Card) -> dict[str, Any]:
    """Coverage of the prediction sets against their target, by class, and their sizes."""
    covered = np.asarray(
        [
            answers.classes[label] in answer.prediction_set
            for label, answer in zip(answers.labels.tolist(), answers.predictions, strict=True)
        ],
        np.bool_,
    )
    sizes = Counter(len(answer.prediction_set) for answer in answers.predictions)
    everything = np.ones(len(answers), np.bool_)
    return {
        "target": 1 - card.calibration.set_alpha,
        "method": card.calibration.set_method,
        "calibration_frames": card.calibration.frames,
        "calibration_patients": card.calibration.patients,
        "coverage": again.estimate_share(covered, everything),
        "by_class": [
            {"class": name, **again.estimate_share(covered, answers.labels == number)}
            for number, name in enumerate(answers.classes)
            if (answers.labels == number).any()
        ],
        "sizes": [
            {"size": size, "frames": sizes[size], "share": round(sizes[size] / len(answers), 5)}
            for size in range(len(answers.classes) + 1)
            if sizes[size]
        ],
        "mean_size": round(float(np.mean([len(answer.prediction_set) for answer in answers.predictions])), 4),
    }


def reasons(answers: Answers) -> list[dict[str, Any]]:
    """How many frames are referred for what; a frame may have more than one reason."""
    labelled = answers.labelled
    counts: dict[str, list[int]] = {}
    for answer, known in zip(answers.predictions, labelled.tolist(), strict=True):
        for reason in answer.reasons:
            counts.setdefault(reason.split(":", 1)[0], [0, 0])[0 if known else 1] += 1
    return [
        {
            "reason": code,
            "labelled": known,
            "share_of_labelled": round(known / max(int(labelled.sum()), 1), 5),
            "unlabelled": unknown,
        }
        for code, (known, unknown) in sorted(counts.items(), key=lambda item: -sum(item[1]))
    ]


def by_place(answers: Answers, places: Sequence[str], *, kind: str, seed: int) -> list[dict[str, Any]]:
    """Every source or site: frames, groups, classes, what is reported and referred, and what is right where known."""
    named = np.asarray([place or UNNAMED for place in places])
    rows = []
    for place in sorted(set(named.tolist())):
        part = answers.taken(named == place)
        again = Resampling.of(part.groups, seed=seed)
        right, reported, known = part.predicted == part.labels, part.reported, part.labelled
        everything = np.ones(len(part), np.bool_)
        scores = np.asarray([answer.ood_score for answer in part.predictions])
        rows.append(
            {
                kind: place,
                "frames": len(part),
                "labelled": int(known.sum()),
                "groups": again.groups,
                "classes": sorted({row.label for row in part.rows if row.label}),
                "referred": again.estimate_share(~reported, everything),
                "accuracy": again.estimate_share(right, known) if known.any() else None,
                "reported_wrong": again.estimate_share(reported & ~right, known) if known.any() else None,
                "right_among_reported": again.estimate_share(right, reported & known)
                if (reported & known).any()
                else None,
                "median_ood_score": round(float(np.median(scores)), 4),
                "called": {
                    name: int((part.predicted == number).sum()) for number, name in enumerate(part.classes)
                },
            }
        )
    return rows
