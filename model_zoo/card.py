"""The model card: what a package says of itself, validated before anything else of the package is touched."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from model_zoo.errors import CardError
from model_zoo.preprocessing import Preprocessing
from model_zoo.tree.statement import FinerLabels

SCHEMA_VERSION: Final = "3"
READABLE_VERSIONS: Final = ("1", "2", "3")
CARD_FILE: Final = "card.json"
WEIGHTS_FILE: Final = "model.safetensors"
GRAPH_FILE: Final = "graph.onnx"
NAME_PATTERN: Final = r"^[a-z0-9][a-z0-9._-]{0,63}$"
"""Of a package's name, which is its folder's too."""
GUARD_FILE: Final = "guard.safetensors"
"""Arrays of the out-of-distribution detector, apart from the weights: thresholds may be made anew, weights stay as they are."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Estimate(_Part):
    """A proportion with its interval."""

    value: float = Field(description="Point estimate.")
    low: float = Field(description="Lower end of the interval.")
    high: float = Field(description="Upper end of the interval.")
    n: int = Field(description="Number of frames (or patients) it rests on.")
    method: str = Field(default="wilson 95 %", description="How the interval was made.")


class Calibration(_Part):
    """How logits become probabilities and prediction sets."""

    temperature: float = Field(gt=0, description="Logits are divided by it before the softmax.")
    set_threshold: float = Field(
        ge=0,
        le=1,
        description="A class is in the prediction set at this probability or above, where it has no threshold of its own.",
    )
    set_thresholds: tuple[float | None, ...] = Field(
        default=(), description="By class, in label order; null or absent where the common threshold holds."
    )
    set_alpha: float = Field(gt=0, lt=1, description="Wanted miscoverage of the prediction set.")
    set_method: Literal[
        "split-conformal, marginal",
        "split-conformal over groups, marginal",
        "split-conformal over groups, by class",
        "split-conformal over groups, by class where there are groups enough",
    ] = "split-conformal, marginal"
    set_statement: str = Field(default="", description="What the sets promise, and what they cannot.")
    frames: int = Field(description="Calibration frames.")
    patients: int = Field(description="Calibration patients, none of them seen in training.")

    def threshold_of(self, number: int) -> float:
        """The probability from which a class is in the prediction set."""
        own = self.set_thresholds[number] if self.set_thresholds else None
        return self.set_threshold if own is None else own


class AcuteRule(_Part):
    """A frame that may well be acute leukaemia is never reported as anything else."""

    labels: tuple[str, ...] = Field(min_length=1, description="The acute classes.")
    threshold: float = Field(
        ge=0,
        le=1,
        description="Above this probability of the acute classes together, a frame whose most probable class is not acute is "
        "referred.",
    )
    miss_limit: float = Field(
        gt=0, lt=1, description="Largest wanted share of acute frames reported as not acute."
    )
    missed: Estimate = Field(
        description="Share of acute calibration frames that the rule alone lets through as not acute; every group weighs alike."
    )
    upper_bound: float = Field(
        ge=0, le=1, description="Above the miss rate of further groups with 95 % confidence, over groups."
    )
    cost: Estimate = Field(
        description="Share of calibration frames that are not acute and would be referred by the rule."
    )
    groups: int = Field(ge=0, description="Acute calibration groups.")
    shown: bool = Field(description="Whether the groups suffice to promise the limit for further groups.")
    statement: str


class FeatureBlock(_Part):
    """One stretch of the features, judged by itself: a level of the network, or, from version 3 on, the frame's optics behind them.

    Its arrays are `ood.<name>.mean`, `.scale` (D,), `.components` (D, K), and, from version 2 on, `.centres` (M, K) and
    `.whitening` (M, K, K) of the M clusters.
    """

    name: str = Field(pattern=r"^[a-z]+$", description="Names its arrays.")
    start: int = Field(ge=0, description="First feature of the block.")
    stop: int = Field(gt=0, description="First feature after it.")
    residual_scale: float | None = Field(
        default=None,
        gt=0,
        description="Typical squared residual outside the principal directions, where that counts.",
    )
    limit: float = Field(
        gt=0, description="Distance that counts as 1: a high quantile of calibration frames."
    )


