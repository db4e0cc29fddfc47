"""What the API answers, as types: the OpenAPI document is made from them."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Answer(BaseModel):
    """Base of every answer."""

    model_config = ConfigDict(protected_namespaces=())


class ErrorOut(Answer):
    """Every refusal and every fault, whatever its status."""

    error: str = Field(description="what is wrong and what to do, as a sentence")


class MeasuredOut(Answer):
    """A rate or a mean, its 95 % interval, and over how much it was taken."""

    value: float
    low: float
    high: float
    number: int


Measures = dict[str, MeasuredOut | None]


class QualityGroupOut(Answer):
    """One site, microscope or model version."""

    name: str
    label: str
    frames: int
    whole: Measures
    change: Measures = Field(
        description="the last seven days less the days before; null where too little was counted"
    )
    by_day: dict[str, Measures]


class QualityOut(Answer):
    """Rates and scores by day."""

    days: list[str]
    others: int = Field(description="groups beyond the eight largest")
    whole: Measures
    groups: list[QualityGroupOut]


class ModelOut(Answer):
    """A model version, and whether its answers are used."""

    weights_sha256: str
    name: str
    version: str
    simulated: bool
    first_at: datetime
    stopped: bool
    stopped_at: datetime | None
    changed_by: str | None
    reason: str
    cases_follow: bool = Field(description="whether every case's result follows the last switch already")


class ModelsOut(Answer):
    """Model versions, stopped ones first."""

    models: list[ModelOut]


class CaseOut(Answer):
    """A case with its preliminary result. What a reader of blind cases may not see yet is null, and ``hidden`` is true."""

    site: str
    code: str
    devices: list[str]
    stat: bool
    opened_at: datetime
    changed_at: datetime
    first_result_at: datetime | None
    simulated: bool
    recorded: int
    waiting: int
    referred: int | None
    urgency: str | None
    raised_by_reader: bool | None = Field(None, description="critical by a reader's word, not by the model's")
    status: str = Field(description="of its review: unclaimed, claimed, signed or amend")
    claimed_by: str | None
    signed_at: datetime | None
    headline: str | None
    result: dict[str, Any] | None
    hidden: bool = False
    preliminary: bool
    intended_use: str


class CasesOut(Answer):
    """A page of the worklist."""

    matching: int
    exact: bool = Field(description="false: at least so many match")
    by_urgency: dict[str, int] = Field(description="empty for who reads blind")
    by_status: dict[str, int]
    following: str | None = Field(description="give it as 'after' for the next page; null on the last one")
    previous: str | None = Field(description="give it as 'before' for the page before")
    cases: list[CaseOut]


class DiagnosisOut(Answer):
    """What one model said of a frame."""

    worker: str
    diagnosed_at: datetime
    model: dict[str, Any]
    probabilities: dict[str, float]
    prediction: str
    prediction_set: list[str]
    decision: str
    reasons: list[str]
    ood_score: float
    ood_threshold: float
    activation: list[list[float]] | None
    timings: dict[str, float]
    simulated: bool
    stopped_model: bool = Field(
        default=False, description="not to be used: its model version has been stopped"
    )


class FrameOut(Answer):
    """A frame and every diagnosis of it."""

    frame_id: str
    site: str
    device: str
    priority: str
    sequence: int
    captured_at: datetime
    received_at: datetime
    recorded_at: datetime | None
    encoding: str
    width: int
    height: int
    pixel_size_um: float | None
    exposure_ms: float | None
    focus_um: float | None
    stage_x_um: float | None
    stage_y_um: float | None
    capture_ms: float
    quality: dict[str, Any]
    simulated: bool
    image_sha256: str
    image_bytes: int
    image: str
    diagnoses: list[DiagnosisOut]
    number: int | None = None
    state: str | None = None
    case: str | None = None


class CaseFramesOut(CaseOut):
    """A case with a page of its frames."""

    by_state: dict[str, int]
    page: int
    last_page: int
    frames: list[FrameOut]
