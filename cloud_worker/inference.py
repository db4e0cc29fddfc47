"""Runs batches through the model, and keeps a frame that breaks it from taking its batch with it."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cloud_worker.batching import Batcher
from cloud_worker.errors import EngineLost, FrameRejected
from cloud_worker.job import Job
from cloud_worker.journal import Journal
from cloud_worker.metrics import Metrics
from cloud_worker.watchdog import Stopwatch
from model_zoo.predictor import Prediction

logger = logging.getLogger(__name__)

MAX_ATTEMPTS = 3
"""A frame on which inference fails so often becomes a dead letter."""

_GREY = 128
_CANARY_SIDE = 224


class Classifier(Protocol):
    """What the worker needs of a model; `model_zoo.predictor.Predictor` is one.

    The worker owns it: it starts and stops it, calls `prepare` from any thread and `infer` from one. A failure is an
    exception, of whatever type.
    """

    @property
    def engine_name(self) -> str:
        """Runtime and precision, such as ``openvino-bf16``; final once started."""

    def start(self) -> None:
        """Load and warm up; takes seconds."""

    def stop(self) -> None:
        """Let go of everything."""

    def prepare(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Turn an image (H, W, 3) uint8 BGR into the network's input (3, H', W') float32."""

    def infer(self, batch: Sequence[NDArray[np.float32]]) -> list[Prediction]:
        """Answer for each input, in order; blocks until done."""


class InferenceLoop:
    """The one thread that calls the model.

    A batch that fails is taken apart and each of its frames tried alone, until it has failed `MAX_ATTEMPTS` times,
    the batch counted. Before such a frame is given up, the model is asked about a plain grey image: if it fails
    there too, the engine is broken and not the frame, nothing is rejected, and the loop ends with `EngineLost`.

    Args:
        classifier: The model, started.
        batcher: Where batches come from.
        journal: Where each batch is noted while the model has it.
        metrics: Told of batch sizes and times.
        answered: Told of each job with its prediction, on this thread.
        reject: Told of each job that was given up, on this thread.
        lost: Told once why the engine is lost; the loop has then ended.

    Attributes:
        stopwatch: Runs while the model is at a call.
    """

    def __init__(
        self,
        classifier: Classifier,
        batcher: Batcher,
        *,
        journal: Journal,
        metrics: Metrics,
        answered: Callable[[Job, Prediction], None],
        reject: Callable[[Job, FrameRejected], None],
        lost: Callable[[str], None],
    ) -> None:
        self._classifier = classifier
        self._batcher = batcher
        self._journal = journal
        self._metrics = metrics
        self._answered = answered
        self._reject = reject
        self._lost = lost
        self.stopwatch = Stopwatch("an inference")
        self._thread = threading.Thread(target=self._run, name="inference", daemon=True)

    def start(self) -> None:
        """Start the thread. It ends when the batcher has no more."""
        self._thread.start()

    def join(self, timeout_s: float) -> None:
        """Wait for the thread to end."""
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while batch := self._batcher.next_batch():
            try:
                self._process(batch)
            except EngineLost as error:
                self._lost(str(error))
                return
            except Exception as error:
                logger.exception("the inference thread failed")
                self._lost(f"the inference thread failed ({type(error).__name__}: {error}); see the log")
                return

    def _process(self, batch: list[Job]) -> None:
        self._metrics.batch_size.observe(len(batch))
        began = time.monotonic()
        for job in batch:
            self._metrics.stage("batch", began - job.ready_at)
        if any(job.alone for job in batch):
            self._prove_engine()  # before, so that a death is this frame's doing and not a broken engine's
        with self._journal.at_work(batch):
            try:
                self._infer(batch)
            except Exception as error:  # noqa: BLE001 - whatever a runtime raises, the batch is taken apart
                logger.warning(
                    "inference failed on a batch of %d (%s): trying each frame alone", len(batch), error
                )
                for job in batch:
                    job.attempts += 1
                for job in batch:
                    self._one(job, error)

    def _one(self, job: Job, error: Exception) -> None:
        while job.attempts < MAX_ATTEMPTS:
            try:
                self._infer([job])
            except Exception as latest:  # noqa: BLE001 - as above
                job.attempts += 1
                error = latest
            else:
                return
        self._prove_engine()
        job.tensor = None
        self._journal.rest(job)
        self._reject(
            job,
            FrameRejected(
                f"the model failed on this frame {job.attempts} times ({type(error).__name__}: {error!s:.300})",
                code="inference_failed",
            ),
        )

    def _prove_engine(self) -> None:
        try:
            self._call([self._classifier.prepare(np.full((_CANARY_SIDE, _CANARY_SIDE, 3), _GREY, np.uint8))])
        except Exception as failure:
            raise EngineLost(
                f"the engine fails on a plain grey image too ({type(failure).__name__}: {failure}): it is broken; the "
                "frames stay unacknowledged and come again"
            ) from failure

    def _infer(self, jobs: list[Job]) -> None:
        began = time.monotonic()
        predictions = self._call([job.tensor for job in jobs if job.tensor is not None])
        if len(predictions) != len(jobs):
            raise RuntimeError(f"{len(predictions)} predictions for {len(jobs)} frames")
        took = time.monotonic() - began
        for job, prediction in zip(jobs, predictions, strict=True):
            job.inference_ms = took / len(jobs) * 1e3
            job.tensor = None
            self._journal.rest(job)
            self._answered(job, prediction)
        self._metrics.stage("inference", took)

    def _call(self, inputs: list[NDArray[np.float32]]) -> list[Prediction]:
        with self.stopwatch:
            return self._classifier.infer(inputs)
