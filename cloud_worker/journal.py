"""Which frames the worker has in hand, in a file that outlives the process.

The file is mapped into memory: what was written survives a crash, an abort and SIGKILL, because the kernel keeps it; only
a power cut may lose it, and then nothing is suspected. So a note costs a few copied bytes and no fsync. At the
next start it says which frames were being decoded or inferred when the process died, and which only waited.

A slot's first byte tells its state and is written last when a slot fills, and first when it empties, so that a process
that dies in between leaves a whole slot or none.
"""

import mmap
import os
import re
import struct
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from broker_config.errors import SettingsError, TopicError
from broker_config.messages import LARGEST_COUNT
from broker_config.topics import check_level
from cloud_worker.errors import EngineLost
from cloud_worker.job import Job

_MAGIC = b"HLJ2"
_HEADER = struct.Struct("<4sIQ")  # magic, slots, birth
_HEADER_BYTES = 256
_SLOT_BYTES = 256
_BODY = struct.Struct("<32s32s97sQ")  # SHA-256 of the payload, frame id, site/device, number at the device
_NO_SEQUENCE = 2**64 - 1
_NO_KEY = bytes(32)
_FRAME_ID = re.compile(rb"[0-9a-f]{32}")

_TAKEN, _AT_WORK, _ALONE, _HUNG = 1, 2, 4, 8


@dataclass(frozen=True)
class Leftover:
    """A frame that was in hand when the process died.

    Attributes:
        sha256: Of its payload, empty if it had not come so far.
        frame_id: Its id, empty if that could not be read.
        site: The site of its device, empty if it came on no frame topic.
        device: Its device, likewise.
        sequence: Its number at its device, none if that could not be read.
        at_work: Whether it was being decoded or inferred, and so may be why.
        alone: Whether nothing else was.
        hung: Whether it had been at that for too long.
    """

    sha256: str
    frame_id: str
    site: str
    device: str
    sequence: int | None
    at_work: bool
    alone: bool
    hung: bool


