"""The model card: what a package says of itself, validated before anything else of the package is touched."""

import json
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from model_zoo.errors import CardError
from model_zoo.preprocessing import Preprocessing

SCHEMA_VERSION: Final = "1"
CARD_FILE: Final = "card.json"
WEIGHTS_FILE: Final = "model.safetensors"
GRAPH_FILE: Final = "graph.onnx"


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
        ge=0, le=1, description="A class is in the prediction set at this probability or above."
    )
    set_alpha: float = Field(gt=0, lt=1, description="Wanted miscoverage of the prediction set.")
    set_method: Literal["split-conformal, marginal"] = "split-conformal, marginal"
    frames: int = Field(description="Calibration frames.")
    patients: int = Field(description="Calibration patients, none of them seen in training.")


class FeatureBlock(_Part):
    """One stretch of the features, judged by itself: `ood.<name>.mean`, `.scale` (D,), `.components` (D, K)."""

    name: str = Field(pattern=r"^[a-z]+$", description="Names its tensors in the weights file.")
    start: int = Field(ge=0, description="First feature of the block.")
    stop: int = Field(gt=0, description="First feature after it.")
    residual_scale: float = Field(
        gt=0, description="Typical squared residual outside the principal directions."
    )
    limit: float = Field(
        gt=0, description="Distance that counts as 1: a high quantile of calibration frames."
    )


class OutOfDistribution(_Part):
    """How far from the training frames is too far."""

    method: Literal["mahalanobis, largest of blocks"] = "mahalanobis, largest of blocks"
    threshold: float = Field(gt=0, description="Frames that score above it are referred.")
    acceptance: float = Field(
        gt=0, lt=1, description="Share of calibration frames at or below the threshold."
    )
    blocks: tuple[FeatureBlock, ...] = Field(min_length=1)


class TrainingData(_Part):
    """What the network has seen."""

    statement: str = Field(description="One sentence that travels with every prediction.")
    sources: tuple[str, ...] = Field(description="Sources by name.")
    patients: int
    frames: int
    seed: int
    initial_weights: str = Field(description="Where training started from, e.g. 'random (from scratch)'.")


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
    macro_accuracy: Estimate = Field(description="Mean of the five recalls.")
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

    schema_version: Literal["1"]
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")
    version: str
    architecture: str = Field(description="A timm model name.")
    labels: tuple[str, ...]
    preprocessing: Preprocessing
    calibration: Calibration
    out_of_distribution: OutOfDistribution
    training_data: TrainingData
    metrics: Metrics | None = None
    simulated: bool = Field(description="True where the network was trained on simulated smears.")
    intended_use: str
    licence: str
    created: str = Field(description="ISO 8601, UTC.")
    files: dict[str, str] = Field(description="SHA-256 by file name, in hexadecimal.")


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
    if version != SCHEMA_VERSION:
        msg = (
            f"{path} has schema version {version!r}; this release reads {SCHEMA_VERSION!r}: "
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
