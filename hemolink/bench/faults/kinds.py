"""The table of faults: what is broken, how, for how long, and who must be ready again afterwards.

A fault is a function that breaks something and returns the function that puts it right.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from hemolink.bench.faults import kinds_data, kinds_links, kinds_messages, kinds_processes
from hemolink.bench.faults.pictures import SORTS, Sort
from hemolink.bench.faults.plant import BROKER, CLIENTS, EDGES, MEMBERS, RECORD, WORKERS
from hemolink.bench.faults.scene import Begin
from hemolink.bench.faults.schedule import Card

Need = Literal["", "disk", "clock"]


@dataclass(frozen=True)
class Kind:
    """One row of the table.

    Attributes:
        name: What reports call it.
        summary: What is done, for a person.
        targets: What it can be done to.
        lasts_s: Shortest and longest time until it is put right.
        begin: Does it.
        holds: What it occupies: ``process`` or ``link`` or ``disk`` of the target, or a name of its own.
        copies: How often it stands in the deck for each target.
        upsets: Who must be ready again; the target, unless named.
        needs: What the machine must permit.
        on_request: Done only where it is asked for by name.
    """

    name: str
    summary: str
    targets: tuple[str, ...]
    lasts_s: tuple[float, float]
    begin: Begin
    holds: tuple[str, ...] = ("process",)
    copies: int = 1
    upsets: tuple[str, ...] = ()
    needs: Need = ""
    on_request: bool = False

    def affected(self, target: str) -> tuple[str, ...]:
        """Return the members that must be ready again."""
        return self.upsets or (target,)

    def cards(self) -> list[Card]:
        """Return its cards for the deck."""
        return [
            Card(
                self.name,
                target,
                self.lasts_s,
                frozenset(f"{thing} of {target}" for thing in self.holds),
                self.copies,
            )
            for target in self.targets
        ]


_SHORT, _SOME, _LONG = (0.1, 0.1), (2.0, 6.0), (4.0, 9.0)
_ALL = (BROKER, *CLIENTS)

_LINK, _DISK = ("link",), ("disk",)

_PROCESSES = (
    Kind("kill", "SIGKILL", MEMBERS, _SHORT, kinds_processes.kill),
    Kind("freeze", "SIGSTOP, and SIGCONT after a while", MEMBERS, (2.0, 8.0), kinds_processes.freeze),
    Kind(
        "broker-restart",
        "the broker is stopped in order and started with what it kept",
        (BROKER,),
        (0.5, 4.0),
        kinds_processes.restart_broker,
        copies=2,
        upsets=_ALL,
    ),
    Kind(
        "broker-forgets",
        "the broker is killed and its persistence file deleted",
        (BROKER,),
        (0.5, 4.0),
        kinds_processes.wipe_broker,
        copies=2,
        upsets=_ALL,
    ),
)

_LINKS = (
    Kind("cut", "the connection is reset", CLIENTS, _SHORT, kinds_links.cut, _LINK),
    Kind("unplug", "no connection for a while", CLIENTS, _SOME, kinds_links.unplug, _LINK),
    Kind(
        "half-open",
        "what either end says is swallowed silently",
        CLIENTS,
        _LONG,
        kinds_links.half_open,
        _LINK,
    ),
    Kind("narrow", "480 kbit/s and 50 ms each way", CLIENTS, _LONG, kinds_links.narrow, _LINK),
    Kind("lossy", "stalls, as after lost segments", CLIENTS, _LONG, kinds_links.lossy, _LINK),
)

_DATA = (
    Kind(
        "disk-full",
        "not a byte is free under the spool, or under the record",
        (*EDGES, RECORD),
        _LONG,
        kinds_data.fill_disk,
        _DISK,
        needs="disk",
    ),
    Kind(
        "clock",
        "the wall clock of one process jumps, and back later",
        CLIENTS,
        _LONG,
        kinds_data.jump_clock,
        ("clock",),
        needs="clock",
    ),
    Kind(
        "spool-page",
        "the edge is killed and half a page of its spool overwritten",
        EDGES,
        (0.3, 1.0),
        kinds_data.corrupt_spool,
        ("process", "disk"),
        copies=2,
    ),
    Kind(
        "spool-log",
        "the same, in the write-ahead log of the spool (only with --only)",
        EDGES,
        (0.3, 1.0),
        kinds_data.corrupt_spool_log,
        ("process", "disk"),
        on_request=True,
    ),
    Kind(
        "record-locked",
        "another program holds the record's write lock",
        (RECORD,),
        (3.0, 8.0),
        kinds_data.lock_record,
        _DISK,
        copies=2,
    ),
)

_SORTS: tuple[tuple[Sort, tuple[float, float], tuple[str, ...]], ...] = (
    ("raise", _SHORT, WORKERS),
    ("hang", (10.0, 14.0), WORKERS),
    ("abort", (6.0, 9.0), WORKERS),
    ("undecodable", _SHORT, WORKERS),
    ("abort-decoding", (6.0, 9.0), WORKERS),
    ("too-many-pixels", _SHORT, ()),
    ("oversize", _SHORT, ()),
    ("huge", _SHORT, ()),
    ("truncated", _SHORT, ()),
)
_MESSAGES = (
    *(
        Kind(sort, SORTS[sort], EDGES, lasts_s, kinds_messages.give(sort), (), upsets=upsets)
        for sort, lasts_s, upsets in _SORTS
    ),
    Kind(
        "repeats",
        "old frames, diagnoses and receipts are published again, shuffled",
        (BROKER,),
        (3.0, 6.0),
        kinds_messages.repeat,
        ("echo",),
        copies=3,
        upsets=_ALL,
    ),
    Kind(
        "revoked",
        "a client's credential is taken away, and given back later",
        (*EDGES, WORKERS[-1], RECORD),
        _SOME,
        kinds_messages.revoke,
        _LINK,
    ),
)

_ROWS = (*_PROCESSES, *_LINKS, *_DATA, *_MESSAGES)

KINDS: Mapping[str, Kind] = MappingProxyType({row.name: row for row in _ROWS})
"""Every kind of fault, by name."""
