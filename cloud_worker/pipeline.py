"""The stages of the worker, wired: intake, decoders, batcher, inference."""

import time
from collections.abc import Callable

from cloud_worker.batching import Batcher
from cloud_worker.decoding import DecoderPool
from cloud_worker.errors import FrameRejected
from cloud_worker.inference import Classifier, InferenceLoop, Watchdog
from cloud_worker.intake import PriorityFifo
from cloud_worker.job import Job
from cloud_worker.metrics import Metrics
from cloud_worker.settings import Settings
from model_zoo.predictor import Prediction


class Pipeline:
    """From a delivered frame to a prediction or a rejection.

    Args:
        settings: The worker's settings.
        classifier: The model, started by the caller.
        metrics: Where to count.
        answered: Told of each job with its prediction, on the inference thread.
        rejected: Told of each job that was given up, on whichever thread found out.
        lost: Told once why the engine is lost.
        hung: Told once for how long an inference has hung.
        input_size: Width and height in pixels of the network's input.
    """

    def __init__(
        self,
        settings: Settings,
        classifier: Classifier,
        *,
        metrics: Metrics,
        answered: Callable[[Job, Prediction], None],
        rejected: Callable[[Job, FrameRejected], None],
        lost: Callable[[str], None],
        hung: Callable[[float], None],
        input_size: tuple[int, int] | None = None,
    ) -> None:
        self._metrics = metrics
        self._answered = answered
        self._intake: PriorityFifo[Job] = PriorityFifo(max(settings.max_queued_frames, settings.window))
        self._ready: PriorityFifo[Job] = PriorityFifo(1_000_000)  # bounded by the decoders' slots
        self._decoders = DecoderPool(
            self._intake,
            self._ready,
            prepare=classifier.prepare,
            reject=rejected,
            threads=settings.decoder_threads,
            slots=2 * settings.max_batch_size,
            max_pixels=settings.max_pixels,
            at_least=input_size,
        )
        batcher = Batcher(
            self._ready,
            max_batch_size=settings.max_batch_size,
            max_wait_s=settings.max_wait_ms / 1e3,
            taken=self._decoders.release,
        )
        self._inference = InferenceLoop(
            classifier, batcher, metrics=metrics, answered=self._timed, reject=rejected, lost=lost
        )
        self._watchdog = Watchdog(self._inference, deadline_s=settings.inference_deadline_s, on_hang=hung)
        metrics.watch_queue("intake", self._intake)
        metrics.watch_queue("ready", self._ready)

    def start(self) -> None:
        """Start every thread."""
        self._inference.start()
        self._decoders.start()
        self._watchdog.start()

    def offer(self, job: Job) -> bool:
        """Take a job in without waiting; returns whether there was room."""
        return self._intake.offer(job, urgent=job.urgent, order=job.order)

    @property
    def queued(self) -> int:
        """Frames that wait for a decoder or a batch."""
        return len(self._intake) + len(self._ready)

    def finish(self, timeout_s: float) -> None:
        """Take nothing more in, finish what is in, and end the threads, as far as the time goes."""
        deadline = time.monotonic() + timeout_s
        self._intake.close()
        self._decoders.join(timeout_s)
        self._ready.close()
        self._inference.join(max(0.0, deadline - time.monotonic()))
        self._watchdog.stop()

    def _timed(self, job: Job, prediction: Prediction) -> None:
        self._metrics.stage("queue", job.queue_ms / 1e3)
        self._metrics.stage("decode", job.decode_ms / 1e3)
        self._answered(job, prediction)
