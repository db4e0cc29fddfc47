"""The worker's settings: one YAML file, validated before anything starts."""

import os
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from broker_config.errors import TopicError
from broker_config.settings import BrokerSettings, LogSettings, MonitorSettings, Section
from broker_config.topics import check_level
from cloud_worker.identity import default_name


class DeadLetterSettings(Section):
    """How much of what could not be diagnosed is kept on disk for a later look."""

    max_bytes: int = Field(
        512 * 1024 * 1024, ge=0, description="payload bytes kept; beyond it the oldest dead letters go"
    )
    max_count: int = Field(1000, ge=1, description="dead letters kept; beyond it the oldest go")


class Settings(Section):
    """Everything a worker can be told."""

    broker: BrokerSettings = Field(BrokerSettings(), description="how to reach the broker")
    worker: str | None = Field(
        None,
        description="this worker's name, no two at one broker alike; from user name, or host and directory, if none",
    )
    pool: str | None = Field(
        None,
        description="workers of one pool share the frames (MQTT 5); none: this worker receives every frame",
    )
    model: str = Field("resnet34-simulated", description="name of a model package, or the path of its folder")
    model_search_path: tuple[Path, ...] = Field(
        (), description="folders to look for packages in, before the shipped ones"
    )
    engine: Literal["auto", "openvino", "torch", "onnxruntime"] = Field(
        "auto", description="inference runtime"
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="number format of inference"
    )
    max_batch_size: int = Field(8, ge=1, le=256, description="frames inferred together at most")
    max_wait_ms: float = Field(
        5.0, ge=0, le=10_000, description="how long the first frame of a batch waits for others"
    )
    receive_maximum: int | None = Field(
        None,
        ge=1,
        le=65535,
        description="frames the broker may have unacknowledged here (MQTT 5); four batches if none",
    )
    max_queued_frames: int = Field(
        500, ge=1, description="frames held at most, where the broker knows no receive maximum (MQTT 3.1.1)"
    )
    decoders: int | None = Field(
        None, ge=1, le=64, description="decoding threads; one a core, at most four, if none"
    )
    max_pixels: int = Field(
        64_000_000, ge=1, description="an image whose header states more pixels is refused before decoding"
    )
    ignored_quality_flags: frozenset[str] = Field(
        frozenset(), description="flags of the edge's quality gate that do not refer a frame to a person"
    )
    directory: Path = Field(
        Path("var/worker"), description="dead letters, suspects, birth count and port file; one worker each"
    )
    dead_letters: DeadLetterSettings = Field(DeadLetterSettings(), description="bounds of the dead letters")
    inference_deadline_s: float = Field(
        30.0,
        gt=0,
        description="an inference or a decoding that takes longer ends the process, and a supervisor starts it anew",
    )
    session_kept_s: int = Field(
        0,
        ge=0,
        le=86_400,
        description="how long the broker keeps this worker's session (MQTT 5); 0: not at all, see decision 0007",
    )
    lease_s: float = Field(
        10.0,
        gt=0,
        description="a frame that waited so long, its connection gone, is left to its edge; an edge's resend_after_s",
    )
    drain_s: float = Field(20.0, gt=0, description="after SIGTERM: time to finish what was taken")
    heartbeat_s: float = Field(10.0, gt=0, description="pause between two states")
    monitor: MonitorSettings = Field(MonitorSettings(), description="/healthz, /readyz, /metrics and /status")
    log: LogSettings = Field(LogSettings(), description="how to log")

    @field_validator("worker", "pool")
    @classmethod
    def _may_stand_in_a_topic(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                check_level(value, name="the name")
            except TopicError as error:
                raise ValueError(str(error)) from None
        return value

    @model_validator(mode="after")
    def _pool_needs_mqtt_5(self) -> Self:
        if self.pool is not None and self.broker.protocol != "5":
            raise ValueError(
                f"pool {self.pool!r} needs MQTT 5, and broker.protocol is 3.1.1, which has no shared subscriptions: "
                "set broker.protocol to '5' (Mosquitto, EMQX), or remove pool and run one worker"
            )
        return self

    @property
    def name(self) -> str:
        """This worker's name: stable through restarts."""
        return self.worker or default_name(self.directory, username=self.broker.username)

    @property
    def suspects_directory(self) -> Path:
        """Where it is remembered which frames may have killed this worker."""
        return self.directory / "suspects"

    @property
    def most_in_hand(self) -> int:
        """Frames that can be taken and not settled: those that wait, and those at work or being published."""
        return max(self.max_queued_frames, self.window) + 4 * self.max_batch_size + 64

    @property
    def window(self) -> int:
        """Frames the broker may have unacknowledged here."""
        return self.receive_maximum or max(16, 4 * self.max_batch_size)

    @property
    def decoder_threads(self) -> int:
        """Number of decoding threads."""
        return self.decoders or max(1, min(4, os.cpu_count() or 1))
