"""The messages of a frame's life, and what every message is made of: frozen, typed and versioned; units in the field names.

What a device, the fleet and the desk say has modules of its own (`device_messages`, `fleet_messages`, `desk_messages`).

A frame travels as one CBOR map with the image bytes in it; every other message is JSON that a person can read with
any MQTT client (`broker_config.codec`). Unknown fields are ignored when read, so that a newer peer may add some
within a schema version; a newer *version* is refused.
"""

import uuid
from datetime import UTC, datetime
from typing import Annotated, ClassVar, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from broker_config.topics import Priority

SCHEMA_VERSION = 1
"""The version of every message of this release."""

DiseaseClass = Literal["healthy", "ALL", "AML", "CLL", "CML"]
CLASSES: tuple[DiseaseClass, ...] = get_args(DiseaseClass)
"""The five classes, in the order of every probability vector."""

GRID_SIDE = 7
"""Rows and columns of a class activation map."""

ImageEncoding = Literal["jpeg", "png", "webp"]
Decision = Literal["report", "refer"]
ReceiptStatus = Literal["diagnosed", "recorded", "rejected", "retry"]
Presence = Literal["online", "offline", "draining"]


def now() -> datetime:
    """Return the present time in UTC."""
    return datetime.now(UTC)


def new_frame_id() -> str:
    """Return a new frame id: 32 hexadecimal digits, fixed at capture and kept through every resend."""
    return uuid.uuid4().hex


def _in_utc(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise ValueError("a time without a time zone: send UTC, such as 2026-01-31T12:00:00Z")
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("a time outside the years 1 to 9999 in UTC") from None


Moment = Annotated[datetime, AfterValidator(_in_utc)]
FrameId = Annotated[
    str, Field(pattern=r"^[0-9a-f]{32}$", description="fixed at capture, kept through resends")
]
CaseCode = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,39}$",
        description="opaque accession code; what it stands for stays in the clinic",
    ),
]
Level = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,47}$")]
Node = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,39}(/[A-Za-z0-9][A-Za-z0-9._-]{0,39}){0,7}$")
]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Fraction = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Milliseconds = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
Text = Annotated[str, Field(max_length=2000, pattern=r"^[^\x00]*$")]  # databases refuse NUL
LARGEST_COUNT = 2**53 - 1
"""Largest whole number that every reader keeps exact: JavaScript's, and well within a database's."""

Count = Annotated[int, Field(ge=0, le=LARGEST_COUNT)]


class Message(BaseModel):
    """Base of every message."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    kind: ClassVar[str] = "message"
    schema_version: int = SCHEMA_VERSION


class Quality(BaseModel):
    """What the quality gate measured on a frame at full resolution.

    Attributes:
        focus: Sharpness on the gate's own scale; higher is sharper.
        brightness: Mean grey value, 0 to 1.
        saturated: Share of pixels at either end of the range, 0 to 1.
        foreground: Share of pixels that are not background, 0 to 1.
        flags: Stable codes of what was noticed though the frame passed, such as ``soft_focus``.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    focus: Finite = 0.0
    focus_threshold: Finite = 0.0
    brightness: Fraction = 0.0
    saturated: Fraction = 0.0
    foreground: Fraction = 0.0
    flags: tuple[Text, ...] = ()


class Frame(Message):
    """One field of view, with the image. The only message that travels as CBOR."""

    kind: ClassVar[str] = "frame"

    frame_id: FrameId
    case: CaseCode
    site: Level
    device: Level
    priority: Priority = "routine"
    sequence: Annotated[
        int, Field(ge=0, le=LARGEST_COUNT, description="rises by one with each frame of a device")
    ] = 0
    captured_at: Moment
    encoding: ImageEncoding
    width: Annotated[int, Field(ge=1, le=65535)]
    height: Annotated[int, Field(ge=1, le=65535)]
    pixel_size_um: Annotated[float, Field(gt=0, le=100)] | None = None
    exposure_ms: Milliseconds | None = None
    focus_um: Finite | None = None
    stage_x_um: Finite | None = None
    stage_y_um: Finite | None = None
    capture_ms: Milliseconds = Field(0.0, description="from the shutter to the durable spool")
    quality: Quality = Quality()
    simulated: bool = False
    image_sha256: Sha256
    image: bytes = Field(repr=False, min_length=1)


class ModelIdentity(BaseModel):
    """Which model spoke, and what it was trained on."""

    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())

    name: Text
    version: Text
    weights_sha256: Sha256
    architecture: Text = ""
    engine: Text = Field("", description="runtime and precision, such as openvino-bf16")
    training_data: Text = Field("", description="the training-data statement of the model's card")
    simulated: bool = Field(default=False, description="trained on simulated smears")


