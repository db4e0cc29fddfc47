"""What an attack showed, as a table for a person and as one JSON object."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import linear_regression, median
from typing import Any

from hemolink.bench.hostile.attack import Findings
from hemolink.bench.hostile.ledger import DAEMONS

WARM_UP = 0.2
"""Share of the samples that are passed over: caches and pools fill."""

MAX_GROWTH_MB = 48.0
"""Most that a process may have grown from the end of the warm-up to the end, by a straight line through the samples."""


@dataclass(frozen=True)
class DaemonReport:
    """One daemon's row.

    Attributes:
        sent: Messages that the broker passed on to it, honest ones included.
        counted: Of these, how many its metrics account for.
        reasons: How many by reason.
        rss_mb: Resident memory through the run, MB.
        disk_mb: Size of its folder before and after, MB.
        log_mb: Size of its log, MB.
    """

    sent: int
    counted: int
    reasons: Counter[str]
    rss_mb: Sequence[float]
    disk_mb: tuple[float, float]
    log_mb: float

    @property
    def settled(self) -> Sequence[float]:
        """The samples after the warm-up."""
        return self.rss_mb[int(len(self.rss_mb) * WARM_UP) :]

    @property
    def growth_mb(self) -> float:
        """Growth after the warm-up by a least-squares line, MB; negative if it shrank."""
        samples = self.settled
        if len(samples) < 3:  # noqa: PLR2004 - no line through fewer
            return 0.0
        slope, _ = linear_regression(range(len(samples)), samples)
        return slope * (len(samples) - 1)

    @property
    def before_mb(self) -> float:
        """Resident memory at the end of the warm-up, MB: the median of the next fifth of the samples."""
        return median(self.settled[: max(1, len(self.settled) // 5)] or [0.0])

    @property
    def after_mb(self) -> float:
        """Resident memory at the end, MB: the median of the last fifth of the samples."""
        return median(self.settled[-max(1, len(self.settled) // 5) :] or [0.0])

    def line(self, role: str) -> str:
        """Return the row as a sentence."""
        return (
            f"{role}: {self.sent} messages came, honest ones included; {self.counted} counted; memory "
            f"{self.before_mb:.0f} -> {self.after_mb:.0f} MB ({self.growth_mb:+.1f} by the line); disk "
            f"{self.disk_mb[0]:.1f} -> {self.disk_mb[1]:.1f} MB; log {self.log_mb:.2f} MB"
        )


@dataclass(frozen=True)
class Report:
    """The whole.

    Attributes:
        findings: What the attack showed.
        messages: Hostile messages that were sent in its rounds.
        seed: Its seed.
        daemons: By role.
        unaccounted: Messages that vanished, all daemons together.
        good: ``sent``, ``recorded``, ``duplicates``, and the slowest in ``worst_s``.
        seconds: How long the hostile messages took.
        pages: Pages fetched.
        extra: Findings of the other attacks, such as the one on the embedded broker.
    """

    findings: Findings
    messages: int
    seed: int
    daemons: dict[str, DaemonReport]
    unaccounted: int
    good: dict[str, Any]
    seconds: float
    pages: int
    extra: dict[str, Any]

    @property
    def holds(self) -> bool:
        """Whether everything that was to be shown was shown."""
        return not self.findings.faults

    def as_json(self) -> dict[str, Any]:
        """Return the object for the last line of ``--json``."""
        return {
            "messages": self.messages,
            "seed": self.seed,
            "families": dict(self.findings.sent),
            "by_daemon": {
                role: {
                    "sent": row.sent,
                    "counted": row.counted,
                    "malformed": self.findings.malformed[role],
                    "reasons": dict(row.reasons.most_common()),
                    "rss_mb_before": round(row.before_mb, 1),
                    "rss_mb_after": round(row.after_mb, 1),
                    "rss_growth_mb": round(row.growth_mb, 1),
                    "disk_mb_before": round(row.disk_mb[0], 2),
                    "disk_mb_after": round(row.disk_mb[1], 2),
                    "log_mb": round(row.log_mb, 2),
                }
                for role, row in self.daemons.items()
            },
            "crashes": self.findings.crashes,
            "unaccounted": self.unaccounted,
            "good_frames": self.good,
            "seconds": round(self.seconds, 1),
            "messages_per_s": round(self.messages / self.seconds, 1) if self.seconds else None,
            "pages": self.pages,
            **self.extra,
            "faults": self.findings.faults,
            "vanished": self.findings.vanished,
        }

    def lines(self) -> list[str]:
        """Return the tables for a person."""
        heads = (*DAEMONS, "nobody", "broker")
        lines = ["", f"{'hostile messages to':<24}{'sent':>9}" + "".join(f"{head:>9}" for head in heads)]
        for family, sent in self.findings.sent.most_common():
            to = self.findings.to.get(family, Counter())
            lines.append(f"{family:<24}{sent:>9}" + "".join(f"{to[head] or '':>9}" for head in heads))
        lines.append(
            "(a frame goes to worker and record; nobody: no subscriber; broker: it hung up on the sender)"
        )
        for role, row in self.daemons.items():
            lines += [
                "",
                row.line(role),
                f"{self.findings.malformed[role]:>12}  of them malformed by the contract; what became of all:",
                *(f"{count:>12}  {why}" for why, count in row.reasons.most_common()),
            ]
        good = self.good
        lines.append("")
        lines.append(
            f"good frames: {good['sent']} sent, {good['recorded']} recorded, {good['duplicates']} twice; half within "
            f"{good['half_s']} s, the slowest within {good['worst_s']} s"
        )
        lines.append(
            f"{self.messages} hostile messages in {self.seconds:.0f} s ({self.pages} pages fetched): "
            f"{self.findings.crashes} crashes, {self.unaccounted} vanished"
        )
        lines += [f"{name}: {value}" for name, value in self.extra.items()]
        for one in self.findings.vanished:
            lines.append(f"  vanished at the {one['daemon']}: {one['what']} ({one['flags']})")
            lines.append(f"    {one['topic']} {one['payload']}")
        return [*lines, *(f"  FAULT: {fault}" for fault in self.findings.faults)]
