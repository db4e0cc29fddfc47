"""The agent: one microscope's host from camera to receipt, run as a daemon.

Threads: capture (camera to spool), uplink (spool to broker), desk (what arrives), pulse (state and alarms), the
session's own, and the monitor's. They meet in the spool, and in queues that never keep the network thread waiting.
"""

import contextlib
import fcntl
import logging
import os
import queue
import threading
import time
from importlib.metadata import PackageNotFoundError, version
from typing import IO, Any

from broker_config.codec import decode
from broker_config.delivery import Publication, publication
from broker_config.errors import DecodeError, TopicError
from broker_config.messages import Command, DeviceState, Presence, Receipt, WorkerState, now
from broker_config.monitor import Monitor
from broker_config.process import announce_ports, next_birth
from broker_config.session import IncomingMessage, Session, Subscription
from broker_config.topics import Topics
from edge_agent.cameras.base import CameraContext
from edge_agent.cameras.registry import create_camera
from edge_agent.capture import CaptureLoop
from edge_agent.case_book import Case, CaseBook
from edge_agent.errors import AgentRefused, SpoolUnavailable
from edge_agent.orders import Arrived, OrderDesk
from edge_agent.settings import Settings
from edge_agent.spool import FILE_NAME, Spool, damaged_spools
from edge_agent.status import Alarms, Counters
from edge_agent.uplink import Uplink

logger = logging.getLogger(__name__)

ROLE = "edge"
_MAX_ARRIVED = 10_000
_PULSE_S = 0.5
_STOP_S = 5.0


