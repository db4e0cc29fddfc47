"""The stages of the worker, wired: intake, decoders, batcher, inference, and the suspects' own lane."""

import time
from collections.abc import Callable

from cloud_worker.batching import Batcher
from cloud_worker.decoding import DecoderPool
from cloud_worker.errors import FrameRejected
from cloud_worker.inference import Classifier, InferenceLoop
from cloud_worker.intake import PriorityFifo
from cloud_worker.job import Job, Ledger
from cloud_worker.journal import Journal
from cloud_worker.metrics import Metrics
from cloud_worker.settings import Settings
from cloud_worker.solitary import Solitary
from cloud_worker.suspects import SuspectBook
from cloud_worker.turnstile import Turnstile
from cloud_worker.watchdog import Watchdog
from model_zoo.predictor import Prediction


class Pipeline:
    """From a delivered frame to a prediction or a rejection.

    Args:
        settings: The worker's settings.
        classifier: The model, started by the caller.
        ledger: The jobs in hand; `settle` here strikes them out.
        journal: What outlives the process.
        suspects: Who is to be run alone.
        metrics: Where to count.
        answered: Told of each job with its prediction, on the inference thread.
        rejected: Told of each job that was given up, on whichever thread found out.
        lapsed: Asked about each job before it is decoded; true if its edge has sent it again by now.
        lost: Told once why the engine is lost.
        hung: Told once what hangs, and for how long.
        input_size: Width and height in pixels of the network's input.
    """

    def __init__(
        self,
        settings: Settings,
        classifier: Classifier,
        *,
        ledger: Ledger,
        journal: Journal,
        suspects: SuspectBook,
        metrics: Metrics,
        answered: Callable[[Job, Prediction], None],
        rejected: Callable[[Job, FrameRejected], None],
        lapsed: Callable[[Job], bool],
        lost: Callable[[str], None],
        hung: Callable[[str, float], None],
        input_size: tuple[int, int] | None = None,
    ) -> None:
        self._ledger = ledger
        self._journal = journal
        self._suspects = suspects
        self._metrics = metrics
        self._answered = answered
        self._rejected = rejected
        self._lapsed = lapsed
        self._intake: PriorityFifo[Job] = PriorityFifo(max(settings.max_queued_frames, settings.window))
        self._ready: PriorityFifo[Job] = PriorityFifo(1_000_000)  # bounded by the turnstile
        self._turnstile = Turnstile(2 * settings.max_batch_size)
        self._decoders = DecoderPool(
            self._intake,
            self._ready,
            turnstile=self._turnstile,
            journal=journal,
            screen=self._screen,
            prepare=classifier.prepare,
            reject=self._given_up,
            threads=settings.decoder_threads,
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
            classifier,
            batcher,
            journal=journal,
            metrics=metrics,
            answered=self._timed,
            reject=self._given_up,
            lost=lost,
        )
        self._solitary = Solitary(
            self._decoders,
            turnstile=self._turnstile,
            innocent=self._intake,
            ledger=ledger,
            deaths_alone=lambda job: suspects.deaths_alone(job.sha256),
        )
        self._watchdog = Watchdog(
            [self._inference.stopwatch, *self._decoders.stopwatches],
            deadline_s=settings.inference_deadline_s,
            on_hang=hung,
        )
        metrics.watch_queue("intake", self._intake)
        metrics.watch_queue("ready", self._ready)
        metrics.watch_queue("suspects", self._solitary)

    def start(self) -> None:
        """Start every thread."""
        self._inference.start()
        self._decoders.start()
        self._solitary.start()
        self._watchdog.start()

    def offer(self, job: Job) -> bool:
        """Take a job in without waiting; returns whether there was room."""
        self._ledger.add(job)
        self._journal.enter(job)
        if self._intake.offer(job, urgent=job.urgent, order=job.order):
            return True
        self.settle(job)
        return False

    def settle(self, job: Job) -> None:
        """Strike a job out everywhere: everything about it is done, or left to its edge."""
        if self._ledger.settle(job):
            self._journal.strike(job)
            if job.admitted:
                self._turnstile.leave()

    @property
    def queued(self) -> int:
        """Frames that wait for a decoder or a batch."""
        return len(self._intake) + len(self._ready) + len(self._solitary)

    def finish(self, timeout_s: float) -> None:
        """Take nothing more in, finish what is in, and end the threads, as far as the time goes.

        Suspects that wait for their turn stay in the ledger's account of what is left; see `withdraw`.
        """
        deadline = time.monotonic() + timeout_s
        self._intake.close()
        self._decoders.join(max(0.0, deadline - time.monotonic()))
        self._ready.close()
        self._inference.join(max(0.0, deadline - time.monotonic()))
        self._watchdog.stop()

    def withdraw(self, timeout_s: float) -> list[Job]:
        """Begin with no more suspects, and return those that waited; they are struck out."""
        left = self._solitary.stop(timeout_s)
        for job in left:
            self.settle(job)
        return left

    def _screen(self, job: Job) -> bool:
        """Keep from the decoders what is not to be touched, or not now."""
        if self._lapsed(job):
            self._metrics.lapsed.inc()
            self.settle(job)
            return True
        match self._suspects.verdict(job.sha256):
            case "innocent":
                return False
            case "condemned":
                self._rejected(job, self._suspects.sentence(job.sha256))
            case "suspect":
                job.admitted = False
                self._turnstile.leave()
                self._solitary.put(job)
        return True

    def _timed(self, job: Job, prediction: Prediction) -> None:
        self._acquit(job)
        self._metrics.stage("queue", job.queue_ms / 1e3)
        self._metrics.stage("decode", job.decode_ms / 1e3)
        self._answered(job, prediction)

    def _given_up(self, job: Job, error: FrameRejected) -> None:
        self._acquit(job)
        self._rejected(job, error)

    def _acquit(self, job: Job) -> None:
        if job.alone:
            self._suspects.acquit(job.sha256)
