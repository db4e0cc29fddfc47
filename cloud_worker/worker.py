"""The worker: start, run, stop."""

import hashlib
import logging
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import wait
from typing import Any

from broker_config.codec import decode
from broker_config.delivery import Publication, publication
from broker_config.errors import DecodeError, SessionError, TopicError
from broker_config.messages import FleetModel, ModelIdentity, Receipt, ReceiptStatus, now
from broker_config.monitor import Monitor
from broker_config.process import announce_ports, next_birth
from broker_config.session import IncomingMessage, Session, Subscription
from broker_config.topics import TopicName, Topics
from cloud_worker import diagnosis
from cloud_worker.dead_letters import DeadLetters
from cloud_worker.errors import FrameRejected, ModelUnusable
from cloud_worker.inference import Classifier
from cloud_worker.job import Job, Ledger
from cloud_worker.metrics import Metrics
from cloud_worker.model import make_predictor, open_package
from cloud_worker.pipeline import Pipeline
from cloud_worker.presence import Herald
from cloud_worker.publishing import Outcome, Publisher, log_receipt
from cloud_worker.settings import Settings
from model_zoo.errors import ModelZooError
from model_zoo.predictor import Prediction

logger = logging.getLogger(__name__)

_POLL_S = 0.2
_RETRY_RECEIPTS_S = 2.0
_GOODBYE_S = 5.0
_UNSUBSCRIBE_S = 2.0
_STOPPED = "the worker stopped before it came to this frame"


