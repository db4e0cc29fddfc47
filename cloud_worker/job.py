"""A frame on its way through the worker, and the ledger of those that are not settled yet."""

import itertools
import re
import threading
import time
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from broker_config.messages import LARGEST_COUNT, Frame
from broker_config.session import IncomingMessage
from broker_config.topics import TopicName

# Where the encoder puts the id: the text key "frame_id", then a text of 32 bytes (RFC 8949, section 3.1).
_FRAME_ID = re.compile(rb"\x68frame_id\x78\x20([0-9a-f]{32})")
# Likewise the number, an unsigned integer of 1 to 9 bytes.
_SEQUENCE = re.compile(rb"\x68sequence([\x00-\x17]|\x18.|\x19..|\x1a.{4}|\x1b.{8})", re.DOTALL)
_ID_ALONE = re.compile(rb"[0-9a-f]{32}")
_HEAD_BYTES = 4096


@dataclass(eq=False, slots=True)
class Job:
    """One delivered frame and what is known of it so far.

    Delivered again while it is in hand, a frame is worked on once, and every delivery of it is acknowledged after the one
    outcome.

    Attributes:
        message: The message as it first came.
        topic: The topic name taken apart; none if it is not a frame topic.
        connection: Number of the connection that delivered it last.
        sha256: Of the payload, in hexadecimal; known from decoding on.
        alone: Whether it is worked on with nothing else beside it, being a suspect.
        admitted: Whether it went through the turnstile.
        frame: The decoded message.
        tensor: The network's input, (3, H, W) float32, from decoding until inference.
        attempts: How many times inference has failed on it.
        queue_ms: From the network thread to the decoder.
        decode_ms: Reading the message, checking and decoding the image, preparing the input.
        ready_at: `time.monotonic` when it became ready for a batch.
        inference_ms: Its share of its batch's time.
        order: Rises with each job, so that decoders that overtake each other do not change the order of frames.
    """

    message: IncomingMessage
    topic: TopicName | None
    connection: int = 0
    sha256: str = ""
    alone: bool = False
    admitted: bool = False
    frame: Frame | None = None
    tensor: NDArray[np.float32] | None = None
    attempts: int = 0
    queue_ms: float = 0.0
    decode_ms: float = 0.0
    ready_at: float = 0.0
    inference_ms: float = 0.0
    order: int = field(default_factory=itertools.count().__next__)
    _more: list[IncomingMessage] = field(default_factory=list)
    _sealed: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def join(self, message: IncomingMessage, *, connection: int) -> bool:
        """Take in another delivery of the same frame; returns false if the outcome is already told."""
        with self._lock:
            if self._sealed:
                return False
            self._more.append(message)
            self.connection = connection
            return True

    def acknowledge(self) -> int:
        """Tell the broker that the work is done, for every delivery; none can join any more.

        Returns:
            How many acknowledgements came too late for their connection.
        """
        with self._lock:
            self._sealed = True
            deliveries = (self.message, *self._more)
        return sum(not one.acknowledge() for one in deliveries)

    def lapse(self, *, connection: int, older_than_s: float) -> bool:
        """Give the job up if the connection that delivered it is gone, and that was long ago; returns whether it is.

        Args:
            connection: Number of the present connection.
            older_than_s: How long ago the last delivery must have come.
        """
        with self._lock:
            latest = self._more[-1] if self._more else self.message
            if self.connection >= connection or time.monotonic() - latest.received_at < older_than_s:
                return False
            self._sealed = True
            return True

    @property
    def urgent(self) -> bool:
        """Whether it goes before routine frames."""
        return self.topic is not None and self.topic.detail == "stat"

    @property
    def frame_id(self) -> str | None:
        """The frame's id, read from a payload that could not be decoded where that is possible.

        The edge learns by it that its frame was rejected; a wrong guess is harmless, since an edge ignores receipts
        for ids that it does not know.
        """
        if self.frame is not None:
            return self.frame.frame_id
        correlation = self.message.correlation_data
        if correlation is not None and _ID_ALONE.fullmatch(correlation):
            return correlation.decode()
        found = _FRAME_ID.search(self.message.payload, 0, _HEAD_BYTES)
        return found[1].decode() if found else None

    @property
    def sequence(self) -> int | None:
        """The frame's number at its device; read, like the id, from a payload that is not to be decoded."""
        if self.frame is not None:
            return self.frame.sequence
        found = _SEQUENCE.search(self.message.payload, 0, _HEAD_BYTES)
        if found is None:
            return None
        number = int.from_bytes(found[1][1:] or found[1])
        return number if number <= LARGEST_COUNT else None


_Key = tuple[str, bytes | None, int]


def _key(message: IncomingMessage) -> _Key:
    return message.topic, message.correlation_data, len(message.payload)


class Ledger:
    """The jobs that were taken and are not settled."""

    def __init__(self) -> None:
        self._jobs: dict[int, Job] = {}
        self._by_key: dict[_Key, Job] = {}
        self._changed = threading.Condition()

    def __len__(self) -> int:
        return len(self._jobs)

    def add(self, job: Job) -> None:
        """Note a job that was taken."""
        with self._changed:
            self._jobs[id(job)] = job
            self._by_key[_key(job.message)] = job

    def same(self, message: IncomingMessage) -> Job | None:
        """Return the unsettled job of the very same frame, byte for byte; none if there is none."""
        job = self._by_key.get(_key(message))
        return job if job is not None and job.message.payload == message.payload else None

    def settle(self, job: Job) -> bool:
        """Strike a job out, its outcome being published; returns whether it stood here."""
        with self._changed:
            stood = self._jobs.pop(id(job), None) is not None
            key = _key(job.message)
            if self._by_key.get(key) is job:
                del self._by_key[key]
            self._changed.notify_all()
            return stood

    def wait_settled(self, job: Job, timeout_s: float) -> bool:
        """Wait until one job is settled; returns whether that came in time."""
        with self._changed:
            return self._changed.wait_for(lambda: id(job) not in self._jobs, timeout_s)

    def wait_empty(self, timeout_s: float) -> bool:
        """Wait until every job is settled; returns whether that came in time."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._jobs, timeout_s)

    def remaining(self) -> list[Job]:
        """Return the jobs that are not settled, oldest first."""
        with self._changed:
            return list(self._jobs.values())
