"""The worker: start, run, stop."""

import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Any

from broker_config.delivery import Publication
from broker_config.messages import ModelIdentity
from broker_config.monitor import Monitor
from broker_config.process import announce_ports, next_birth
from broker_config.session import Session, Subscription
from broker_config.topics import Topics
from cloud_worker.aftermath import Aftermath
from cloud_worker.answers import Answers
from cloud_worker.dead_letters import DeadLetters
from cloud_worker.departure import Departure
from cloud_worker.desk_stops import CODE, DeskStops
from cloud_worker.errors import EXIT_FAULT, EXIT_FINE, EXIT_HUNG, FrameRejected
from cloud_worker.fleet_wish import FleetWish
from cloud_worker.identity import FolderLock
from cloud_worker.inference import Classifier
from cloud_worker.job import Job, Ledger
from cloud_worker.journal import Journal
from cloud_worker.metrics import Metrics
from cloud_worker.model import load
from cloud_worker.pipeline import Pipeline
from cloud_worker.presence import Herald
from cloud_worker.publishing import Outcome, Publisher, log_receipt
from cloud_worker.reception import Reception
from cloud_worker.settings import Settings
from cloud_worker.supervisor import Supervisor
from cloud_worker.suspects import SuspectBook
from cloud_worker.vitals import Vitals
from model_zoo.predictor import Prediction

logger = logging.getLogger(__name__)

_POLL_S = 0.2
_GOODBYE_S = 5.0


