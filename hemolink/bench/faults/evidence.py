"""What the run has left behind, read by the harness itself: the record, its images, the edges' spools, their logs.

Nothing here asks a daemon, and nothing is written. Pictures are known by the hash of their file, and by the number drawn
into their pixels where an edge has encoded them anew.
"""

import hashlib
import json
import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from broker_config.codec import decode
from broker_config.errors import DecodeError
from broker_config.messages import Frame
from hemolink.bench.faults import mark
from hemolink.bench.faults.load import Given

SPOOL = "spool.sqlite"
_REFUSED = re.compile(r"refused file '(?P<file>[^']+)': (?P<reason>.*)", re.DOTALL)
_PASSED_OVER = re.compile(r"passed over, (?P<code>\w+): file '(?P<file>[^']+)': (?P<reason>.*)", re.DOTALL)


@dataclass(frozen=True)
class Kept:
    """A frame's row in the record.

    Attributes:
        frame_id: Its id.
        device: Its device, which is the edge's name.
        sequence: Its number at that device.
        number: The harness's number, or None if the picture is none of ours.
        whole: Whether the image is in the store and its bytes hash to its name.
        recorded: Whether the record says that image and diagnosis are both there.
    """

    frame_id: str
    device: str
    sequence: int
    number: int | None
    whole: bool
    recorded: bool


@dataclass(frozen=True)
class Diagnosed:
    """A diagnosis' row in the record."""

    frame_id: str
    model: str
    joined: bool


@dataclass(frozen=True)
class Told:
    """A rejection's row in the record: what a person at a desk is told."""

    frame_id: str | None
    device: str
    sequence: int | None
    code: str
    reason: str


@dataclass(frozen=True)
class Spooled:
    """A frame's row in an edge's spool."""

    edge: str
    frame_id: str
    sequence: int
    number: int | None
    state: str
    reason: str


@dataclass
class Evidence:
    """Everything that was found.

    Attributes:
        kept: The record's frames.
        diagnosed: The record's diagnoses.
        told: The record's rejections.
        spooled: What the edges' spools hold.
        refused: Why an edge did not take a picture, by edge and file.
        next_sequence: What each edge's spool says it will number next.
        known: Numbers and sequences of frames that a fault had seen in a spool before it damaged it, by frame id.
        unreadable: What could not be read, in sentences.
    """

    kept: list[Kept] = field(default_factory=list)
    diagnosed: list[Diagnosed] = field(default_factory=list)
    told: list[Told] = field(default_factory=list)
    spooled: list[Spooled] = field(default_factory=list)
    refused: dict[tuple[str, str], str] = field(default_factory=dict)
    next_sequence: dict[str, int] = field(default_factory=dict)
    known: dict[str, Spooled] = field(default_factory=dict)
    unreadable: list[str] = field(default_factory=list)