class Worker:
    """Takes frames, diagnoses them, publishes the diagnoses; at least once, and a record removes duplicates.

    Args:
        settings: Validated settings.
        model: A model and how it introduces itself; the package that the settings name, unless given.
        end_process: Ends the process when an inference hangs, for nothing else can end it.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        model: tuple[Classifier, ModelIdentity] | None = None,
        end_process: Callable[[int], object] = os._exit,
    ) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.dead_letters = DeadLetters(settings.directory / "dead-letters", settings.dead_letters)
        self._topics = Topics(settings.broker.root)
        self._given = model
        self._end_process = end_process
        self._ledger = Ledger()
        self._diagnosed = self._rejected = 0
        self._draining = False
        self._declining = threading.Lock()
        self._declined: list[Job] = []
        self._has_left = False
        self._handed_back = 0
        self._failure = ""
        self._other_model = ""
        self._classifier: Classifier | None = None
        self._identity: ModelIdentity | None = None
        self._input_size: tuple[int, int] | None = None
        self._pipeline: Pipeline | None = None
        self._publisher: Publisher | None = None
        self._herald: Herald | None = None
        self._session: Session | None = None
        self._monitor = Monitor(
            settings.monitor.host,
            settings.monitor.port,
            ready=self.ready,
            registry=self.metrics.registry,
            status=self.status,
        )

    # Three verbs

    def start(self) -> None:
        """Load the model, then connect: no frame is asked for before it can be served.

        Raises:
            SettingsError: If the directory or the monitor's port cannot be used.
            ModelUnusable: If the model cannot be served.
        """
        settings = self.settings
        self.dead_letters.open()
        birth = next_birth(settings.directory / "birth")
        self._monitor.start()
        announce_ports(settings.directory, "worker", {"monitor": self._monitor.port})
        self._load_model()
        self._herald = Herald(
            self._topics,
            worker=settings.worker,
            pool=settings.pool,
            birth=birth,
            counts=self._counts,
            heartbeat_s=settings.heartbeat_s,
        )
        self._herald.model = self._identity
        self._start_pipeline()
        self._connect()

    def run(self, stop: threading.Event) -> int:
        """Work until ``stop`` is set or the engine is lost; returns the process's exit code."""
        while not stop.wait(_POLL_S):
            if self._failure:
                logger.critical("%s", self._failure)
                return 1
        return 0

    def stop(self) -> None:
        """Drain: stop taking, finish, publish, acknowledge, hand back, close; each step says why."""
        deadline = time.monotonic() + self.settings.drain_s
        self._draining = True  # stop taking: what still arrives is handed back
        if self._herald is not None and self._session is not None:
            self._session.publish_soon(self._herald.drain())  # the fleet sees it go before it is gone
            self._leave_pool(self._session)  # the broker routes what is new to the other workers
        if self._pipeline is not None:
            # A lost engine finishes nothing, so there is nothing to wait for.
            self._pipeline.finish(0.0 if self._failure else self.settings.drain_s)
        if not self._failure:
            self._ledger.wait_empty(max(0.0, deadline - time.monotonic()))  # published and acknowledged
        self._empty_window()  # the broker may hold more that it had routed here
        self._hand_back()  # the edges need not wait for their timers
        if self._publisher is not None:
            self._publisher.stop(_GOODBYE_S)
        if self._session is not None and self._herald is not None:
            self._herald.stop()
            self._session.stop(_GOODBYE_S, goodbye=self._herald.state("offline"))
        self._monitor.stop()
        if self._classifier is not None and not self._failure:
            self._classifier.stop()
        logger.info(
            "stopped after %d diagnoses and %d dead letters; %d frames left to other workers",
            self._diagnosed,
            self._rejected,
            self._handed_back,
        )

    # State, for the monitor and the fleet

    def ready(self) -> tuple[bool, str]:
        """Return whether frames are being served, and one sentence that says why not."""
        if self._failure:
            return False, self._failure
        if self._draining:
            return False, "draining: finishing what was taken"
        if self._session is None:
            return False, f"loading the model {self.settings.model}"
        if not self._session.connected:
            return False, self._session.last_error or "connecting to the broker"
        if self._publisher is not None and self._publisher.alarm:
            return False, self._publisher.alarm
        return (
            True,
            f"serving {self._identity.name} with {self._identity.engine}" if self._identity else "serving",
        )

    def status(self) -> dict[str, Any]:
        """Return what ``/status`` shows."""
        ready, sentence = self.ready()
        return {
            "worker": self.settings.worker,
            "pool": self.settings.pool,
            "ready": ready,
            "sentence": sentence,
            "model": self._identity.model_dump() if self._identity else None,
            "diagnosed": self._diagnosed,
            "rejected": self._rejected,
            "taken": len(self._ledger),
            "queued": self._pipeline.queued if self._pipeline else 0,
            "dead_letters": len(self.dead_letters),
            "fleet_model": self._other_model,
        }

    @property
    def monitor_port(self) -> int:
        """The port of the monitor."""
        return self._monitor.port

    def _counts(self) -> tuple[int, int, int]:
        return self._diagnosed, self._rejected, len(self._ledger)

    # Starting

    def _load_model(self) -> None:
        if self._given is not None:
            self._classifier, self._identity = self._given
            self._classifier.start()
            return
        package = open_package(self.settings)
        predictor = make_predictor(self.settings, package)
        try:
            predictor.start()
        except ModelZooError as error:
            raise ModelUnusable(f"model {package.name} cannot be started: {error}") from error
        self._classifier = predictor
        preprocessing = package.card.preprocessing
        self._input_size = (preprocessing.width, preprocessing.height)
        self._identity = diagnosis.identity_of(package, engine=predictor.engine_name)

    def _start_pipeline(self) -> None:
        assert self._classifier is not None  # noqa: S101 - loaded just now
        self._pipeline = Pipeline(
            self.settings,
            self._classifier,
            metrics=self.metrics,
            answered=self._answered,
            rejected=self._reject,
            lost=self._lost,
            hung=self._hung,
            input_size=self._input_size,
        )
        self.metrics.watch_queue("taken", self._ledger)

    def _connect(self) -> None:
        assert self._herald is not None  # noqa: S101 - made just now
        assert self._pipeline is not None  # noqa: S101 - likewise
        settings, topics = self.settings, self._topics
        self._session = Session(
            settings.broker,
            client_id=f"{settings.broker.root}-worker-{settings.worker}",
            subscriptions=(Subscription(self._frames), Subscription(topics.fleet_model())),
            on_message=self._take,
            birth=self._herald.state,
            will=self._herald.state("offline"),
            clean_start=True,  # a kept session would hoard frames that another worker could serve
            manual_ack=True,
            receive_maximum=settings.window,
        )
        self._publisher = Publisher(
            self._session, settled=self._settled, abandoned=self._ledger.settle, metrics=self.metrics
        )
        self._publisher.start()
        self._pipeline.start()
        self._session.start()
        self._herald.start(self._session.publish_soon)

    # A frame's way; `_take` runs on the network thread and must not wait

    def _take(self, message: IncomingMessage) -> None:
        name = self._parse(message.topic)
        if name is not None and name.kind == "fleet-model":
            self._note_fleet_model(message)
            message.acknowledge()
            return
        if (name is not None and name.kind != "frame") or (name is None and "/frame/" not in message.topic):
            # The embedded broker delivers retained messages that nobody asked for.
            message.acknowledge()
            return
        job = Job(message, name)
        self.metrics.frames.labels(name.detail if name else "unknown").inc()
        assert self._pipeline is not None  # noqa: S101 - connected after it was made
        if self._draining:
            self._decline(job)
            return
        self._ledger.add(job)
        if not self._pipeline.offer(job):
            self._ledger.settle(job)
            self.metrics.overflow.inc()
            logger.warning(
                "the queue is full: a frame was left to its edge's resend", extra={"frame_id": job.frame_id}
            )

    def _parse(self, topic: str) -> TopicName | None:
        try:
            return self._topics.parse(topic)
        except TopicError:
            return None

    def _answered(self, job: Job, prediction: Prediction) -> None:
        assert self._publisher is not None  # noqa: S101 - made before the pipeline starts
        self._publisher.submit(job, lambda: self._compose(job, prediction))

    def _reject(self, job: Job, error: FrameRejected) -> None:
        assert self._publisher is not None  # noqa: S101 - made before the pipeline starts
        self._publisher.submit(job, lambda: self._compose_rejection(job, error))

    def _compose(self, job: Job, prediction: Prediction) -> Outcome:
        assert self._identity is not None  # noqa: S101 - set before anything is taken
        try:
            message = diagnosis.assemble(
                job,
                prediction,
                model=self._identity,
                worker=self.settings.worker,
                ignored_flags=self.settings.ignored_quality_flags,
            )
        except FrameRejected as error:
            return self._compose_rejection(job, error)
        logger.info(
            "%s, %s",
            message.prediction,
            message.decision,
            extra={"frame_id": message.frame_id, "case": message.case},
        )
        return Outcome(
            job,
            publication(self._topics.diagnosis(message.site, message.device), message),
            self._receipt(job, "diagnosed"),
        )

    def _compose_rejection(self, job: Job, error: FrameRejected) -> Outcome:
        payload = job.message.payload
        message = diagnosis.reject(
            job, error, worker=self.settings.worker, payload_sha256=hashlib.sha256(payload).hexdigest()
        )
        logger.warning(
            "rejected (%s): %s", error.code, error, extra={"frame_id": message.frame_id, "case": message.case}
        )
        self.dead_letters.keep(payload, message, topic=job.message.topic if job.topic else "")
        return Outcome(
            job,
            publication(self._topics.rejected(message.site, message.device), message),
            self._receipt(job, "rejected", reason=f"{error.code}: {error}"),
            rejected=error.code,
        )

    def _receipt(self, job: Job, status: ReceiptStatus, *, reason: str = "") -> Publication | None:
        frame_id = job.frame_id
        if frame_id is None or job.topic is None:
            return None
        receipt = Receipt(
            frame_id=frame_id, status=status, reason=reason[:2000], by=self.settings.worker, at=now()
        )
        # To the device on whose topic it came, whatever the frame claims.
        return publication(self._topics.receipt(job.topic.site, job.topic.device), receipt)

    def _settled(self, outcome: Outcome) -> None:
        if outcome.rejected:
            self._rejected += 1
        else:
            self._diagnosed += 1
        self._ledger.settle(outcome.job)

    @property
    def _frames(self) -> str:
        """The topic filter of the frames."""
        pool = self.settings.pool
        return self._topics.shared_frames(pool) if pool else self._topics.all_frames()

    def _leave_pool(self, session: Session) -> None:
        """Unsubscribe from the frames, and hand back at once what came in the meantime."""
        if not session.unsubscribe(self._frames, timeout_s=_UNSUBSCRIBE_S):
            return  # handed back at the end, or this worker would be sent the same frames again
        with self._declining:
            self._has_left = True
            declined, self._declined = self._declined, []
        for job in declined:
            self._decline(job)

    def _decline(self, job: Job) -> None:
        """Leave a frame to another worker; called on the network thread too."""
        with self._declining:
            if not self._has_left:
                if len(self._declined) < self.settings.max_queued_frames:
                    self._declined.append(job)
                return
            self._handed_back += 1
        receipt = self._receipt(job, "retry", reason=_STOPPED)
        if receipt is not None and self._session is not None:
            self._session.publish_soon(receipt).add_done_callback(log_receipt)
        job.message.acknowledge()  # makes room for the next that was routed here

    def _empty_window(self) -> None:
        """Take and decline what the broker held back until the last acknowledgements."""
        deadline = time.monotonic() + _UNSUBSCRIBE_S
        while self._has_left and self._herald is not None and self._session is not None:
            before = self._handed_back
            try:  # a round trip: what the broker sends upon an acknowledgement comes before its answer
                self._session.publish(self._herald.state(), timeout_s=max(0.1, deadline - time.monotonic()))
            except SessionError:
                return
            if self._handed_back == before or time.monotonic() > deadline:
                return

    def _hand_back(self) -> None:
        """Ask the edges for what could not be finished; unacknowledged frames of a gone worker reach nobody."""
        jobs = [*self._ledger.remaining(), *self._declined]
        if not jobs or self._session is None:
            return
        logger.warning("handing back %d frames that could not be finished", len(jobs))
        self._handed_back += len(jobs)
        reason = self._failure or _STOPPED
        receipts = [one for job in jobs if (one := self._receipt(job, "retry", reason=reason)) is not None]
        wait([self._session.publish_soon(one) for one in receipts], timeout=_RETRY_RECEIPTS_S)

    # What goes wrong with the model

    def _lost(self, reason: str) -> None:
        self._failure = reason

    def _hung(self, busy_s: float) -> None:
        self._failure = (
            f"an inference has taken {busy_s:.0f} s, and inference_deadline_s is {self.settings.inference_deadline_s:g}: "
            "ending the process for its supervisor to start it anew; its frames come again from their edges"
        )
        logger.critical("%s", self._failure)
        logging.shutdown()
        self._end_process(1)

    def _note_fleet_model(self, message: IncomingMessage) -> None:
        try:
            wanted = decode(message.payload, FleetModel)
        except DecodeError as error:
            logger.warning("the fleet's model cannot be read: %s", error)
            return
        serves = self._identity
        if serves is not None and wanted.weights_sha256 != serves.weights_sha256:
            self._other_model = f"{wanted.name} {wanted.version}"
            logger.warning(
                "the fleet should serve %s %s and this worker serves %s %s: set model in its settings and restart it",
                wanted.name,
                wanted.version,
                serves.name,
                serves.version,
            )
        else:
            self._other_model = ""
