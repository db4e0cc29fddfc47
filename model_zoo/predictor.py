"""From frames to predictions: the one door that the worker and the command line use."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from model_zoo.card import Rules
from model_zoo.detector import Detector
from model_zoo.engines import Engine, Outputs, create_engine
from model_zoo.engines.protocol import EngineName, Precision
from model_zoo.errors import EngineError
from model_zoo.optics import with_optics
from model_zoo.package import ModelPackage
from model_zoo.tree.answer import FinerAnswer, FinerHead

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prediction:
    """The model's answer for one frame.

    Attributes:
        probabilities: Calibrated, one a label, in label order; they sum to 1.
        prediction: The most probable label.
        prediction_set: Labels that cannot be ruled out at the card's coverage, in label order.
        decision: `report`, or `refer` to a person.
        reasons: Why it was referred: sentences that start with a stable code and a colon; empty for `report`.
        ood_score: Distance from the training frames, 0 and up.
        ood_threshold: Above it, the frame is referred.
        activation: Rows of the predicted class's activation map, each value in 0..1.
        finer: Subtypes of the predicted label, where the package knows any.
        activation_absent: Why there is no activation map, which is all zero then; empty where there is one.
    """

    probabilities: tuple[float, ...]
    prediction: str
    prediction_set: tuple[str, ...]
    decision: str
    reasons: tuple[str, ...]
    ood_score: float
    ood_threshold: float
    activation: tuple[tuple[float, ...], ...]
    finer: FinerAnswer | None = None
    activation_absent: str = ""


class Predictor:
    """A package served by an engine.

    `prepare` may be called from any thread, before or after `start`; `infer` from one thread at a time.
    """

    def __init__(
        self,
        package: ModelPackage,
        *,
        engine: EngineName = "auto",
        precision: Precision = "auto",
        max_batch_size: int = 8,
    ) -> None:
        """Store what `start` will need.

        Args:
            package: A verified package.
            engine: Which runtime; `auto` takes the best that this machine has.
            precision: Number format of the computation; `auto` takes the fastest safe one.
            max_batch_size: Largest number of inputs in one call of `infer`.

        Raises:
            EngineError: If the engine is unknown or cannot run at that precision.
        """
        self.package = package
        self.max_batch_size = max_batch_size
        self._engine: Engine = create_engine(
            package, engine, precision=precision, max_batch_size=max_batch_size
        )
        self._detector: Detector | None = None
        self._finer: FinerHead | None = None

    @property
    def engine_name(self) -> str:
        """Engine and precision, e.g. `openvino-bf16`; final once started."""
        return self._engine.name

    @property
    def detector(self) -> Detector:
        """The package's model of the training features; there once started.

        Raises:
            EngineError: If the predictor has not been started.
        """
        if self._detector is None:
            msg = "the predictor has not been started: call start() first"
            raise EngineError(msg)
        return self._detector

    def start(self) -> None:
        """Load, compile and warm up; takes seconds."""
        self._detector = Detector.from_package(self.package)
        self._finer = FinerHead.from_package(self.package)
        self._engine.start()
        logger.info("serving %s %s with %s", self.package.name, self.package.version, self.engine_name)

    def stop(self) -> None:
        """Release the engine."""
        self._engine.stop()
        self._detector = None

    def prepare(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Turn a frame (H, W, 3) uint8 BGR into a network input (3, 224, 224) float32.

        Raises:
            ImageError: If the array is no such frame.
        """
        return self.package.card.preprocessing.prepare(image)

    def infer(self, batch: Sequence[NDArray[np.float32]]) -> list[Prediction]:
        """Answer for prepared inputs.

        Args:
            batch: 1 to `max_batch_size` arrays from `prepare`.

        Returns:
            One prediction an input, in order.

        Raises:
            EngineError: If not started, the batch is empty or too large, or the runtime fails.
        """
        return interpret(
            self.run(batch),
            self.package.card.rules,
            self.detector,
            finer=self._finer,
            absent=self.activation_absent,
        )

    @property
    def activation_absent(self) -> str:
        """Why this engine gives no activation map for this package; empty where it does."""
        if self.package.card.activation == "in the graph" or self.engine_name.startswith("torch"):
            return ""
        return (
            f"no activation map: that of {self.package.card.architecture} takes a backward pass, which {self.engine_name} does not "
            "make; serve it with the torch engine to have one."
        )

    def run(self, batch: Sequence[NDArray[np.float32]]) -> Outputs:
        """The network's raw outputs for prepared inputs, with the optics of each, as `infer` interprets them.

        Raises:
            EngineError: If not started, the batch is empty or too large, or the runtime fails.
        """
        if self._detector is None:
            msg = "the predictor has not been started: call start() first"
            raise EngineError(msg)
        if not 1 <= len(batch) <= self.max_batch_size:
            msg = f"a batch holds 1 to {self.max_batch_size} inputs, not {len(batch)}"
            raise EngineError(msg)
        return with_optics(self._engine.run(np.stack(batch)), batch, self.package.card.preprocessing)

    def predict(self, images: Sequence[NDArray[np.uint8]]) -> list[Prediction]:
        """Prepare and infer any number of frames, in batches."""
        inputs = [self.prepare(image) for image in images]
        predictions: list[Prediction] = []
        for first in range(0, len(inputs), self.max_batch_size):
            predictions += self.infer(inputs[first : first + self.max_batch_size])
        return predictions