class Worker:
    """Takes frames, diagnoses them, publishes the diagnoses; at least once, and a record removes duplicates.

    Args:
        settings: Validated settings.
        model: A model and how it introduces itself; the package that the settings name, unless given.
        end_process: Ends the process when work hangs, for nothing else can end it.
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
        self.suspects = SuspectBook(settings.suspects_directory)
        self._topics = Topics(settings.broker.root)
        self._given = model
        self._end_process = end_process
        self._lock = FolderLock(settings.directory)
        self._journal = Journal(settings.suspects_directory / "journal", slots=settings.most_in_hand)
        self._aftermath = Aftermath(self._journal, self.suspects)
        self._ledger = Ledger()
        self._stops = DeskStops()
        self._answers = Answers(
            self._topics,
            worker=settings.name,
            dead_letters=self.dead_letters,
            stops=self._stops,
            ignored_flags=settings.ignored_quality_flags,
        )
        self._wish = FleetWish()
        self._vitals = Vitals(heartbeat_s=settings.heartbeat_s)
        self._supervisor = Supervisor()
        self._diagnosed = self._rejected = 0
        self._draining = False
        self._failure = ""
        self._classifier: Classifier | None = None
        self._input_size: tuple[int, int] | None = None
        self._pipeline: Pipeline | None = None
        self._publisher: Publisher | None = None
        self._reception: Reception | None = None
        self._departure: Departure | None = None
        self._herald: Herald | None = None
        self._session: Session | None = None
        self._monitor = Monitor(
            settings.monitor.host,
            settings.monitor.port,
            ready=self.ready,
            alive=self.alive,
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
        self._lock.take()
        self._supervisor.start()
        self.dead_letters.open()
        birth = next_birth(settings.directory / "birth")
        self._aftermath.look_back(birth)
        self._monitor.start()
        announce_ports(settings.directory, "worker", {"monitor": self._monitor.port})
        self._load_model()
        self._herald = Herald(
            self._topics,
            worker=settings.name,
            pool=settings.pool,
            birth=birth,
            counts=self._counts,
            heartbeat_s=settings.heartbeat_s,
            stopped=lambda: self._stops.sentence,
        )
        self._herald.model = self._answers.model
        self._start_pipeline()
        self._connect()
        self._supervisor.ready()

    def run(self, stop: threading.Event) -> int:
        """Work until ``stop`` is set or the engine is lost; returns the process's exit code."""
        while not stop.wait(_POLL_S):
            if self._failure:
                logger.critical("%s", self._failure)
                return EXIT_FAULT
            alive, sentence = self.alive()
            if alive:
                self._supervisor.alive(sentence)
        return EXIT_FINE

    def stop(self) -> None:
        """Drain: stop taking, finish, publish, acknowledge, hand back, close; each step says why."""
        deadline = time.monotonic() + self.settings.drain_s
        self._draining = True
        self._supervisor.stopping()
        if self._herald is not None and self._session is not None and self._departure is not None:
            assert self._reception is not None  # noqa: S101 - made with the session
            self._reception.declining = True  # stop taking: what still arrives is handed back
            self._session.publish_soon(self._herald.drain())  # the fleet sees it go before it is gone
            self._departure.leave_pool()  # the broker routes what is new to the other workers
        withdrawn: list[Job] = []
        if self._pipeline is not None:
            # A lost engine finishes nothing, so there is nothing to wait for.
            withdrawn = self._pipeline.withdraw(0.0 if self._failure else self.settings.drain_s / 2)
            self._pipeline.finish(0.0 if self._failure else max(0.0, deadline - time.monotonic()))
        if not self._failure:
            self._ledger.wait_empty(max(0.0, deadline - time.monotonic()))  # published and acknowledged
        if self._departure is not None and self._herald is not None:
            self._departure.empty_window(
                self._herald.state
            )  # the broker may hold more that it had routed here
            # The edges need not wait for their timers, but for a suspect that has just broken the engine.
            left = [job for job in self._ledger.remaining() if not (self._failure and job.alone)]
            self._departure.hand_back([*withdrawn, *left], reason=self._failure)
        if self._publisher is not None:
            self._publisher.stop(_GOODBYE_S)
        if self._session is not None and self._herald is not None:
            self._herald.stop()
            self._session.stop(_GOODBYE_S, goodbye=self._herald.state("offline"))
        self._monitor.stop()
        self._journal.close(in_order=not self._failure)  # who asks a worker to stop accuses no frame
        if self._classifier is not None and not self._failure:
            self._classifier.stop()
        self._lock.release()
        logger.info(
            "stopped after %d diagnoses and %d dead letters; %d frames left to other workers",
            self._diagnosed,
            self._rejected,
            self._departure.handed_back if self._departure is not None else 0,
        )

    # State, for the monitor, the fleet and the supervisor

    def ready(self) -> tuple[bool, str]:
        """Return whether frames are being served, and one sentence that says why not."""
        obstacle = self._obstacle()
        return not obstacle, obstacle or self.alive()[1]

    def _obstacle(self) -> str:
        if self._draining and not self._failure:
            return "draining: finishing what was taken"
        if complaint := self._complaint():
            return complaint
        if self._session is None:
            return f"loading the model {self.settings.model}"
        if not self._session.connected:
            return self._session.last_error or "connecting to the broker"
        return self._publisher.alarm if self._publisher is not None else ""

    def _complaint(self) -> str:
        return self._failure or self._vitals.complaint(self._publisher)

    def alive(self) -> tuple[bool, str]:
        """Return whether every thread turns, and one sentence; where not, only a restart helps."""
        if complaint := self._complaint():
            return False, complaint
        model = self._answers.model
        sentence = f"serving {model.name} with {model.engine}" if model else "serving"
        return True, f"{sentence}, and referring every frame: {CODE}" if self._stops.stop else sentence

    def status(self) -> dict[str, Any]:
        """Return what ``/status`` shows."""
        ready, sentence = self.ready()
        return {
            "worker": self.settings.name,
            "pool": self.settings.pool,
            "ready": ready,
            "sentence": sentence,
            "model": self._answers.model.model_dump() if self._answers.model else None,
            "diagnosed": self._diagnosed,
            "rejected": self._rejected,
            "taken": len(self._ledger),
            "queued": self._pipeline.queued if self._pipeline else 0,
            "dead_letters": len(self.dead_letters),
            "dead_letters_removed": self.dead_letters.removed,
            "suspects": len(self.suspects),
            "condemned": self.suspects.condemned,
            "fleet_model": self._wish.other,
            "stopped": self._stops.sentence,
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
            self._classifier, self._answers.model = self._given
            self._classifier.start()
        else:
            self._classifier, self._answers.model, self._input_size = load(self.settings)
        self._wish.serves = self._stops.serves = self._answers.model

    def _start_pipeline(self) -> None:
        assert self._classifier is not None  # noqa: S101 - loaded just now
        self._pipeline = Pipeline(
            self.settings,
            self._classifier,
            ledger=self._ledger,
            journal=self._journal,
            suspects=self.suspects,
            metrics=self.metrics,
            answered=self._answered,
            rejected=self._reject,
            lapsed=self._lapsed,
            lost=self._lost,
            hung=self._hung,
            input_size=self._input_size,
        )
        self.metrics.watch_queue("taken", self._ledger)
        self.metrics.watch_count(
            "dead_letters_removed", "Dead letters removed by their bounds", lambda: self.dead_letters.removed
        )
        self.metrics.watch_count(
            "model_stopped",
            "Whether the desk has stopped the model that is served: every frame is referred",
            lambda: float(self._stops.stop is not None),
        )
        self.metrics.watch_count("condemned", "Frames not touched again", lambda: self.suspects.condemned)

    def _connect(self) -> None:
        assert self._herald is not None  # noqa: S101 - made just now
        assert self._pipeline is not None  # noqa: S101 - likewise
        settings, topics = self.settings, self._topics
        frames = topics.shared_frames(settings.pool) if settings.pool else topics.all_frames()
        self._session = session = Session(
            settings.broker.model_copy(update={"session_expiry_s": settings.session_kept_s}),
            client_id=f"{settings.broker.root}-worker-{settings.name}",
            # What is said to the fleet is retained and comes before the first frame; access rules of an earlier release
            # may not allow the stops yet, and the record enforces them all the same.
            subscriptions=(
                Subscription(topics.fleet_stops(), required=False),
                Subscription(topics.fleet_model()),
                Subscription(frames),
            ),
            on_message=lambda message: reception.take(message),  # noqa: PLW0108 - made below
            birth=self._herald.state,
            will=self._herald.state("offline"),
            clean_start=not settings.session_kept_s,
            manual_ack=True,
            receive_maximum=settings.window,
            on_connected=self._tell_edges,
        )
        self._departure = Departure(
            session, frames=frames, answers=self._answers, most=settings.max_queued_frames
        )
        self._reception = reception = Reception(
            topics,
            ledger=self._ledger,
            wish=self._wish,
            stops=self._stops,
            metrics=self.metrics,
            offer=self._pipeline.offer,
            decline=self._departure.decline,
            connection=lambda: session.connections,
        )
        self._publisher = Publisher(
            session, settled=self._settled, abandoned=self._pipeline.settle, metrics=self.metrics
        )
        self._publisher.start()
        self._pipeline.start()
        session.start()
        self._herald.start(self._publish_state)

    def _tell_edges(self) -> None:
        assert self._session is not None  # noqa: S101 - it calls
        if not self.settings.session_kept_s:  # a kept session brings by itself what a dead process had taken
            for receipt in self._aftermath.receipts(self._answers):
                self._session.publish_soon(receipt).add_done_callback(log_receipt)

    # A job's end

    def _answered(self, job: Job, prediction: Prediction) -> None:
        assert self._publisher is not None  # noqa: S101 - made before the pipeline starts
        self._publisher.submit(job, lambda: self._answers.diagnosis(job, prediction))

    def _reject(self, job: Job, error: FrameRejected) -> None:
        assert self._publisher is not None  # noqa: S101 - made before the pipeline starts
        self._publisher.submit(job, lambda: self._answers.rejection(job, error))

    def _settled(self, outcome: Outcome) -> None:
        assert self._pipeline is not None  # noqa: S101 - likewise
        if outcome.rejected:
            self._rejected += 1
        else:
            self._diagnosed += 1
        self._pipeline.settle(outcome.job)

    def _lapsed(self, job: Job) -> bool:
        session = self._session
        return (
            session is not None
            and not self.settings.session_kept_s  # a kept session delivers again, and the two join
            and job.lapse(connection=session.connections, older_than_s=self.settings.lease_s)
        )

    def _publish_state(self, state: Publication) -> None:
        assert self._session is not None  # noqa: S101 - the herald starts after it
        self._vitals.note_beat(self._session.publish_soon(state))

    # What goes wrong with the model

    def _lost(self, reason: str) -> None:
        self._failure = reason

    def _hung(self, what: str, busy_s: float) -> None:
        self._failure = (
            f"{what} has taken {busy_s:.0f} s, and inference_deadline_s is {self.settings.inference_deadline_s:g}: "
            "ending the process for its supervisor to start it anew; its frames come again from their edges"
        )
        self._journal.note_hang()
        logger.critical("%s", self._failure)
        logging.shutdown()
        self._end_process(EXIT_HUNG)
