"""The guard of a network: calibration, prediction sets, the acute rule and the detector, fitted together.

It needs a network's outputs and nothing else, so that it serves a package as well as a network still in the making (leaving
one source out, for instance).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model_zoo.acute import MISS_LIMIT, fit_acute_rule
from model_zoo.calibration import fit_set_thresholds, fit_temperature
from model_zoo.card import Calibration, OutOfDistribution, Rules
from model_zoo.detector import Detector
from model_zoo.detector_fit import ACCEPTANCE, DIMENSIONS, FittedDetector, Population, fit_detector
from model_zoo.engines import Outputs
from model_zoo.errors import TrainingError
from model_zoo.predictor import Prediction, calibrated, interpret


@dataclass(frozen=True)
class Evidence:
    """A network's answers for N frames, and what is known of each.

    Attributes:
        outputs: The activation maps may be empty.
        labels: (N,) class numbers.
        groups: (N,) group numbers.
        sources: (N,) where each comes from.
    """

    outputs: Outputs
    labels: NDArray[np.int64]
    groups: NDArray[np.int64]
    sources: Sequence[str]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def population(self) -> Population:
        """For the detector."""
        return Population(self.outputs.features, self.labels, self.groups, self.sources)

    def joined(self, other: "Evidence") -> "Evidence":
        """Both together; the groups of the two are held to be different ones."""
        own, further = (np.unique(part.groups, return_inverse=True)[1] for part in (self, other))
        return Evidence(
            Outputs(*(np.concatenate(pair) for pair in zip(self.outputs, other.outputs, strict=True))),
            np.concatenate([self.labels, other.labels]),
            np.concatenate([own, further + own.max() + 1]).astype(np.int64),
            (*self.sources, *other.sources),
        )


@dataclass(frozen=True)
class GuardSettings:
    """What is asked of a guard.

    Attributes:
        acceptance: Share of frames of further groups that must count as inside.
        alpha: Wanted miscoverage of the prediction sets.
        miss_limit: Largest wanted share of acute frames reported as not acute.
        dimensions: Principal directions of a block of features.
    """

    acceptance: float = ACCEPTANCE
    alpha: float = 0.01
    miss_limit: float = MISS_LIMIT
    dimensions: int = DIMENSIONS


@dataclass(frozen=True)
class Guard:
    """What stands between a network's outputs and a report."""

    rules: Rules
    detector: Detector

    def interpret(self, outputs: Outputs) -> list[Prediction]:
        """Turn outputs into predictions; the activation maps may have no places."""
        return interpret(with_maps(outputs, classes=len(self.rules.labels)), self.rules, self.detector)


def with_maps(outputs: Outputs, *, classes: int) -> Outputs:
    """The same outputs, with maps of one empty place where there are none."""
    count = len(outputs.logits)
    if outputs.activation.ndim == 4 and outputs.activation.size:  # noqa: PLR2004
        return outputs
    return Outputs(outputs.logits, outputs.features, np.zeros((count, classes, 1, 1), np.float32))


def fit_guard(
    training: Evidence,
    calibration: Evidence,
    *,
    labels: tuple[str, ...],
    bounds: dict[str, tuple[int, int]],
    settings: GuardSettings | None = None,
) -> Guard:
    """Fit a guard.

    Args:
        training: Frames that the network was trained on, for the detector's clusters; a part of them will do.
        calibration: Frames of groups that it was not trained on, for every limit.
        labels: All classes; those without a training frame get a probability of exactly 0.
        bounds: Where the features of each block lie: `SmearNetwork.feature_bounds`.
        settings: What is asked of it.

    Raises:
        TrainingError: If there is no calibration frame, or one of a class without a training frame.
    """
    settings = settings or GuardSettings()
    trained = tuple(bool((training.labels == number).any()) for number in range(len(labels)))
    if not len(calibration):
        raise TrainingError(
            "no calibration frame: thresholds need groups that training has not seen; split with a calibration part"
        )
    strange = [labels[number] for number in np.unique(calibration.labels) if not trained[number]]
    if strange:
        raise TrainingError(
            f"calibration has frames of {', '.join(strange)}, and training none: split so that every class is in training, or "
            "leave the class out"
        )
    logits, truth, groups = calibration.outputs.logits, calibration.labels, calibration.groups
    temperature = fit_temperature(logits, truth, groups=groups, trained=trained)
    probabilities = calibrated(logits, temperature, trained=trained)
    sets = fit_set_thresholds(probabilities, truth, groups, alpha=settings.alpha, classes=labels)
    fitted = fit_detector(
        training.population,
        calibration.population,
        bounds=bounds,
        classes=labels,
        acceptance=settings.acceptance,
        dimensions=settings.dimensions,
    )
    rules = Rules(
        labels=labels,
        trained=trained,
        calibration=Calibration(
            temperature=temperature,
            set_threshold=sets.common,
            set_thresholds=sets.by_class,
            set_alpha=sets.alpha,
            set_method=sets.method,
            set_statement=sets.statement,
            frames=len(calibration),
            patients=fitted.groups,
        ),
        out_of_distribution=OutOfDistribution(
            method="mahalanobis, nearest class and source, largest of blocks",
            threshold=1.0,
            acceptance=settings.acceptance,
            blocks=fitted.detector.blocks,
            clusters=fitted.clusters,
            groups=fitted.groups,
            statement=_detector_statement(sorted(set(calibration.sources)), fitted, settings.acceptance),
        ),
        acute=fit_acute_rule(probabilities, truth, groups, classes=labels, miss_limit=settings.miss_limit),
    )
    return Guard(rules, fitted.detector)


def _detector_statement(sources: Sequence[str], fitted: FittedDetector, acceptance: float) -> str:
    said = (
        f"{acceptance:.0%} of frames of further groups from {', '.join(sources)} "
        f"{'lie' if fitted.shown else 'should lie'} at or below 1, on the word of {fitted.groups} groups. "
        "Of other sources nothing is promised: the detector sees camera, stain, scale and sharpness, and may let in what looks alike."
    )
    if not fitted.shown:
        said += (
            f" The groups are too few to promise it (it takes {fitted.needed}): here it is an aim, and a limit that lacks groups is the "
            "largest score of theirs."
        )
    return said
