"""What workers say of themselves, and what is said to all of them."""

from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field

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


class FleetModel(Message):
    """Names the model package that every worker of the fleet should serve; retained."""

    kind: ClassVar[str] = "fleet-model"

    name: Text
    version: Text
    weights_sha256: Sha256
    at: Moment