class Agent:
    """Captures fields, keeps them, and delivers them.

    Args:
        settings: Validated settings.

    Raises:
        SettingsError: If the camera's kind or options are not valid.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._topics = Topics(settings.broker.root)
        self._alarms = Alarms()
        self._counters = Counters()
        self._spool = Spool(settings.directory / FILE_NAME, max_bytes=settings.spool.max_bytes)
        standing = Case(settings.case, settings.priority) if settings.case else None
        self._cases = CaseBook(settings.directory, standing)
        self._camera = create_camera(settings.camera, CameraContext(seen=self._spool.has_source))
        self._monitor = Monitor(
            settings.monitor.host,
            settings.monitor.port,
            ready=self._ready,
            registry=self._counters.registry,
            status=self.status,
        )
        self._birth = 0
        self._presence: Presence = "online"
        self._lock_file: IO[str] | None = None
        self._arrived: queue.Queue[IncomingMessage | None] = queue.Queue(_MAX_ARRIVED)
        self._workers: dict[str, tuple[str, int]] = {}
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._session: Session | None = None
        self._uplink: Uplink | None = None
        self._capture: CaptureLoop | None = None
        self._desk: OrderDesk | None = None

    # Life

    def start(self) -> None:
        """Open the spool, connect in the background, and begin to capture.

        Raises:
            AgentRefused: If another agent works in this directory.
            SpoolUnavailable: If the spool cannot be opened.
            SettingsError: If the birth count cannot be kept, or the monitor cannot listen.
        """
        settings = self._settings
        self._lock_directory()
        self._birth = next_birth(settings.directory / "birth")
        self._spool.open()
        self._session = self._make_session()
        self._uplink = Uplink(
            spool=self._spool,
            session=self._session,
            topics=self._topics,
            site=settings.site,
            device=settings.device,
            settings=settings.delivery,
            counters=self._counters,
            alarms=self._alarms,
        )
        self._capture = CaptureLoop(
            settings,
            camera=self._camera,
            spool=self._spool,
            cases=self._cases,
            counters=self._counters,
            alarms=self._alarms,
            on_spooled=self._uplink.frame_added,
        )
        self._desk = OrderDesk(
            capture=self._capture,
            cases=self._cases,
            state=self.state,
            max_age_s=settings.commands.max_age_s,
        )
        self._look_around()
        self._monitor.start()
        self._session.start()
        self._uplink.start()
        self._threads = [
            threading.Thread(target=self._serve_arrivals, name="desk", daemon=True),
            threading.Thread(target=self._beat, name="pulse", daemon=True),
        ]
        for thread in self._threads:
            thread.start()
        self._capture.start()
        announce_ports(settings.directory, ROLE, {"monitor": self._monitor.port})
        waiting = self._spool.totals.unsettled
        logger.info(
            "%s/%s captures from %s; %d frames wait in the spool",
            settings.site,
            settings.device,
            self._camera.description,
            waiting,
        )

    def run(self, until: threading.Event) -> None:
        """Wait until told to stop."""
        until.wait()

    def stop(self) -> None:
        """Drain and end. What is not delivered in time stays in the spool for the next start."""
        assert self._session is not None  # noqa: S101 - start() came first
        assert self._uplink is not None  # noqa: S101
        assert self._capture is not None  # noqa: S101
        # 1. No new fields: whatever is in hand is spooled or not acknowledged.
        self._presence = "draining"
        self._capture.stop()
        self._publish_state()
        # 2. Deliver what there is, as long as somebody takes it.
        if not self._uplink.flush(self._settings.drain_s):
            logger.info("%d frames stay in the spool for the next start", self._spool.totals.unsettled)
        # 3. Nobody may touch the spool any more.
        self._uplink.stop()
        self._stopping.set()
        self._arrived.put(None)
        for thread in self._threads:
            thread.join(_STOP_S)
        # 4. Say goodbye, so that the will is not needed.
        self._presence = "offline"
        self._session.stop(_STOP_S, goodbye=self._state_publication())
        self._monitor.stop()
        self._spool.close()
        self._unlock_directory()

    # What it tells

    def state(self) -> DeviceState:
        """Return the device's state at this moment."""
        case = self._cases.current
        totals = self._spool.totals
        counts: dict[str, Any] = self._counters.snapshot()
        return DeviceState(
            site=self._settings.site,
            device=self._settings.device,
            presence=self._presence,
            birth=self._birth,
            at=now(),
            software=f"hemolink {_software()}",
            camera=self._camera.description,
            simulated=self._camera.simulated,
            capturing=self._presence == "online" and self._capture is not None and self._capture.capturing,
            case=case.code if case else None,
            captured=counts["captured"],
            quality_rejected=counts["quality_rejected"],
            quality_reasons=counts["quality_reasons"],
            spooled=totals.unsettled,
            spool_bytes=totals.size,
            parked=totals.parked,
            settled=counts["settled"],
            alarm=self._alarms.sentence[:2000],
        )

    def status(self) -> dict[str, Any]:
        """Return what the monitor serves at ``/status``."""
        session, capture = self._session, self._capture
        return {
            **self.state().model_dump(mode="json"),
            "unreadable": self._counters.snapshot()["unreadable"],
            "labels": self._counters.snapshot()["labels"],
            "finished": capture is not None and capture.finished,
            "paused": capture is not None and capture.paused,
            "connected": session is not None and session.connected,
            "last_error": session.last_error if session is not None else "",
        }

    def _ready(self) -> tuple[bool, str]:
        if self._presence != "online":
            return False, "it is stopping"
        stopped = self._alarms.stopping_work
        if stopped:
            return False, stopped
        if self._session is None or not self._session.connected:
            reason = self._session.last_error if self._session is not None else "it is starting"
            return False, f"{reason} (frames are kept in the spool)"
        return True, self._alarms.sentence or "ready"

    # The session

    def _make_session(self) -> Session:
        settings, topics = self._settings, self._topics
        return Session(
            settings.broker,
            client_id=f"{settings.broker.root}-edge-{settings.site}-{settings.device}",
            subscriptions=(
                Subscription(topics.receipt(settings.site, settings.device)),
                Subscription(topics.commands_to(settings.site, settings.device)),
                Subscription(topics.all_worker_states()),
            ),
            on_message=self._on_message,
            birth=self._state_publication,
            will=self._will(),
            on_connected=self._on_connected,
            on_disconnected=lambda reason: self._alarms.changed.set(),  # noqa: ARG005
        )

    def _will(self) -> Publication:
        settings = self._settings
        return publication(
            self._topics.state(settings.site, settings.device),
            DeviceState(
                site=settings.site,
                device=settings.device,
                presence="offline",
                birth=self._birth,
                at=now(),
                camera=self._camera.description,
                simulated=self._camera.simulated,
                alarm="the connection to the device was lost",
            ),
        )

    def _state_publication(self) -> Publication:
        return publication(self._topics.state(self._settings.site, self._settings.device), self.state())

    def _publish_state(self) -> None:
        session = self._session
        if session is not None and session.connected:
            session.publish_soon(self._state_publication()).add_done_callback(_note_failure)

    def _on_connected(self) -> None:
        if self._uplink is not None:
            self._uplink.somebody_is_there("the broker")

    def _on_message(self, message: IncomingMessage) -> None:
        try:
            self._arrived.put_nowait(message)
        except queue.Full:
            logger.warning("too many messages at once: one on %s was passed over", message.topic)

    # The desk

    def _serve_arrivals(self) -> None:
        while not self._stopping.is_set():
            message = self._arrived.get()
            if message is None:
                return
            try:
                self._take(message)
            except (DecodeError, TopicError) as error:
                logger.warning("a message on %s was passed over: %s", message.topic, error)
            except Exception:
                logger.exception("a message on %s could not be handled", message.topic)

    def _take(self, message: IncomingMessage) -> None:
        name = self._topics.parse(message.topic)
        assert self._uplink is not None  # noqa: S101 - start() came first
        if name.kind == "receipt":
            self._uplink.receipt_arrived(decode(message.payload, Receipt))
        elif name.kind == "worker-state" and message.payload:
            self._see_worker(decode(message.payload, WorkerState), retained=message.retain)
        elif name.kind == "command" and message.payload:
            self._answer(message, name.detail)

    def _see_worker(self, worker: WorkerState, *, retained: bool) -> None:
        assert self._uplink is not None  # noqa: S101
        known = self._workers.get(worker.worker)
        if known is not None and worker.birth < known[1]:
            return  # a late will
        self._workers[worker.worker] = (worker.presence, worker.birth)
        has_come = known != ("online", worker.birth) and not (known is None and retained)
        if worker.presence == "online" and has_come:
            self._uplink.somebody_is_there(f"worker {worker.worker}")

    def _answer(self, message: IncomingMessage, verb: str) -> None:
        assert self._session is not None  # noqa: S101
        assert self._desk is not None  # noqa: S101
        command = decode(message.payload, Command)
        response = self._desk.obey(Arrived(command, verb, retained=message.retain))
        if response is None:
            return
        topic = message.response_topic or self._topics.response(
            self._settings.site, self._settings.device, command.verb
        )
        self._session.publish_soon(publication(topic, response)).add_done_callback(_note_failure)
        self._publish_state()

    # The pulse

    def _beat(self) -> None:
        due = 0.0
        while not self._stopping.is_set():
            changed = self._alarms.changed.wait(_PULSE_S)
            self._alarms.changed.clear()
            is_due = time.monotonic() >= due
            try:
                if is_due:
                    self._spool.recount()  # a person may have retried parked frames from a shell
                self._look_around()
                if changed or is_due:
                    self._publish_state()
            except SpoolUnavailable as error:
                logger.warning("%s", error)
            except Exception:
                logger.exception("the pulse stumbled; it goes on")
            if changed or is_due:
                due = time.monotonic() + self._settings.heartbeat_s
                self._stopping.wait(0.05)  # alarms that come and go must not flood the broker

    def _look_around(self) -> None:
        """Bring gauges and standing alarms up to date."""
        totals = self._spool.totals
        self._counters.spooled.set(totals.unsettled)
        self._counters.spool_bytes.set(totals.size)
        self._counters.parked.set(totals.parked)
        connected = self._session is not None and self._session.connected
        self._counters.connected.set(connected)
        if totals.parked:
            self._alarms.raise_(
                "parked",
                f"{totals.parked} frames are parked: 'hemolink edge spool list' says why, then retry or export them",
            )
        else:
            self._alarms.clear("parked")
        damaged = damaged_spools(self._settings.directory)
        if damaged:
            self._alarms.raise_(
                "damaged_spool",
                f"a damaged spool was set aside as {damaged[-1].name}: have its frames recovered, then remove it",
            )
        else:
            self._alarms.clear("damaged_spool")
        if self._session is not None and not connected and self._session.last_error:
            self._alarms.raise_("broker", self._session.last_error)
        elif connected:
            self._alarms.clear("broker")

    # One agent a directory

    def _lock_directory(self) -> None:
        directory = self._settings.directory
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._lock_file = (directory / "edge.lock").open("a+", encoding="ascii")
        except OSError as error:
            raise AgentRefused(
                f"the directory {directory} cannot be used ({error.strerror}): make it writable, or set 'directory'"
            ) from None
        try:
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock_file.close()
            self._lock_file = None
            raise AgentRefused(
                f"another agent works in {directory}: stop it, or give this one a directory and a device name of its own"
            ) from None
        with contextlib.suppress(OSError):  # the lock holds on a full disk too; the number is for people
            self._lock_file.truncate(0)
            self._lock_file.write(f"{os.getpid()}\n")
            self._lock_file.flush()

    def _unlock_directory(self) -> None:
        if self._lock_file is not None:
            self._lock_file.close()
            self._lock_file = None


def _software() -> str:
    try:
        return version("hemolink")
    except PackageNotFoundError:
        return "0.1.0"


def _note_failure(future: Any) -> None:
    if not future.cancelled() and (error := future.exception()) is not None:
        logger.debug("not published: %s", error)
