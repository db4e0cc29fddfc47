"""From a message to the network's input: everything untrusted is judged here, and before it costs anything."""

import hashlib
import logging
import threading
import time
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from broker_config.codec import decode
from broker_config.errors import DecodeError
from broker_config.messages import Frame
from cloud_worker.errors import FrameRejected
from cloud_worker.intake import PriorityFifo
from cloud_worker.job import Job
from cloud_worker.journal import Journal
from cloud_worker.turnstile import Turnstile
from cloud_worker.watchdog import Stopwatch
from model_zoo.errors import ImageError
from model_zoo.image import decode_image, image_format, image_size

logger = logging.getLogger(__name__)

Prepare = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


def read_frame(job: Job) -> Frame:
    """Return the frame that a job's payload holds.

    Raises:
        FrameRejected: If the topic is no frame topic, the payload is no frame, or the two disagree.
    """
    if job.topic is None or job.topic.kind != "frame":
        raise FrameRejected(
            "the topic is not a frame topic of this root: publish to {root}/v1/{site}/{device}/frame/stat or "
            "/routine, with site and device of a-z, 0-9, '_' and '-'",
            code="wrong_topic",
        )
    try:
        frame = decode(job.message.payload, Frame)
    except DecodeError as error:
        raise FrameRejected(str(error), code=error.code) from None
    stated = (frame.site, frame.device, frame.priority)
    if stated != (job.topic.site, job.topic.device, job.topic.detail):
        # The broker lets a device publish below its own topics only; what the frame claims has no such warrant.
        raise FrameRejected(
            f"the frame states {'/'.join(stated)} and came on the topic of {job.topic.site}/{job.topic.device}/"
            f"{job.topic.detail}: a device must publish its own frames on its own topic",
            code="topic_mismatch",
        )
    return frame


def read_image(
    frame: Frame, *, max_pixels: int, at_least: tuple[int, int] | None = None
) -> NDArray[np.uint8]:
    """Return a frame's image, decoded.

    Args:
        frame: The frame.
        max_pixels: An image whose header states more is refused undecoded.
        at_least: Width and height in pixels that suffice; see `model_zoo.image.decode_image`.

    Returns:
        (H, W, 3) uint8, channels blue, green, red.

    Raises:
        FrameRejected: If the bytes are not the image that the frame states.
    """
    image = frame.image
    if hashlib.sha256(image).hexdigest() != frame.image_sha256:
        raise FrameRejected(
            "the image's SHA-256 differs from the one the frame states: it was damaged or changed on its way",
            code="wrong_hash",
        )
    try:
        found = image_format(image)
    except ImageError as error:
        raise FrameRejected(str(error), code="not_an_image") from None
    if found != frame.encoding:
        raise FrameRejected(
            f"the image is {found.upper()}, the frame states {frame.encoding.upper()}: state what was encoded",
            code="wrong_encoding",
        )
    try:
        width, height = image_size(image)
    except ImageError as error:
        raise FrameRejected(str(error), code="bad_header") from None
    if width * height > max_pixels:
        raise FrameRejected(
            f"the image would decode to {width} x {height} pixels, and the limit is {max_pixels}: send single "
            "fields of view, or raise max_pixels",
            code="image_too_large",
        )
    if (width, height) != (frame.width, frame.height):
        raise FrameRejected(
            f"the image has {width} x {height} pixels, the frame states {frame.width} x {frame.height}: state the "
            "size of what was encoded",
            code="wrong_size",
        )
    try:
        return decode_image(image, max_pixels=max_pixels, at_least=at_least)
    except ImageError as error:
        raise FrameRejected(str(error), code="corrupt_image") from None


class DecoderPool:
    """Threads that decode (OpenCV and the hash let go of the interpreter's lock while they work).

    A decoder takes a routine frame only when there is room for the result, so that no more than the turnstile's slots
    wait decoded; an urgent frame is taken at once, and so stands in the very next batch.

    Args:
        source: Where jobs come from.
        ready: Where decoded jobs go; its taker must call `release` once for each job it takes.
        turnstile: Who may be decoded, and how many.
        journal: Where each job is noted while it is being decoded.
        screen: Asked about each job before anything of it is read; true: it is no more the decoder's affair.
        prepare: From an image to the network's input; called from many threads.
        reject: Told of each job that is rejected, on the decoder's thread.
        threads: Number of threads.
        max_pixels: See `read_image`.
        at_least: See `read_image`.

    Attributes:
        stopwatches: What each thread is at, for the watchdog; the last is that of `decode`.
    """

    def __init__(
        self,
        source: PriorityFifo[Job],
        ready: PriorityFifo[Job],
        *,
        turnstile: Turnstile,
        journal: Journal,
        screen: Callable[[Job], bool],
        prepare: Prepare,
        reject: Callable[[Job, FrameRejected], None],
        threads: int,
        max_pixels: int,
        at_least: tuple[int, int] | None = None,
    ) -> None:
        self._source = source
        self._ready = ready
        self._turnstile = turnstile
        self._journal = journal
        self._screen = screen
        self._prepare = prepare
        self._reject = reject
        self._max_pixels = max_pixels
        self._at_least = at_least
        self.stopwatches = [Stopwatch("decoding") for _ in range(threads + 1)]
        self._threads = [
            threading.Thread(target=self._run, args=(watch,), name=f"decoder-{number}", daemon=True)
            for number, watch in enumerate(self.stopwatches[:-1])
        ]

    def start(self) -> None:
        """Start the threads. They end when the source is closed and empty."""
        cv2.setNumThreads(
            1
        )  # these threads are the parallelism; OpenCV's own pool would fight them and the engine
        for thread in self._threads:
            thread.start()

    def join(self, timeout_s: float) -> None:
        """Wait for the threads to end."""
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def release(self) -> None:
        """Say that a decoded job was taken out of ``ready``."""
        self._turnstile.free()
        self._source.poke()

    def decode(self, job: Job) -> bool:
        """Decode one job on the caller's thread, past the turnstile; returns whether it is now in ``ready``."""
        self._turnstile.pass_alone()
        done = self._decode(job, self.stopwatches[-1])
        if not done:
            self.release()
        return done

    def let_in(self) -> None:
        """Say that the turnstile is open again."""
        self._source.poke()

    def _run(self, watch: Stopwatch) -> None:
        while True:
            job = self._source.take(reserve=self._turnstile.admit)
            if job is None:
                return
            job.admitted = True
            job.sha256 = hashlib.sha256(job.message.payload).hexdigest()
            if self._screen(job) or not self._decode(job, watch):
                self.release()

    def _decode(self, job: Job, watch: Stopwatch) -> bool:
        began = time.monotonic()
        job.queue_ms = (began - job.message.received_at) * 1e3
        try:
            with watch, self._journal.at_work((job,)):
                job.frame = read_frame(job)
                image = read_image(job.frame, max_pixels=self._max_pixels, at_least=self._at_least)
                job.tensor = self._prepare(image)
        except FrameRejected as error:
            self._reject(job, error)
            return False
        except Exception as error:
            logger.exception("decoding a frame failed in an unforeseen way", extra={"frame_id": job.frame_id})
            self._reject(
                job,
                FrameRejected(
                    f"decoding failed in an unforeseen way ({type(error).__name__}): see the worker's log",
                    code="worker_fault",
                ),
            )
            return False
        job.ready_at = time.monotonic()
        job.decode_ms = (job.ready_at - began) * 1e3
        return self._ready.offer(job, urgent=job.urgent, order=job.order)
