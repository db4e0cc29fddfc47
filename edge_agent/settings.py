"""The agent's settings: one YAML file, validated before anything starts."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from broker_config.errors import TopicError
from broker_config.messages import CaseCode
from broker_config.settings import BrokerSettings, LogSettings, MonitorSettings, Section
from broker_config.topics import check_level
from edge_agent.cameras.settings import CameraSettings, SimulatedSettings
from edge_agent.encoder import EncodingSettings
from edge_agent.gate import QualitySettings


class SpoolSettings(Section):
    """How much the spool may hold."""

    max_bytes: int = Field(
        2_000_000_000, ge=1_000_000, description="bound of all frames together; capture stops before it"
    )
    high_water: float = Field(0.9, gt=0, le=1, description="capture stops when this share is filled")
    low_water: float = Field(
        0.8, ge=0, le=1, description="capture goes on when the filled share is below this"
    )
    min_free_bytes: int = Field(
        100_000_000, ge=0, description="capture stops when the disk has less room than this"
    )

    @model_validator(mode="after")
    def _is_coherent(self) -> Self:
        if self.low_water > self.high_water:
            raise ValueError("low_water is above high_water: capture would never go on")
        return self


class DeliverySettings(Section):
    """When a frame counts as delivered, and when it is sent again."""

    settle_on: Literal["recorded", "diagnosed"] = Field(
        "recorded", description="receipt that deletes a frame; 'diagnosed' only where there is no record"
    )
    window: int = Field(
        32, ge=1, le=1000, description="frames published and not yet receipted; the broker's limit counts too"
    )
    resend_after_s: float = Field(
        10.0, gt=0, le=3600, description="without a receipt for so long a frame is published again"
    )
    resend_max_s: float = Field(300.0, gt=0, le=86_400, description="upper bound of the growing pause")
    lease_s: float = Field(
        30.0,
        gt=0,
        le=3600,
        description="for so long after 'diagnosed' a frame is not sent again: the time the record has to commit it",
    )
    resend: bool = Field(
        default=True,
        description="false only to show what the resend rule is for: a frame that the broker acknowledged is then never "
        "sent again",
    )


class CommandSettings(Section):
    """Which orders from afar are obeyed."""

    max_age_s: float = Field(
        120.0, gt=0, le=86_400, description="an order issued longer ago, or further ahead, is refused"
    )


class Settings(Section):
    """Everything an edge can be told."""

    broker: BrokerSettings = Field(BrokerSettings(), description="how to reach the broker")
    site: str = Field("site", description="first of the two names of this microscope: the place")
    device: str = Field(
        "scope-1", description="second of the two names: the microscope; unique within the site"
    )
    directory: Path = Field(
        Path("var/edge"), description="spool, current case, birth count and the port file; one agent each"
    )
    camera: CameraSettings = Field(
        SimulatedSettings(), description="where pictures come from; 'hemolink edge cameras' lists the kinds"
    )
    quality: QualitySettings = Field(QualitySettings(), description="thresholds of the quality gate")
    encoding: EncodingSettings = Field(EncodingSettings(), description="how pictures are encoded")
    spool: SpoolSettings = Field(SpoolSettings(), description="bounds of the spool")
    delivery: DeliverySettings = Field(DeliverySettings(), description="receipts and resends")
    commands: CommandSettings = Field(CommandSettings(), description="orders from afar")
    case: CaseCode | None = Field(None, description="the case of every frame while no other is started")
    priority: Literal["stat", "routine"] = Field(
        "routine", description="priority of frames of no started case"
    )
    read_labels: bool = Field(
        default=True, description="a QR code 'HL1:CODE' seen in a picture starts that case"
    )
    interval_s: float = Field(0.0, ge=0, le=86_400, description="pause between two fields")
    frames: int | None = Field(None, ge=1, description="stop capturing after so many; none: never")
    start_paused: bool = Field(default=False, description="wait for the command 'resume' or 'capture'")
    heartbeat_s: float = Field(10.0, gt=0, le=3600, description="pause between two states")
    drain_s: float = Field(10.0, ge=0, le=600, description="after SIGTERM: time to deliver what is spooled")
    monitor: MonitorSettings = Field(MonitorSettings(), description="/healthz, /readyz, /metrics and /status")
    log: LogSettings = Field(LogSettings(), description="how to log")

    @field_validator("site", "device")
    @classmethod
    def _may_stand_in_a_topic(cls, value: str) -> str:
        try:
            return check_level(value, name="the name")
        except TopicError as error:
            raise ValueError(str(error)) from None
