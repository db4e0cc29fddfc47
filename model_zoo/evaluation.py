"""Figures on test patients, each with its interval, and the table that shows them."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from model_zoo.calibration import calibration_error
from model_zoo.card import Card, ClassMetrics, Estimate, Metrics
from model_zoo.detector import Detector
from model_zoo.engines import Outputs
from model_zoo.guard import Guard
from model_zoo.intervals import bootstrap, bootstrapped, f1_scores, patient_confusions, proportion, recalls
from model_zoo.predictor import Predictor, calibrated

SIMULATED_STATEMENT = "SIMULATED: frames of simulated patients; says nothing of accuracy on real smears."
REAL_STATEMENT = "Frames of the named sources only; where class equals source, this measures the source as much as disease."


def measure(
    outputs: Outputs,
    labels: NDArray[np.int64],
    groups: NDArray[np.int64],
    *,
    card: Card,
    detector: Detector,
    engine: str,
    simulated: bool,
    baseline: Estimate | None = None,
) -> Metrics:
    """Compare a network's outputs with the truth.

    Args:
        outputs: Of N test frames; the activation maps may be empty.
        labels: (N,) true class numbers.
        groups: (N,) patient group numbers.
        card: For calibration and thresholds.
        detector: The package's model of the training features.
        engine: Engine and precision that gave the outputs.
        simulated: Whether the frames are.
        baseline: The baseline's macro accuracy on the same frames.
    """
    probabilities = calibrated(outputs.logits, card.calibration.temperature, trained=card.trained)
    predicted = probabilities.argmax(axis=1)
    confusions = patient_confusions(labels, predicted, groups, classes=len(card.labels))
    total, draws = confusions.sum(axis=0), bootstrap(confusions)
    patients = len(confusions)
    answers = Guard(card.rules, detector).interpret(outputs)
    reported = np.asarray([answer.decision == "report" for answer in answers])
    covered = np.asarray(
        [card.labels[label] in answer.prediction_set for label, answer in zip(labels, answers, strict=True)]
    )
    right = predicted == labels
    return Metrics(
        statement=SIMULATED_STATEMENT if simulated else REAL_STATEMENT,
        engine=engine,
        frames=len(labels),
        patients=patients,
        accuracy=proportion(int(right.sum()), len(labels)),
        macro_accuracy=macro_accuracy(confusions),
        per_class=tuple(
            _class_metrics(number, name, total, draws, patients) for number, name in enumerate(card.labels)
        ),
        confusion=tuple(tuple(int(value) for value in row) for row in total),
        expected_calibration_error=round(calibration_error(probabilities, labels), 5),
        set_coverage=proportion(int(covered.sum()), len(labels)),
        referred=proportion(int((~reported).sum()), len(labels)),
        reported_accuracy=proportion(int((right & reported).sum()), int(reported.sum())),
        baseline_macro_accuracy=baseline,
    )


def collect(predictor: Predictor, inputs: Iterable[NDArray[np.float32]]) -> Outputs:
    """Run prepared inputs through a started predictor, in batches."""
    found, batch = [], []
    for prepared in inputs:
        batch.append(prepared)
        if len(batch) == predictor.max_batch_size:
            found.append(predictor.run(batch))
            batch = []
    if batch:
        found.append(predictor.run(batch))
    return Outputs(*(np.concatenate(column) for column in zip(*found, strict=True)))


def macro_accuracy(confusions: NDArray[np.float64]) -> Estimate:
    """Mean of the recalls of the classes present, with a bootstrap interval over patients.

    Args:
        confusions: (G, C, C), one matrix a patient.
    """
    value = float(np.nanmean(recalls(confusions.sum(axis=0))))
    with np.errstate(invalid="ignore"):
        draws = np.nanmean(recalls(bootstrap(confusions)), axis=1)
    return bootstrapped(value, draws, patients=len(confusions))


def _class_metrics(
    number: int, label: str, total: NDArray[np.float64], draws: NDArray[np.float64], patients: int
) -> ClassMetrics:
    hits = int(total[number, number])
    truth, called, frames = int(total[number].sum()), int(total[:, number].sum()), int(total.sum())
    rest = frames - truth - called + hits
    f1 = f1_scores(total)[number]
    return ClassMetrics(
        label=label,
        frames=truth,
        accuracy=proportion(hits + rest, frames),
        precision=proportion(hits, called),
        recall=proportion(hits, truth),
        specificity=proportion(rest, frames - truth),
        f1=bootstrapped(float(np.nan_to_num(f1)), f1_scores(draws)[:, number], patients=patients),
    )


def format_table(metrics: Metrics, *, name: str) -> str:
    """A plain-text table of the figures, in percent, with 95 % intervals."""

    def cell(estimate: Estimate) -> str:
        if not estimate.n:
            return f"{'-':>6}"
        return f"{100 * estimate.value:6.2f} ({100 * estimate.low:.1f} to {100 * estimate.high:.1f})"

    width = 24
    lines = [
        metrics.statement,
        f"{metrics.frames} frames of {metrics.patients} patients, {metrics.engine}; percent (95 % interval)",
        "",
        f"{name + ', macro accuracy':<40}{cell(metrics.macro_accuracy)}",
    ]
    if metrics.baseline_macro_accuracy is not None:
        lines.append(f"{'baseline, macro accuracy':<40}{cell(metrics.baseline_macro_accuracy)}")
    lines += [
        f"{'accuracy':<40}{cell(metrics.accuracy)}",
        f"{'referred to a person':<40}{cell(metrics.referred)}",
        f"{'accuracy of those reported':<40}{cell(metrics.reported_accuracy)}",
        f"{'prediction set holds the truth':<40}{cell(metrics.set_coverage)}",
        f"{'calibration error':<40}{100 * metrics.expected_calibration_error:6.2f}",
        "",
        f"{'class':<9}{'frames':>7}  "
        + "".join(f"{title:<{width}}" for title in ("accuracy", "precision", "recall", "specificity", "F1")),
    ]
    lines += [
        f"{row.label:<9}{row.frames:>7}  "
        + "".join(f"{cell(e):<{width}}" for e in (row.accuracy, row.precision, row.recall, row.specificity))
        + (cell(row.f1) if row.frames else f"{'-':>6}")
        for row in metrics.per_class
    ]
    names = [row.label for row in metrics.per_class]
    lines += ["", "confusion, rows truth, columns prediction", f"{'':<9}" + "".join(f"{n:>9}" for n in names)]
    lines += [
        f"{label:<9}" + "".join(f"{count:>9}" for count in row)
        for label, row in zip(names, metrics.confusion, strict=True)
    ]
    return "\n".join(lines)