class OutOfDistribution(_Part):
    """How far from the training frames is too far."""

    method: Literal[
        "mahalanobis, largest of blocks", "mahalanobis, nearest class and source, largest of blocks"
    ] = "mahalanobis, largest of blocks"
    threshold: float = Field(gt=0, description="Frames that score above it are referred.")
    acceptance: float = Field(
        gt=0, lt=1, description="Share of calibration frames at or below the threshold, every group alike."
    )
    blocks: tuple[FeatureBlock, ...] = Field(min_length=1)
    clusters: tuple[str, ...] = Field(
        default=(), description="What training frames are gathered by: source and class."
    )
    groups: int = Field(default=0, description="Calibration groups that the threshold rests on.")
    statement: str = Field(
        default="", description="Where the threshold comes from, and what it cannot promise."
    )


class OutsideRow(_Part):
    """One kind of frame that no training smear is like."""

    kind: str = Field(description="For instance: blank, blurred (sigma 4 pixels), half the magnification.")
    frames: int
    auroc: Estimate = Field(description="Against the frames inside, by the out-of-distribution score.")
    let_in: Estimate = Field(description="Share at or below the threshold.")
    reported: Estimate = Field(description="Share reported after all rules.")
    agreeing: Estimate | None = Field(
        default=None, description="Of those reported, where the true class is known: share that is right."
    )


class GuardMetrics(_Part):
    """How calibration, sets, the acute rule and the detector did on frames of groups that no threshold has seen."""

    statement: str = Field(description="What the figures hold for, with the word SIMULATED where it applies.")
    engine: str
    calibration_error: Estimate = Field(
        description="Expected calibration error, 15 bins of equal mass; interval over groups."
    )
    calibration_floor: float | None = Field(
        default=None,
        description="Mean error that exact probabilities would show by chance with so many frames; null where not measured.",
    )
    set_target: float
    set_coverage: Estimate = Field(description="Share of frames whose prediction set holds the truth.")
    set_coverage_by_class: dict[str, Estimate] = Field(default_factory=dict)
    mean_set_size: float
    acute_missed: Estimate = Field(
        description="Share of acute frames reported as not acute, all rules in force."
    )
    acute_upper_bound: float = Field(ge=0, le=1, description="Of that share, over groups, 95 %, one-sided.")
    accepted: Estimate = Field(description="Share of inside frames at or below the detector's threshold.")
    outside: tuple[OutsideRow, ...] = ()


class Expected(_Part):
    """What to expect of further frames of one kind."""

    scope: Literal["same sources, new patients", "a laboratory that it has never seen"]
    statement: str
    frames: int
    groups: int
    reported_wrong: Estimate = Field(description="Share of all frames that is reported and wrong.")
    error_among_reported: Estimate
    referred: Estimate
    method: str


class LeftOut(_Part):
    """What a network did on a source that its training left out."""

    source: str
    frames: int
    reported_right: int
    reported_wrong: int
    reported_unknown: int
    referred: int
    reasons: dict[str, int]
    identifiable: bool = Field(description="Whether the source's classes occur in another source too.")


class Expectation(_Part):
    """What the package's makers expect of its error."""

    inside: Expected | None = None
    unseen: Expected | None = None
    left_out: tuple[LeftOut, ...] = ()


SEEN_DIGITS = 16


class TrainingData(_Part):
    """What the network has seen."""

    statement: str = Field(description="What travels with every prediction.")
    sources: tuple[str, ...] = Field(description="Sources by name.")
    patients: int
    frames: int
    seed: int
    initial_weights: str = Field(description="Where training started from, e.g. 'random (from scratch)'.")
    classes: tuple[str, ...] = Field(
        default=(), description="The classes that it was trained on; all labels where none is named."
    )
    seen: tuple[str, ...] = Field(
        default=(),
        description="Images of training and calibration: the first 16 hexadecimal digits of their files' SHA-256.",
    )


