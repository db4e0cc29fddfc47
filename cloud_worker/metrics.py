"""The worker's Prometheus metrics, in a registry of their own."""

from collections.abc import Callable, Sized
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

Stage = Literal["queue", "decode", "batch", "inference", "publish", "total"]

_STAGE_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
_BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """What the worker counts.

    Attributes:
        registry: Where everything is registered.
        frames: Frames delivered by the broker.
        messages: Messages that are no frames, by kind and what became of them.
        joined: Deliveries of a frame that was in hand already.
        lapsed: Frames left to their edge, which has sent them again: their connection was gone for too long.
        diagnosed: Diagnoses that the broker acknowledged.
        rejected: Dead letters by code.
        batch_size: Frames a batch.
        overflow: Frames left unacknowledged because the queue was full.
        stale: Acknowledgements whose connection was gone; the broker or the edge sends such a frame again.
        unheard: Diagnoses to which nobody subscribed (MQTT 5).
        refused: Publishes that the broker refused.
        abandoned: Frames whose answer could not be composed; the edge sends them again.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        prefix = "hemolink_worker_"
        self.frames = Counter(
            f"{prefix}frames", "Frames delivered by the broker", ["priority"], registry=self.registry
        )
        self.messages = Counter(
            f"{prefix}messages", "Messages that are no frames", ["kind", "outcome"], registry=self.registry
        )
        self.joined = Counter(
            f"{prefix}joined", "Deliveries of a frame in hand already", registry=self.registry
        )
        self.lapsed = Counter(
            f"{prefix}lapsed", "Frames left to their edge, their connection gone", registry=self.registry
        )
        self.diagnosed = Counter(
            f"{prefix}diagnosed", "Diagnoses that the broker acknowledged", registry=self.registry
        )
        self.rejected = Counter(
            f"{prefix}rejected", "Frames that became dead letters", ["code"], registry=self.registry
        )
        self.batch_size = Histogram(
            f"{prefix}batch_size", "Frames a batch", buckets=_BATCH_BUCKETS, registry=self.registry
        )
        self.overflow = Counter(
            f"{prefix}overflow", "Frames not taken in, the queue being full", registry=self.registry
        )
        self.stale = Counter(
            f"{prefix}stale_acknowledgements",
            "Acknowledgements too late for their connection",
            registry=self.registry,
        )
        self.unheard = Counter(
            f"{prefix}unheard", "Diagnoses to which nobody subscribed", registry=self.registry
        )
        self.abandoned = Counter(
            f"{prefix}abandoned", "Frames whose answer could not be composed", registry=self.registry
        )
        self.refused = Counter(
            f"{prefix}publish_refused", "Publishes that the broker refused", registry=self.registry
        )
        self._stages = Histogram(
            f"{prefix}stage_seconds",
            "Time a frame spends by stage; inference is that of the whole batch",
            ["stage"],
            buckets=_STAGE_BUCKETS,
            registry=self.registry,
        )
        self._queue = Gauge(
            f"{prefix}queued", "Frames taken and not settled, by place", ["place"], registry=self.registry
        )

    def watch_count(self, name: str, text: str, count: Callable[[], float]) -> None:
        """Report a count that is kept elsewhere whenever the metrics are read."""
        Gauge(f"hemolink_worker_{name}", text, registry=self.registry).set_function(count)

    def stage(self, stage: Stage, seconds: float) -> None:
        """Note how long one stage took."""
        self._stages.labels(stage).observe(max(0.0, seconds))

    def watch_queue(self, place: str, queue: Sized) -> None:
        """Report a queue's length whenever the metrics are read."""
        self._queue.labels(place).set_function(lambda: float(len(queue)))
