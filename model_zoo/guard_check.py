"""Does a guard keep its word? Calibration, sets, the acute rule and the detector, on groups that no threshold has seen."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model_zoo.acute import ACUTE
from model_zoo.calibration import calibration_error, weighted_calibration_error
from model_zoo.card import Estimate, GuardMetrics, OutsideRow
from model_zoo.engines import Outputs
from model_zoo.guard import Evidence, Guard
from model_zoo.intervals import auroc, clopper_pearson_upper, grouped_share
from model_zoo.outside import Strange
from model_zoo.predictor import calibrated

Run = Callable[[Sequence[NDArray[np.uint8]]], Outputs]
DRAWS = 500
FLOOR_DRAWS = 100


@dataclass(frozen=True)
class Outsiders:
    """Answers for frames of one kind outside; labels are -1 where there is no true class."""

    kind: str
    outputs: Outputs
    labels: NDArray[np.int64]
    groups: NDArray[np.int64]


def gather(frames: Iterable[Strange], run: Run, *, batch: int = 8) -> list[Outsiders]:
    """Run strange frames through a network, and sort them by kind, in the order of first appearance.

    Args:
        frames: In any order.
        run: From frames (H, W, 3) to outputs.
        batch: Frames at a time.
    """
    rows: dict[str, list[tuple[int, int]]] = {}
    answers: dict[str, list[tuple[NDArray[np.float32], NDArray[np.float32]]]] = {}
    waiting: list[Strange] = []

    def flush() -> None:
        outputs = run([frame.image for frame in waiting])
        for position, frame in enumerate(waiting):
            rows.setdefault(frame.kind, []).append((frame.label, frame.group))
            answers.setdefault(frame.kind, []).append((outputs.logits[position], outputs.features[position]))
        waiting.clear()

    for frame in frames:
        waiting.append(frame)
        if len(waiting) == batch:
            flush()
    if waiting:
        flush()
    found = []
    for kind, known in rows.items():
        labels, groups = (np.asarray(column, np.int64) for column in zip(*known, strict=True))
        logits, features = (np.stack(column) for column in zip(*answers[kind], strict=True))
        found.append(
            Outsiders(
                kind, Outputs(logits, features, np.zeros((len(logits), 0, 0, 0), np.float32)), labels, groups
            )
        )
    return found


def check_guard(
    inside: Evidence,
    outside: Sequence[Outsiders],
    guard: Guard,
    *,
    engine: str,
    statement: str,
    seed: int = 0,
) -> GuardMetrics:
    """Compare a guard's promises with what became of frames.

    Args:
        inside: Frames of groups that neither training nor any threshold has seen, from the same sources.
        outside: Frames that it should refuse.
        guard: To check.
        engine: Engine and precision that gave the outputs.
        statement: What the figures hold for.
        seed: Of the draws.
    """
    rules = guard.rules
    answers = guard.interpret(inside.outputs)
    probabilities = calibrated(inside.outputs.logits, rules.calibration.temperature, trained=rules.trained)
    labels, groups = inside.labels, inside.groups
    scores = np.asarray([answer.ood_score for answer in answers])
    covered = np.asarray(
        [rules.labels[label] in answer.prediction_set for label, answer in zip(labels, answers, strict=True)]
    )
    acute = np.isin(labels, [rules.labels.index(name) for name in ACUTE if name in rules.labels])
    missed = np.asarray(
        [answer.decision == "report" and answer.prediction not in ACUTE for answer in answers], np.bool_
    )
    groups_missed = len(np.unique(groups[acute & missed]))
    return GuardMetrics(
        statement=statement,
        engine=engine,
        calibration_error=_calibration_error(probabilities, labels, groups, seed=seed),
        calibration_floor=_calibration_floor(probabilities, seed=seed),
        set_target=1 - rules.calibration.set_alpha,
        set_coverage=grouped_share(covered, groups, seed=seed),
        set_coverage_by_class={
            name: grouped_share(covered[labels == number], groups[labels == number], seed=seed)
            for number, name in enumerate(rules.labels)
            if (labels == number).any()
        },
        mean_set_size=round(float(np.mean([len(answer.prediction_set) for answer in answers])), 4),
        acute_missed=grouped_share(missed[acute], groups[acute], seed=seed),
        acute_upper_bound=clopper_pearson_upper(groups_missed, len(np.unique(groups[acute]))),
        accepted=grouped_share(scores <= rules.out_of_distribution.threshold, groups, seed=seed),
        outside=tuple(_row(part, scores, groups, guard, seed=seed) for part in outside),
    )


def _row(
    part: Outsiders, inside: NDArray[np.float64], groups: NDArray[np.int64], guard: Guard, *, seed: int
) -> OutsideRow:
    answers = guard.interpret(part.outputs)
    labels = guard.rules.labels
    scores = np.asarray([answer.ood_score for answer in answers])
    reported = np.asarray([answer.decision == "report" for answer in answers])
    right = np.asarray(
        [
            label >= 0 and answer.prediction == labels[label]
            for label, answer in zip(part.labels, answers, strict=True)
        ]
    )
    known = reported & (part.labels >= 0)
    return OutsideRow(
        kind=part.kind,
        frames=len(answers),
        auroc=auroc(inside, scores, inside_groups=groups, outside_groups=part.groups, seed=seed),
        let_in=grouped_share(scores <= guard.rules.out_of_distribution.threshold, part.groups, seed=seed),
        reported=grouped_share(reported, part.groups, seed=seed),
        agreeing=grouped_share(right[known], part.groups[known], seed=seed) if known.any() else None,
    )


def _calibration_error(
    probabilities: NDArray[np.float64], labels: NDArray[np.int64], groups: NDArray[np.int64], *, seed: int
) -> Estimate:
    error = weighted_calibration_error(probabilities, labels)
    _, own = np.unique(groups, return_inverse=True)
    count = int(own.max()) + 1
    times = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=DRAWS)
    draws = [error(row[own].astype(np.float64)) for row in times]
    low, high = (float(end) for end in np.percentile(draws, [2.5, 97.5]))
    value = error(np.ones(len(labels)))
    return Estimate(
        value=value,
        low=min(low, value),
        high=max(high, value),
        n=len(labels),
        method="bootstrap 95 % over groups, bins kept; leans upward",
    )


def _calibration_floor(probabilities: NDArray[np.float64], *, seed: int) -> float:
    """Mean error of answers that are right exactly as often as these probabilities say, frames independent."""
    rng = np.random.default_rng(seed)
    confidence = probabilities.max(axis=1)
    answers = probabilities.argmax(axis=1)
    other = (answers + 1) % probabilities.shape[1]
    found = [
        calibration_error(probabilities, np.where(rng.random(len(answers)) < confidence, answers, other))
        for _ in range(FLOOR_DRAWS)
    ]
    return round(float(np.mean(found)), 5)


def describe(metrics: GuardMetrics) -> str:
    """A plain-text table, in percent."""

    def cell(estimate: Estimate) -> str:
        return f"{100 * estimate.value:6.2f} ({100 * estimate.low:.1f} to {100 * estimate.high:.1f})"

    off = 100 * abs(metrics.set_coverage.value - metrics.set_target)
    floor = (
        ""
        if metrics.calibration_floor is None
        else f", exact probabilities would show {100 * metrics.calibration_floor:.1f} by chance"
    )
    lines = [
        metrics.statement,
        f"{metrics.calibration_error.n} frames inside, {metrics.engine}; percent (95 % interval over groups)",
        "",
        f"{'expected calibration error':<44}{cell(metrics.calibration_error)}{floor}",
        f"{'prediction set holds the truth':<44}{cell(metrics.set_coverage)}, target {100 * metrics.set_target:.1f}, {off:.1f} off",
        *(f"{'  of ' + name:<44}{cell(row)}" for name, row in metrics.set_coverage_by_class.items()),
        f"{'mean size of the set':<44}{metrics.mean_set_size:6.2f}",
        f"{'acute leukaemia reported as not acute':<44}{cell(metrics.acute_missed)}, at most {100 * metrics.acute_upper_bound:.1f}",
        f"{'inside frames accepted by the detector':<44}{cell(metrics.accepted)}",
    ]
    if metrics.outside:
        lines += [
            "",
            f"{'outside':<34}{'frames':>7}  {'AUROC':<24}{'let in':<24}{'reported':<24}right of these",
        ]
        lines += [
            f"{row.kind:<34}{row.frames:>7}  {cell(row.auroc):<24}{cell(row.let_in):<24}{cell(row.reported):<24}"
            f"{cell(row.agreeing) if row.agreeing else '     -'}"
            for row in metrics.outside
        ]
    return "\n".join(lines)