class ClassMetrics(_Part):
    """Figures of one class, one against the rest."""

    label: str
    frames: int
    accuracy: Estimate
    precision: Estimate
    recall: Estimate
    specificity: Estimate
    f1: Estimate


class Metrics(_Part):
    """Figures on test patients that neither training nor calibration has seen."""

    statement: str = Field(description="What the figures hold for, with the word SIMULATED where it applies.")
    engine: str = Field(description="Engine and precision that the figures were made with.")
    frames: int
    patients: int
    accuracy: Estimate
    macro_accuracy: Estimate = Field(description="Mean of the recalls of the classes present.")
    per_class: tuple[ClassMetrics, ...]
    confusion: tuple[tuple[int, ...], ...] = Field(
        description="Rows: truth; columns: prediction; label order."
    )
    expected_calibration_error: float
    set_coverage: Estimate = Field(description="Share of frames whose prediction set holds the truth.")
    referred: Estimate = Field(description="Share of test frames referred to a person.")
    reported_accuracy: Estimate = Field(description="Accuracy over the frames that were not referred.")
    baseline_macro_accuracy: Estimate | None = Field(
        default=None,
        description="Random forest on colour and texture features, same training and test frames.",
    )


class Card(_Part):
    """card.json of a model package."""

    schema_version: Literal["1", "2", "3"]
    name: str = Field(pattern=NAME_PATTERN)
    version: str
    architecture: str = Field(description="By the name that `hemolink model train --architecture` has.")
    labels: tuple[str, ...]
    preprocessing: Preprocessing
    calibration: Calibration
    out_of_distribution: OutOfDistribution
    training_data: TrainingData
    acute: AcuteRule | None = None
    metrics: Metrics | None = None
    guard: GuardMetrics | None = None
    expectation: Expectation | None = None
    finer: FinerLabels | None = Field(
        default=None, description="Subtypes that the package tells apart within a class."
    )
    activation: Literal["in the graph", "gradient, torch only"] = Field(
        default="in the graph",
        description="Where activation maps come from; engines without torch give none in the second case, and say so.",
    )
    simulated: bool = Field(description="True where the network was trained on simulated smears.")
    intended_use: str
    licence: str
    created: str = Field(description="ISO 8601, UTC.")
    files: dict[str, str] = Field(description="SHA-256 by file name, in hexadecimal.")

    @property
    def trained(self) -> tuple[bool, ...]:
        """By label: whether the network was trained on it; the others have a probability of 0."""
        known = self.training_data.classes or self.labels
        return tuple(label in known for label in self.labels)

    @property
    def rules(self) -> "Rules":
        """What turns a network's outputs into a decision."""
        return Rules(self.labels, self.trained, self.calibration, self.out_of_distribution, self.acute)


@dataclass(frozen=True)
class Rules:
    """What turns a network's outputs into a decision, of a package or of one still in the making."""

    labels: tuple[str, ...]
    trained: tuple[bool, ...]
    calibration: Calibration
    out_of_distribution: OutOfDistribution
    acute: AcuteRule | None = None


def read_card(folder: Path) -> Card:
    """Read and validate card.json.

    Raises:
        CardError: If the file is missing, is not JSON, has an unknown schema version or a field that is wrong.
    """
    path = folder / CARD_FILE
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        msg = f"{path} is missing: a model package is a folder with {CARD_FILE}, {WEIGHTS_FILE} and {GRAPH_FILE}"
        raise CardError(msg) from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        msg = f"{path} cannot be read as JSON ({error}): fetch the package again"
        raise CardError(msg) from error
    version = raw.get("schema_version") if isinstance(raw, dict) else None
    if version not in READABLE_VERSIONS:
        msg = (
            f"{path} has schema version {version!r}; this release reads {', '.join(READABLE_VERSIONS)}: "
            "upgrade hemolink, or package the model again with this release"
        )
        raise CardError(msg)
    try:
        return Card.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        msg = f"{path} is not valid at {where}: {first['msg']} ({error.error_count()} fault(s)): package the model again"
        raise CardError(msg) from error