def calibrated(
    logits: NDArray[np.float32], temperature: float, *, trained: Sequence[bool] | None = None
) -> NDArray[np.float64]:
    """Softmax of logits (N, C) over the temperature, in float64.

    Args:
        logits: (N, C).
        temperature: Above 0.
        trained: By class, whether the network was trained on it; the others get exactly 0. All otherwise.
    """
    scaled = logits.astype(np.float64) / temperature
    if trained is not None and not all(trained):
        scaled = np.where(np.asarray(trained), scaled, -np.inf)
    scaled -= scaled.max(axis=1, keepdims=True)
    odds = np.exp(scaled)
    return np.asarray(odds / odds.sum(axis=1, keepdims=True), np.float64)


def interpret(
    outputs: Outputs,
    rules: Rules,
    detector: Detector,
    *,
    finer: FinerHead | None = None,
    absent: str = "",
) -> list[Prediction]:
    """Turn a network's outputs into predictions, by what the card states.

    Args:
        outputs: Of N frames.
        rules: Of the card.
        detector: Of the package.
        finer: Of the package, where it tells subtypes apart.
        absent: Why there are no activation maps, where there are none.
    """
    probabilities = calibrated(outputs.logits, rules.calibration.temperature, trained=rules.trained)
    scores = detector.score(outputs.features)
    found = [
        _interpret_one(probabilities[row], float(scores[row]), outputs.activation[row], rules)
        for row in range(len(probabilities))
    ]
    if absent:
        found = [replace(one, activation_absent=absent) for one in found]
    if finer is not None:
        found = [
            replace(one, finer=_finer(one, outputs.features[row], rules, finer))
            for row, one in enumerate(found)
        ]
    return found


def _finer(
    found: Prediction, features: NDArray[np.float32], rules: Rules, head: FinerHead
) -> FinerAnswer | None:
    probability = found.probabilities[rules.labels.index(found.prediction)]
    return head.answer(
        found.prediction,
        probability,
        features,
        certain=found.prediction_set == (found.prediction,),
        foreign=not found.ood_score <= found.ood_threshold,
    )


def _interpret_one(
    probabilities: NDArray[np.float64], score: float, maps: NDArray[np.float32], rules: Rules
) -> Prediction:
    best = int(probabilities.argmax())
    calibration, outside = rules.calibration, rules.out_of_distribution
    members = tuple(
        label
        for number, label in enumerate(rules.labels)
        if rules.trained[number] and probabilities[number] >= calibration.threshold_of(number)
    )
    reasons: list[str] = []
    if not score <= outside.threshold:  # also where the score is not a number
        reasons.append(
            f"out_of_distribution: the frame is unlike the training smears "
            f"(score {score:.2f}, limit {outside.threshold:.2f}); the probabilities mean little here."
        )
    if not members:
        reasons.append(
            f"no_class_certain: no class is as probable as {1 - calibration.set_alpha:.1%} coverage asks for "
            f"({rules.labels[best]} has {probabilities[best]:.2f}, and would need {calibration.threshold_of(best):.2f})."
        )
    elif len(members) > 1:
        reasons.append(
            f"ambiguous: {' and '.join(members)} cannot be told apart at {1 - calibration.set_alpha:.1%} coverage."
        )
    elif members[0] != rules.labels[best]:
        reasons.append(
            f"ambiguous: {rules.labels[best]} is the most probable, and {members[0]} alone cannot be ruled out at "
            f"{1 - calibration.set_alpha:.1%} coverage."
        )
    reasons += _acute_reasons(probabilities, best, rules)
    return Prediction(
        probabilities=tuple(float(p) for p in probabilities),
        prediction=rules.labels[best],
        prediction_set=members,
        decision="refer" if reasons else "report",
        reasons=tuple(reasons),
        ood_score=score,
        ood_threshold=outside.threshold,
        activation=_grid(maps[best]),
    )


def _acute_reasons(probabilities: NDArray[np.float64], best: int, rules: Rules) -> list[str]:
    """Why a frame that is called something else may not be reported as that: it may be acute leukaemia."""
    rule = rules.acute
    if rule is None or rules.labels[best] in rule.labels:
        return []
    mass = sum(float(p) for label, p in zip(rules.labels, probabilities, strict=True) if label in rule.labels)
    if mass <= rule.threshold:
        return []
    said = (
        f"acute_not_excluded: {' or '.join(rule.labels)} has a probability of {mass:.3f}, above the limit of "
        f"{rule.threshold:.3f}: a person has to rule out acute leukaemia before this is called {rules.labels[best]}."
    )
    return [said]


def _grid(activation: NDArray[np.float32]) -> tuple[tuple[float, ...], ...]:
    """Positive evidence only, as in Grad-CAM (Selvaraju et al. 2017), scaled so that the strongest place is 1."""
    heat = np.maximum(np.nan_to_num(activation), 0.0)
    top = float(heat.max())
    if top > 0:
        heat = heat / top
    return tuple(tuple(round(float(value), 4) for value in row) for row in heat)