class Timings(BaseModel):
    """Where the time of a frame went, in milliseconds."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    capture_ms: Milliseconds = 0.0
    queue_ms: Milliseconds = Field(0.0, description="from the worker's network thread to the decoder")
    decode_ms: Milliseconds = 0.0
    inference_ms: Milliseconds = Field(0.0, description="the batch's time divided by its size")


GridRow = Annotated[tuple[Fraction, ...], Field(min_length=GRID_SIDE, max_length=GRID_SIDE)]
ActivationGrid = Annotated[
    tuple[GridRow, ...],
    Field(
        min_length=GRID_SIDE,
        max_length=GRID_SIDE,
        description="class activation map of the predicted class, row by row from the top left",
    ),
]


class Finer(BaseModel):
    """What the model says of the predicted disease's subtypes; sent by models that were trained on subtypes only.

    Nodes are named by their path in the label tree, such as ``AML/M3``. The subtypes right below the disease sum to its
    probability, those below a subtype to the subtype's.

    Attributes:
        label: The deepest node that is certain; the disease itself where none below it is.
        name: Of that node, for people.
        level: 1 for the disease, 2 for a subtype, 3 for one below that.
        system: What divides the disease, such as ``FAB``.
        probabilities: Of the disease's subtypes.
        alert: What must be said of a subtype that must not be missed, wherever it is suspected; empty otherwise.
        alert_threshold: Share of the disease's probability from which such a subtype is suspected, for one frame or for the mean
            over a case's frames.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    label: Node
    name: Text = ""
    level: Annotated[int, Field(ge=1, le=8)]
    system: Text = ""
    probabilities: dict[Node, Fraction] = Field(max_length=100)
    alert: Text = ""
    alert_threshold: Fraction | None = None


class Diagnosis(Message):
    """What the model said of one frame: preliminary until a clinician has signed."""

    kind: ClassVar[str] = "diagnosis"
    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())

    frame_id: FrameId
    case: CaseCode
    site: Level
    device: Level
    priority: Priority = "routine"
    captured_at: Moment
    diagnosed_at: Moment
    worker: Level
    model: ModelIdentity
    probabilities: dict[DiseaseClass, Fraction] = Field(
        min_length=len(CLASSES), max_length=len(CLASSES), description="calibrated; the five sum to one"
    )
    prediction: DiseaseClass
    prediction_set: tuple[DiseaseClass, ...]
    decision: Decision
    reasons: tuple[Text, ...] = Field((), description="every reason to refer: 'code: sentence'")
    quality: Quality = Quality()
    ood_score: Finite
    ood_threshold: Finite
    activation: ActivationGrid
    activation_absent: Text = Field("", description="why there is no activation map; it is all zero then")
    finer: Finer | None = Field(
        None, description="subtypes of the predicted disease, where the model knows any"
    )
    timings: Timings = Timings()
    image_sha256: Sha256
    frame_simulated: bool = False

    @model_validator(mode="after")
    def _is_coherent(self) -> "Diagnosis":
        if set(self.probabilities) != set(CLASSES):
            raise ValueError(f"probabilities must name exactly {', '.join(CLASSES)}")
        if abs(sum(self.probabilities.values()) - 1.0) > 1e-3:  # noqa: PLR2004 - rounding of fp16 engines
            raise ValueError("probabilities must sum to one")
        if self.finer is not None and self.finer.label.split("/", 1)[0] != self.prediction:
            raise ValueError("the finer label must be the predicted class or a subtype of it")
        return self

    @property
    def simulated(self) -> bool:
        """Whether the frame or the model is simulated, so that the screen must say SIMULATED."""
        return self.frame_simulated or self.model.simulated


class Receipt(Message):
    """Tells an edge what became of one of its frames.

    ``diagnosed``: the diagnosis was acknowledged by the broker. ``recorded``: image and diagnosis are committed in the
    record. ``rejected``: it became a dead letter and a person is told. ``retry``: send it again.
    """

    kind: ClassVar[str] = "receipt"

    frame_id: FrameId
    status: ReceiptStatus
    reason: Text = ""
    by: Level
    at: Moment


class Rejection(Message):
    """A dead letter: a frame that no worker could diagnose, with the reason. It never holds the image.

    An edge sends one too, for a frame that it cannot send (too large for the broker) or has lost with its own disk.
    """

    kind: ClassVar[str] = "rejected"

    frame_id: FrameId | None = Field(None, description="none when the payload could not be read that far")
    case: CaseCode | None = None
    site: Level
    device: Level
    sequence: Annotated[
        int | None, Field(ge=0, le=LARGEST_COUNT, description="the frame's number at its device, where known")
    ] = None
    code: Annotated[str, Field(pattern=r"^[a-z0-9_]{1,40}$", description="stable, for counters")]
    reason: Text
    attempts: Annotated[int, Field(ge=1, le=LARGEST_COUNT)] = 1
    payload_bytes: Count = 0
    payload_sha256: Sha256
    by: Level
    at: Moment
