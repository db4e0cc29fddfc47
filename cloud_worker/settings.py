"""The worker's settings: one YAML file, validated before anything starts."""

import os
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from broker_config.errors import TopicError
from broker_config.settings import BrokerSettings, LogSettings, MonitorSettings, Section
from broker_config.topics import check_level


class DeadLetterSettings(Section):
    """How much of what could not be diagnosed is kept on disk for a later look."""

    max_bytes: int = Field(
        512 * 1024 * 1024, ge=0, description="payload bytes kept; beyond it the oldest dead letters go"
    )
    max_count: int = Field(1000, ge=1, description="dead letters kept; beyond it the oldest go")


class Settings(Section):
    """Everything a worker can be told."""

    broker: BrokerSettings = Field(BrokerSettings(), description="how to reach the broker")
    worker: str = Field("worker-1", description="this worker's name; no two workers at one broker share one")
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
    directory: Path = Field(Path("var/worker"), description="dead letters, the birth count and the port file")
    dead_letters: DeadLetterSettings = Field(DeadLetterSettings(), description="bounds of the dead letters")
    inference_deadline_s: float = Field(
        30.0,
        gt=0,
        description="an inference that takes longer ends the process, so that a supervisor starts it anew",
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
    def window(self) -> int:
        """Frames the broker may have unacknowledged here."""
        return self.receive_maximum or max(16, 4 * self.max_batch_size)

    @property
    def decoder_threads(self) -> int:
        """Number of decoding threads."""
        return self.decoders or max(1, min(4, os.cpu_count() or 1))
