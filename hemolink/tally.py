"""The figures of a run, taken from the edge's and the record's own answers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Tally:
    """What became of the frames of a run.

    Attributes:
        frames: Fields taken from the camera, unreadable ones included; the edge's figure.
        recorded: Frames whose image and diagnosis the record holds; the record's figure.
        quality_rejected: Frames that the quality gate refused, each with a reason; the edge's figure.
        unreadable: Images that could not be read, each with a reason; the edge's figure.
        parked: Frames that wait for a person, with a reason; the edge's figure.
        spooled: Frames that still wait for their receipt; the edge's figure.
        settled: Frames whose final receipt the edge has heard.
        finished: Whether the camera has no more to give.
        duplicates: What the record holds twice; the record's figure.
        rejected: Dead letters in the record.
        referred: Recorded frames that the model leaves to a person; the record's figure.
        reasons: How often each reason to refuse a frame occurred, by its code.
        alarm: What the edge says a person must see to, empty when all is well.
        latency_ms: Percentiles of the time from capture to record, by name.
    """

    frames: int = 0
    recorded: int = 0
    quality_rejected: int = 0
    unreadable: int = 0
    parked: int = 0
    spooled: int = 0
    settled: int = 0
    finished: bool = False
    duplicates: int = 0
    rejected: int = 0
    cases: int = 0
    referred: int = 0
    reasons: Mapping[str, int] = field(default_factory=dict)
    alarm: str = ""
    latency_ms: Mapping[str, float | None] = field(default_factory=dict)
    engine: str = ""
    model: str = ""

    @classmethod
    def of(cls, edge: Mapping[str, Any], record: Mapping[str, Any]) -> "Tally":
        """Combine the edge's /status with the record's /api/v1/summary, which was asked after it.

        In that order a frame that moves between the two answers is counted twice for a moment, and never missed.
        """
        unreadable = int(edge.get("unreadable", 0))
        latency = record.get("latency_ms") or {}
        return cls(
            frames=int(edge.get("captured", 0)) + unreadable,
            recorded=int(record.get("recorded", 0)),
            quality_rejected=int(edge.get("quality_rejected", 0)),
            unreadable=unreadable,
            parked=int(edge.get("parked", 0)),
            spooled=int(edge.get("spooled", 0)),
            settled=int(edge.get("settled", 0)),
            finished=bool(edge.get("finished", False)),
            duplicates=int(record.get("duplicates", 0)),
            rejected=int(record.get("rejected", 0)),
            referred=int(record.get("referred", 0)),
            cases=int(record.get("cases", 0)),
            reasons={str(code): int(count) for code, count in (edge.get("quality_reasons") or {}).items()},
            alarm=str(edge.get("alarm", "")),
            latency_ms={"p50": latency.get("p50"), "p99": latency.get("p99")},
            engine=str(record.get("engine") or ""),
            model=str(record.get("model") or ""),
        )

    @property
    def answered(self) -> int:
        """Frames that are in the record, or were refused with a reason that a person is told."""
        return self.recorded + self.quality_rejected + self.unreadable + self.parked

    @property
    def lost(self) -> int:
        """Frames that were taken and of which neither the record nor the edge's spool can give an account."""
        return max(0, self.frames - self.answered - self.spooled)

    @property
    def waiting(self) -> int:
        """Frames that are on their way: still in the edge's spool."""
        return max(0, self.frames - self.answered - self.lost)

    @property
    def complete(self) -> bool:
        """Whether the camera is finished and every frame of it is accounted for and settled."""
        return self.finished and self.spooled == 0 and self.answered >= self.frames

    def as_json(self) -> dict[str, Any]:
        """Return the object that ``hemolink demo --json`` ends with."""
        result: dict[str, Any] = {
            "frames": self.frames,
            "recorded": self.recorded,
            "quality_rejected": self.quality_rejected,
            "lost": self.lost,
            "duplicates": self.duplicates,
            "latency_ms": dict(self.latency_ms),
            "engine": self.engine,
            "model": self.model,
            "cases": self.cases,
            "referred": self.referred,
        }
        if self.waiting:
            result["waiting"] = self.waiting
        if self.parked:
            result["rejected"] = self.parked
        if self.unreadable:
            result["unreadable"] = self.unreadable
        if self.reasons:
            result["reasons"] = dict(self.reasons)
        return result

    def line(self) -> str:
        """Return one line for a person to watch."""
        parts = [
            f"{self.frames} frames taken",
            f"{self.recorded} in the record ({self.referred} referred)",
            f"{self.cases} case" + ("" if self.cases == 1 else "s"),
        ]
        if self.waiting:
            parts.append(f"{self.waiting} on their way")
        if self.lost:
            parts.append(f"{self.lost} LOST")
        if self.quality_rejected:
            parts.append(f"{self.quality_rejected} refused by the quality gate")
        if self.unreadable:
            parts.append(f"{self.unreadable} unreadable")
        if self.parked:
            parts.append(f"{self.parked} rejected")
        p50 = self.latency_ms.get("p50")
        if p50 is not None:
            parts.append(f"half of them within {p50 / 1000:.2g} s")
        if self.alarm:
            parts.append(f"! {self.alarm}")
        return " · ".join(parts)
