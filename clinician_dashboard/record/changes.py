"""What a batch of messages did to the record, for receipts, counters and the live pages."""

from dataclasses import dataclass, field


@dataclass
class Applied:
    """The effect of one committed batch.

    Attributes:
        recorded: Frames to send a ``recorded`` receipt for, as (site, device, frame id): new ones and repeats.
        refused: Frames that can never enter the record, as (site, device, frame id, reason): their edge must park them.
        newly_recorded: Frames that became recorded in this batch.
        latencies_ms: From capture to recorded, one for each newly recorded frame.
        cases: Keys (site, code) of the cases that changed.
        fleet: Whether a device's or worker's state changed.
        rejections: Whether the list of dead letters changed.
        tallies: What was counted, by (name, code).
        outcomes: How many messages ended how, by (kind, outcome); together as many as the batch had.
    """

    recorded: list[tuple[str, str, str]] = field(default_factory=list)
    refused: list[tuple[str, str, str, str]] = field(default_factory=list)
    newly_recorded: int = 0
    latencies_ms: list[float] = field(default_factory=list)
    cases: set[tuple[str, str]] = field(default_factory=set)
    fleet: bool = False
    rejections: bool = False
    tallies: dict[tuple[str, str], int] = field(default_factory=dict)
    outcomes: dict[tuple[str, str], int] = field(default_factory=dict)