class Journal:
    """The frames in hand. Any thread may call any method.

    Args:
        path: The file; made by `open`.
        slots: How many frames can be noted; one beyond that is worked on without a note.
    """

    def __init__(self, path: Path, *, slots: int) -> None:
        self._path = Path(path)
        self._slots = slots
        self._lock = threading.Lock()
        self._free: list[int] = []
        self._held: dict[int, tuple[int, int]] = {}  # offset and state by identity of the job
        self._map: mmap.mmap | None = None
        self._birth = 0

    def open(self, *, birth: int) -> tuple[int, list[Leftover]]:
        """Read what an earlier process left. It stays in the file until `begin`.

        Args:
            birth: Number of this start, to be written by `begin`.

        Returns:
            The number of the start that left it (0: none), and the frames.

        Raises:
            SettingsError: If the file cannot be read or made.
        """
        self._birth = birth
        try:
            content = self._path.read_bytes() if self._path.exists() else b""
        except OSError as error:
            raise self._unusable(error) from None
        if len(content) < _HEADER_BYTES:
            return 0, []
        magic, slots, earlier = _HEADER.unpack_from(content)
        if magic != _MAGIC:
            return 0, []
        starts = range(_HEADER_BYTES, min(len(content), _HEADER_BYTES + slots * _SLOT_BYTES), _SLOT_BYTES)
        found = [_read(content[start : start + _SLOT_BYTES]) for start in starts]
        return earlier, [one for one in found if one is not None]

    def begin(self) -> None:
        """Wipe the file and take notes from now on.

        Raises:
            SettingsError: If the file cannot be made, for instance on a full disk.
        """
        size = _HEADER_BYTES + self._slots * _SLOT_BYTES
        try:
            # Really written and not only made longer: a hole in a full disk would kill at the first note.
            temporary = self._path.with_suffix(".new")
            temporary.write_bytes(_HEADER.pack(_MAGIC, self._slots, self._birth).ljust(size, b"\0"))
            temporary.replace(self._path)
            handle = os.open(self._path, os.O_RDWR)
            try:
                self._map = mmap.mmap(handle, size)
            finally:
                os.close(handle)
        except OSError as error:
            raise self._unusable(error) from None
        self._free = [_HEADER_BYTES + number * _SLOT_BYTES for number in reversed(range(self._slots))]

    def enter(self, job: Job) -> None:
        """Note that a job was taken."""
        frame_id = job.frame_id or ""
        where = f"{job.topic.site}/{job.topic.device}" if job.topic is not None else ""
        sequence = job.sequence
        body = _BODY.pack(
            _NO_KEY, frame_id.encode(), where.encode(), _NO_SEQUENCE if sequence is None else sequence
        )
        with self._lock:
            if self._map is None or not self._free:
                return
            offset = self._free.pop()
            self._map[offset + 1 : offset + 1 + len(body)] = body
            self._map[offset] = _TAKEN
            self._held[id(job)] = (offset, _TAKEN)

    def strike(self, job: Job) -> None:
        """Forget a job."""
        with self._lock:
            held = self._held.pop(id(job), None)
            if held is not None and self._map is not None:
                self._map[held[0]] = 0
                self._free.append(held[0])

    @contextmanager
    def at_work(self, jobs: Sequence[Job]) -> Iterator[None]:
        """Note that jobs are being decoded or inferred, until the block ends or `rest` is called for one.

        A block that ends by `cloud_worker.errors.EngineLost` leaves the notes: the process must end, and these may be why.
        """
        for job in jobs:
            self._set(job, _TAKEN | _AT_WORK | (_ALONE if job.alone else 0), key=job.sha256)
        try:
            yield
        except EngineLost:
            raise
        except BaseException:
            self._rest_all(jobs)
            raise
        self._rest_all(jobs)

    def rest(self, job: Job) -> None:
        """Note that a job is not being worked on any more."""
        self._set(job, _TAKEN)

    def note_hang(self) -> None:
        """Note, just before the process ends, that what is at work has been for too long."""
        with self._lock:
            if self._map is not None:
                for offset, state in self._held.values():
                    if state & _AT_WORK:
                        self._map[offset] = state | _HUNG

    def close(self, *, in_order: bool) -> None:
        """End taking notes.

        Args:
            in_order: Nothing is to be suspected at the next start; otherwise what is at work stays noted.
        """
        with self._lock:
            if self._map is None:
                return
            for offset, state in self._held.values():
                if in_order or not state & _AT_WORK:
                    self._map[offset] = 0
            self._map.close()
            self._map = None
            self._held = {}

    def _rest_all(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            self.rest(job)

    def _set(self, job: Job, state: int, *, key: str = "") -> None:
        with self._lock:
            held = self._held.get(id(job))
            if held is None or self._map is None or held[1] == state:
                return
            offset = held[0]
            if key:
                self._map[offset + 1 : offset + 33] = bytes.fromhex(key)
            self._map[offset] = state
            self._held[id(job)] = (offset, state)

    def _unusable(self, error: OSError) -> SettingsError:
        return SettingsError(
            f"{self._path}: the journal of frames in hand cannot be kept ({error.strerror or error}): make the directory "
            "writable to this user and leave room on the disk"
        )


def _read(slot: bytes) -> Leftover | None:
    """Return what a slot holds; none if it is empty, or holds what this release never writes."""
    state = slot[0]
    if not state & _TAKEN or len(slot) < 1 + _BODY.size:
        return None
    key, frame_id, where, sequence = _BODY.unpack_from(slot, 1)
    frame_id, where = frame_id.rstrip(b"\0"), where.rstrip(b"\0")
    try:
        site, _, device = where.decode("ascii").partition("/")
        if where:
            check_level(site, name="site")
            check_level(device, name="device")
    except (UnicodeDecodeError, TopicError):
        return None
    if frame_id and not _FRAME_ID.fullmatch(frame_id):
        return None
    return Leftover(
        sha256="" if key == _NO_KEY else key.hex(),
        frame_id=frame_id.decode(),
        site=site,
        device=device,
        sequence=sequence if sequence <= LARGEST_COUNT else None,
        at_work=bool(state & _AT_WORK) and key != _NO_KEY,
        alone=bool(state & _ALONE),
        hung=bool(state & _HUNG),
    )
