"""What a device says of itself, and what it is told to do."""

from typing import Annotated, ClassVar

from pydantic import Field

from broker_config.messages import (
    LARGEST_COUNT,
    CaseCode,
    Count,
    Finite,
    FrameId,
    Level,
    Message,
    Moment,
    Presence,
    Text,
)
from broker_config.topics import Priority, Verb


class DeviceState(Message):
    """Birth, heartbeat and will of an edge; retained.

    ``birth`` rises with each start of the agent; a state with a lower birth than one already seen is stale, so a
    late will cannot mark a live device dead.
    """

    kind: ClassVar[str] = "state"

    site: Level
    device: Level
    presence: Presence
    birth: Count
    at: Moment
    software: Text = ""
    camera: Text = ""
    simulated: bool = False
    capturing: bool = False
    case: CaseCode | None = None
    captured: Annotated[
        int, Field(ge=0, le=LARGEST_COUNT, description="frames taken from the camera since the start")
    ] = 0
    quality_rejected: Count = 0
    quality_reasons: dict[Text, Count] = Field(default_factory=dict, max_length=100)
    unreadable: Annotated[
        int, Field(ge=0, le=LARGEST_COUNT, description="pictures that could not be read, since the start")
    ] = 0
    finished: Annotated[bool, Field(description="the camera has no more to give")] = False
    next_sequence: Annotated[
        int | None,
        Field(ge=0, le=LARGEST_COUNT, description="number of the next frame: the record finds gaps by it"),
    ] = None
    damaged: Annotated[
        int,
        Field(
            ge=0,
            le=LARGEST_COUNT,
            description="frames lost with the device's own disk, each told as a rejection",
        ),
    ] = 0
    spooled: Annotated[int, Field(ge=0, le=LARGEST_COUNT, description="frames waiting for a receipt")] = 0
    spool_bytes: Count = 0
    oldest_waiting: Annotated[
        int | None,
        Field(
            ge=0,
            le=LARGEST_COUNT,
            description="number of the oldest frame that waits for a receipt, parked ones not counted; none if none",
        ),
    ] = None
    parked: Annotated[int, Field(ge=0, le=LARGEST_COUNT, description="frames that wait for a person")] = 0
    settled: Annotated[
        int, Field(ge=0, le=LARGEST_COUNT, description="frames whose final receipt came since the start")
    ] = 0
    signed: Annotated[
        int, Field(ge=0, le=LARGEST_COUNT, description="cases heard to be signed since the start")
    ] = 0
    last_signed: CaseCode | None = Field(None, description="the case that was signed last")
    alarm: Text = Field("", description="what a person must see to, empty when all is well")


class Command(Message):
    """An order to one device; never retained, and expired if not delivered in time."""

    kind: ClassVar[str] = "command"

    request_id: FrameId
    verb: Verb
    case: CaseCode | None = Field(None, description="for case-start")
    priority: Priority | None = Field(None, description="for case-start")
    frames: Annotated[int, Field(ge=1, le=10000)] | None = Field(None, description="for capture")
    settings: dict[Text, Text | int | Finite | bool] = Field(default_factory=dict, description="for settings")
    frame_ids: tuple[FrameId, ...] = Field(
        (), max_length=1000, description="for retry: rejected frames to send again from the spool"
    )
    at: Moment


class CommandResponse(Message):
    """A device's answer to a command."""

    kind: ClassVar[str] = "response"

    request_id: FrameId
    verb: Verb
    ok: bool
    message: Text = ""
    state: DeviceState | None = Field(None, description="the state after the command")
    at: Moment
