"""What the agent has done and what is wrong: counters, alarms, metrics, and the device's state made of them."""

import logging
import threading
import time
from collections import Counter
from typing import Literal

from prometheus_client import CollectorRegistry, Gauge, Histogram
from prometheus_client import Counter as Metric

logger = logging.getLogger(__name__)

AlarmCode = Literal[
    "camera",
    "case",
    "spool",
    "disk",
    "capture",
    "uplink",
    "uplink_disk",
    "reserve",
    "damaged_spool",
    "broker",
    "refused",
    "no_worker",
    "unanswered",
    "stumbling",
    "name_clash",
    "parked",
]
_STOPS_WORK: frozenset[AlarmCode] = frozenset({"camera", "case", "spool", "disk", "capture"})

MOST_SIGNED = 10_000
"""Cases whose signature is remembered, so that one that is told twice counts once."""


class Alarms:
    """The faults that a person must see to, each until it is cleared. Any thread may call it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._raised: dict[AlarmCode, str] = {}
        self.changed = threading.Event()

    def raise_(self, code: AlarmCode, sentence: str) -> bool:
        """Raise an alarm, or change its sentence; returns whether it was quiet before."""
        with self._lock:
            new = code not in self._raised
            if self._raised.get(code) != sentence:
                self._raised[code] = sentence
                self.changed.set()
            return new

    def clear(self, code: AlarmCode) -> bool:
        """Clear an alarm; returns whether it was raised."""
        with self._lock:
            was = self._raised.pop(code, None) is not None
            if was:
                self.changed.set()
            return was

    def complain(self, code: AlarmCode, sentence: str) -> bool:
        """Raise an alarm and log it when it is new, or clear it where the sentence is empty; returns whether that is new."""
        new = self.set(code, sentence)
        if new and sentence:
            logger.error("%s", sentence)
        return new

    def set(self, code: AlarmCode, sentence: str) -> bool:
        """Raise an alarm, or clear it where the sentence is empty; returns whether that is new."""
        return self.raise_(code, sentence) if sentence else self.clear(code)

    @property
    def sentence(self) -> str:
        """All alarms in one text, empty when all is well."""
        with self._lock:
            return " | ".join(self._raised.values())

    @property
    def stopping_work(self) -> str:
        """The alarms that keep the microscope from working, in one text."""
        with self._lock:
            return " | ".join(text for code, text in self._raised.items() if code in _STOPS_WORK)


class Counters:
    """What has been counted since the start. Any thread may call it.

    Attributes:
        registry: The metrics, for the monitor.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._captured = 0
        self._refused = 0
        self._unreadable = 0
        self._reasons: Counter[str] = Counter()
        self._settled = 0
        self._labels = 0
        self._signed: dict[str, int] = {}
        self._forgotten = 0
        self._last_signed: str | None = None
        self.started_at = time.time()
        self.registry = CollectorRegistry()
        self.messages = Metric(
            "hemolink_edge_messages",
            "Messages from the broker, each once",
            ["kind", "outcome"],
            registry=self.registry,
        )
        self.spooled = Gauge(
            "hemolink_edge_spooled", "Frames that wait for a receipt", registry=self.registry
        )
        self.spool_bytes = Gauge("hemolink_edge_spool_bytes", "Bytes in the spool", registry=self.registry)
        self.parked = Gauge("hemolink_edge_parked", "Frames that wait for a person", registry=self.registry)
        self.connected = Gauge(
            "hemolink_edge_connected", "Whether the broker is there", registry=self.registry
        )
        self.published = Metric(
            "hemolink_edge_published", "Publishes of frames", ["kind"], registry=self.registry
        )
        self.publish_errors = Metric(
            "hemolink_edge_publish_errors", "Publishes that failed", ["reason"], registry=self.registry
        )
        self.receipts = Metric("hemolink_edge_receipts", "Receipts heard", ["status"], registry=self.registry)
        self.delivery_s = Histogram(
            "hemolink_edge_delivery_seconds",
            "From the first publish to the final receipt",
            buckets=(0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300),
            registry=self.registry,
        )
        self._captured_metric = Metric(
            "hemolink_edge_captured", "Fields taken from the camera", registry=self.registry
        )
        self._refused_metric = Metric(
            "hemolink_edge_refused", "Fields and files refused", ["reason"], registry=self.registry
        )
        self._signed_metric = Metric(
            "hemolink_edge_signed", "Signed versions of cases heard of", registry=self.registry
        )

    def accepted(self) -> None:
        """Count a field that is in the spool."""
        with self._lock:
            self._captured += 1
        self._captured_metric.inc()

    def refused(self, codes: tuple[str, ...]) -> None:
        """Count a field that the quality gate refused, once under each of its reasons."""
        with self._lock:
            self._captured += 1
            self._refused += 1
            self._reasons.update(codes)
        self._captured_metric.inc()
        for code in codes:
            self._refused_metric.labels(code).inc()

    def unreadable(self, code: str) -> None:
        """Count a picture that could not be read; it is no captured field."""
        with self._lock:
            self._unreadable += 1
            self._reasons[code] += 1
        self._refused_metric.labels(code).inc()

    def label(self) -> None:
        """Count a slide label; it is no field."""
        with self._lock:
            self._labels += 1

    def settled(self, frames: int) -> None:
        """Count frames that the far end has."""
        with self._lock:
            self._settled += frames

    def signed(self, case: str, version: int) -> bool:
        """Count a case that a clinician signed; returns whether that is news, since it may be told more than once."""
        with self._lock:
            if self._signed.get(case, 0) >= version:
                return False
            if case not in self._signed and len(self._signed) >= MOST_SIGNED:
                self._signed.pop(next(iter(self._signed)))
                self._forgotten += 1
            self._signed[case] = version
            self._last_signed = case
        self._signed_metric.inc()
        return True

    def message(self, kind: str, outcome: str) -> None:
        """Count a message from the broker.

        Args:
            kind: ``receipt``, ``command``, ``worker-state``, ``state``, ``review`` or ``other``.
            outcome: ``taken``, or a stable code of why it was not.
        """
        self.messages.labels(kind, outcome).inc()

    @property
    def taken(self) -> int:
        """Fields and unreadable pictures together."""
        with self._lock:
            return self._captured + self._unreadable

    def snapshot(self) -> dict[str, object]:
        """Return every count at one moment."""
        with self._lock:
            return {
                "captured": self._captured,
                "quality_rejected": self._refused,
                "quality_reasons": dict(self._reasons),
                "unreadable": self._unreadable,
                "labels": self._labels,
                "settled": self._settled,
                "signed": len(self._signed) + self._forgotten,
                "last_signed": self._last_signed,
            }