class Reader:
    """Reads what a plant leaves behind, while it runs or afterwards.

    Args:
        directory: The plant's folder.
        edges: Names of the edges.
        record: Name of the record's folder.
    """

    def __init__(self, directory: Path, *, edges: Iterable[str], record: str) -> None:
        self._directory = directory
        self._edges = tuple(edges)
        self._record = directory / record
        self._numbers: dict[str, int | None] = {}
        self._spooled: dict[str, int | None] = {}
        self._refused: dict[tuple[str, str], str] = {}
        self._read_to: dict[str, int] = {}

    def read(self, given: Iterable[Given], *, known: Mapping[str, Spooled], images: bool) -> Evidence:
        """Return the evidence.

        Args:
            given: The pictures that were given.
            known: Frames seen in a spool before a fault damaged it.
            images: Whether to read and hash every image; otherwise its name is believed.
        """
        self._numbers |= {one.sha256: one.number for one in given}
        found = Evidence(known=dict(known))
        self._try(found, "the record", lambda: self._read_record(found, images=images))
        for edge in self._edges:
            self._try(found, f"the spool of {edge}", lambda edge=edge: self._read_spool(found, edge))  # type: ignore[misc]
            self._read_log(edge)
        found.refused = dict(self._refused)
        return found

    def spool_rows(self, edge: str) -> Iterator[Spooled]:
        """Yield what an edge's spool holds; a payload is opened once only, when its frame is first seen.

        Raises:
            sqlite3.Error: If it cannot be read.
        """
        with closing(read_only(self._directory / edge / SPOOL)) as spool:
            rows = spool.execute("SELECT frame_id, sequence, state, reason FROM frames").fetchall()
            for frame_id, sequence, state, reason in rows:
                if self._spooled.get(frame_id) is None:
                    payload = spool.execute(
                        "SELECT payload FROM payloads WHERE sequence = ?", (sequence,)
                    ).fetchone()
                    self._spooled[frame_id] = self._number_in(payload[0]) if payload is not None else None
                yield Spooled(edge, frame_id, sequence, self._spooled[frame_id], state, reason)

    # Inside

    def _try(self, found: Evidence, what: str, read: Callable[[], None]) -> None:
        try:
            read()
        except (sqlite3.Error, OSError) as error:
            found.unreadable.append(f"{what} cannot be read ({error})")

    def _read_record(self, found: Evidence, *, images: bool) -> None:
        with closing(read_only(self._record / "record.sqlite")) as record:
            record.execute("BEGIN")  # one moment for the three reads
            for frame_id, device, sequence, sha256, recorded_at in record.execute(
                "SELECT frame_id, device, sequence, image_sha256, recorded_at FROM frames"
            ):
                whole = not images or self._is_whole(sha256)
                found.kept.append(
                    Kept(frame_id, device, sequence, self._number_of(sha256), whole, recorded_at is not None)
                )
            for frame_id, model, joined in record.execute(
                "SELECT frame_id, weights_sha256, joined FROM diagnoses"
            ):
                found.diagnosed.append(Diagnosed(frame_id, model, bool(joined)))
            has_sequence = any(
                row[1] == "sequence" for row in record.execute("PRAGMA table_info(rejections)")
            )
            query = f"SELECT frame_id, device, {'sequence' if has_sequence else 'NULL'}, code, reason FROM rejections"  # noqa: S608
            found.told.extend(Told(*row) for row in record.execute(query))

    def _read_spool(self, found: Evidence, edge: str) -> None:
        found.spooled.extend(self.spool_rows(edge))
        with closing(read_only(self._directory / edge / SPOOL)) as spool:
            (found.next_sequence[edge],) = spool.execute("SELECT next FROM totals").fetchone()
            found.told.extend(
                Told(frame_id or None, edge, sequence, "spool_damaged", reason)
                for frame_id, sequence, reason in spool.execute("SELECT frame_id, sequence, reason FROM lost")
            )

    def _read_log(self, edge: str) -> None:
        """Read on in an edge's log, up to its last whole line."""
        path = self._directory / "logs" / f"{edge}.log"
        if not path.exists():
            return
        with path.open("rb") as log:
            log.seek(self._read_to.get(edge, 0))
            said = log.read()
        whole = said.rfind(b"\n") + 1
        self._read_to[edge] = self._read_to.get(edge, 0) + whole
        for line in said[:whole].decode("utf-8", "replace").splitlines():
            if "refused file" not in line and "passed over" not in line:
                continue
            try:
                message = str(json.loads(line)["message"])
            except (ValueError, KeyError):
                continue
            if matched := _REFUSED.match(message) or _PASSED_OVER.match(message):
                self._refused[edge, matched["file"]] = matched["reason"].split(": ")[0]

    # Which picture

    def _image_path(self, sha256: str) -> Path:
        return self._record / "images" / "sha256" / sha256[:2] / sha256[2:4] / sha256

    def _is_whole(self, sha256: str) -> bool:
        try:
            return hashlib.sha256(self._image_path(sha256).read_bytes()).hexdigest() == sha256
        except OSError:
            return False

    def _number_of(self, sha256: str) -> int | None:
        if sha256 not in self._numbers:
            try:
                self._numbers[sha256] = _drawn(self._image_path(sha256).read_bytes())
            except OSError:
                return None
        return self._numbers[sha256]

    def _number_in(self, payload: bytes | None) -> int | None:
        if payload is None:
            return None
        try:
            frame = decode(payload, Frame)
        except DecodeError:
            return None
        if frame.image_sha256 not in self._numbers:
            self._numbers[frame.image_sha256] = _drawn(frame.image)
        return self._numbers[frame.image_sha256]


def read_only(path: Path) -> sqlite3.Connection:
    """Open a database for reading only.

    Raises:
        sqlite3.Error: If it is not there or cannot be read.
    """
    return sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=5.0)


def _drawn(image: bytes) -> int | None:
    import cv2  # noqa: PLC0415 - only for pictures that were encoded anew
    import numpy as np  # noqa: PLC0415

    decoded = cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_COLOR)
    marked = mark.read(decoded) if decoded is not None else None
    return marked[0] if marked is not None else None
