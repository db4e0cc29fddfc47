"""A frame on its way through the worker, and the ledger of those that are not settled yet."""

import itertools
import re
import threading
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from broker_config.messages import Frame
from broker_config.session import IncomingMessage
from broker_config.topics import TopicName

# Where the encoder puts the id: the text key "frame_id", then a text of 32 bytes (RFC 8949, section 3.1).
_FRAME_ID = re.compile(rb"\x68frame_id\x78\x20([0-9a-f]{32})")
_ID_ALONE = re.compile(rb"[0-9a-f]{32}")
_HEAD_BYTES = 4096


@dataclass(eq=False, slots=True)
class Job:
    """One delivered frame and what is known of it so far.

    Attributes:
        message: The message as it came; acknowledging it is the last thing that happens to a job.
        topic: The topic name taken apart; none if it is not a frame topic.
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
    frame: Frame | None = None
    tensor: NDArray[np.float32] | None = None
    attempts: int = 0
    queue_ms: float = 0.0
    decode_ms: float = 0.0
    ready_at: float = 0.0
    inference_ms: float = 0.0
    order: int = field(default_factory=itertools.count().__next__)

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


class Ledger:
    """The jobs that were taken and are not settled."""

    def __init__(self) -> None:
        self._jobs: dict[int, Job] = {}
        self._changed = threading.Condition()

    def __len__(self) -> int:
        return len(self._jobs)

    def add(self, job: Job) -> None:
        """Note a job that was taken."""
        with self._changed:
            self._jobs[id(job)] = job

    def settle(self, job: Job) -> None:
        """Strike a job out, its outcome being published."""
        with self._changed:
            self._jobs.pop(id(job), None)
            if not self._jobs:
                self._changed.notify_all()

    def wait_empty(self, timeout_s: float) -> bool:
        """Wait until every job is settled; returns whether that came in time."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._jobs, timeout_s)

    def remaining(self) -> list[Job]:
        """Return the jobs that are not settled, oldest first."""
        with self._changed:
            return list(self._jobs.values())
