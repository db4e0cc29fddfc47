"""What workers say of themselves, and what is said to all of them."""

from typing import Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from broker_config.messages import Count, Level, Message, ModelIdentity, Moment, Presence, Sha256, Text


class WorkerState(Message):
    """Birth, heartbeat and will of a worker; retained."""

    kind: ClassVar[str] = "worker-state"
    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())

    worker: Level
    pool: Level
    presence: Presence
    birth: Count
    at: Moment
    software: Text = ""
    model: ModelIdentity | None = None
    diagnosed: Count = 0
    rejected: Count = 0
    queued: Count = 0
    frames_per_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    stopped: Text = Field(
        "", description="why every frame is referred: the desk has stopped its model version"
    )


class FleetModel(Message):
    """Names the model package that every worker of the fleet should serve; retained."""

    kind: ClassVar[str] = "fleet-model"

    name: Text
    version: Text
    weights_sha256: Sha256
    at: Moment


MOST_STOPS = 500
"""Stopped model versions that one message names."""


class ModelStop(BaseModel):
    """A model version whose answers are not to be used. Its weights say which it is; name and version are for people."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    weights_sha256: Sha256
    name: Text
    version: Text
    reason: Text = Field("", description="in words, as the lab lead gave it")
    stopped_at: Moment


class FleetStops(Message):
    """Every model version that the desk has stopped; retained, and the last word wins: what is not named may answer.

    A worker that serves one of them goes on, and refers each of its frames to a person.
    """

    kind: ClassVar[str] = "fleet-stops"

    stops: tuple[ModelStop, ...] = Field((), max_length=MOST_STOPS)
    at: Moment
    by: Level
