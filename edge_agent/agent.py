"""The agent: one microscope's host from camera to receipt, run as a daemon.

Threads: capture (camera to spool), uplink (spool to broker), mailroom (what arrives), pulse (state and alarms), the
session's own, and the monitor's. They meet in the spool, and in inboxes that never keep the network thread waiting. This
module makes the parts and starts and stops them in order.
"""

import logging
import threading
import time
from typing import Any

from broker_config.delivery import Publication
from broker_config.device_messages import DeviceState
from broker_config.monitor import Monitor
from broker_config.process import announce_ports, next_birth
from broker_config.session import Session, Subscription
from broker_config.topics import Topics
from edge_agent.cameras.base import CameraContext
from edge_agent.cameras.registry import create_camera
from edge_agent.capture import CaptureLoop
from edge_agent.case_book import Case, CaseBook
from edge_agent.directory_lock import DirectoryLock
from edge_agent.mailroom import Mailroom
from edge_agent.orders import OrderDesk
from edge_agent.presence import Presence
from edge_agent.pulse import Pulse
from edge_agent.report import Report
from edge_agent.settings import Settings
from edge_agent.spool import FILE_NAME, Spool, damaged_spools
from edge_agent.status import Alarms, Counters
from edge_agent.uplink import Uplink

logger = logging.getLogger(__name__)

ROLE = "edge"
_STOP_S = 5.0
_CLASH_BEATS = 3


class Agent:
    """Captures fields, keeps them, and delivers them.

    Args:
        settings: Validated settings.

    Raises:
        SettingsError: If the camera's kind or options are not valid.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._topics = topics = Topics(settings.broker.root)
        self._alarms = alarms = Alarms()
        self._counters = counters = Counters()
        self._lock = DirectoryLock(settings.directory)
        self._spool = spool = Spool(settings.directory / FILE_NAME, max_bytes=settings.spool.max_bytes)
        standing = Case(settings.case, settings.priority) if settings.case else None
        self._cases = CaseBook(settings.directory, standing)
        self._camera = create_camera(
            settings.camera, CameraContext(seen=spool.has_source, forgotten=lambda: spool.sources_forgotten)
        )
        self._capture = CaptureLoop(
            settings,
            camera=self._camera,
            spool=spool,
            cases=self._cases,
            counters=counters,
            alarms=alarms,
            on_spooled=self._on_spooled,
        )
        where = {"site": settings.site, "device": settings.device}
        self._report = Report(
            **where,
            camera=self._camera,
            capture=self._capture,
            spool=spool,
            cases=self._cases,
            counters=counters,
            alarms=alarms,
        )
        self._presence = Presence(
            topics.state(settings.site, settings.device),
            state=self._report.state,
            will=self._report.will,
            correct=alarms.changed.set,
            clash=self._on_clash,
        )
        self._monitor = Monitor(
            settings.monitor.host,
            settings.monitor.port,
            ready=self.ready,
            registry=counters.registry,
            status=self.status,
        )
        self._pulse = Pulse(self._beat, every_s=settings.heartbeat_s, bell=alarms.changed)
        # Made at the start: the will holds the number of this birth.
        self._session: Session | None = None
        self._uplink: Uplink | None = None
        self._mailroom: Mailroom | None = None
        self._clash_until = 0.0

    # Life

    def start(self) -> None:
        """Open the spool, connect in the background, and begin to capture.

        Raises:
            AgentRefused: If another agent works in this directory.
            SpoolUnavailable: If the spool cannot be opened.
            SettingsError: If the birth count cannot be kept, or the monitor cannot listen.
        """
        settings = self._settings
        self._lock.take()
        self._report.birth = next_birth(settings.directory / "birth")
        self._spool.open()
        session = self._session = self._make_session()
        uplink = self._uplink = Uplink(
            spool=self._spool,
            session=session,
            topics=self._topics,
            site=settings.site,
            device=settings.device,
            settings=settings.delivery,
            counters=self._counters,
            alarms=self._alarms,
        )
        self._mailroom = Mailroom(
            topics=self._topics,
            site=settings.site,
            device=settings.device,
            uplink=uplink,
            presence=self._presence,
            desk=OrderDesk(
                capture=self._capture,
                cases=self._cases,
                spool=self._spool,
                state=self._report.state,
                max_age_s=settings.commands.max_age_s,
            ),
            answer=self._answer,
            counters=self._counters,
        )
        self._look_around()
        self._monitor.start()
        self._mailroom.start()
        uplink.start()
        session.start()
        self._pulse.start()
        self._capture.start()
        announce_ports(settings.directory, ROLE, {"monitor": self._monitor.port})
        logger.info(
            "%s/%s captures from %s; %d frames wait in the spool",
            settings.site,
            settings.device,
            self._camera.description,
            self._spool.totals.unsettled,
        )

    def run(self, until: threading.Event) -> None:
        """Wait until told to stop."""
        until.wait()

    def stop(self) -> None:
        """Drain and end. What is not delivered in time stays in the spool for the next start."""
        assert self._session is not None  # noqa: S101 - start() came first
        assert self._uplink is not None  # noqa: S101
        assert self._mailroom is not None  # noqa: S101
        # 1. No new fields: whatever is in hand is spooled or not acknowledged.
        self._report.presence = "draining"
        self._capture.stop()
        self._publish_state()
        # 2. Deliver what there is, as long as somebody takes it.
        if not self._uplink.flush(self._settings.drain_s):
            logger.info("%d frames stay in the spool for the next start", self._spool.totals.unsettled)
        # 3. Nobody may touch the spool any more.
        self._uplink.stop(_STOP_S)
        self._mailroom.stop(_STOP_S)
        self._pulse.stop(_STOP_S)
        # 4. Say goodbye, so that the will is not needed.
        self._report.presence = "offline"
        self._session.stop(_STOP_S, goodbye=self._presence.publication())
        self._monitor.stop()
        self._spool.close()
        self._lock.free()

    # What it tells

    def state(self) -> DeviceState:
        """Return the device's state at this moment."""
        return self._report.state()

    def status(self) -> dict[str, Any]:
        """Return what the monitor serves at ``/status``."""
        connected, last_error = self._connection()
        return self._report.status(connected=connected, last_error=last_error)

    def ready(self) -> tuple[bool, str]:
        """Return whether the agent can do its work, and one sentence that says why not."""
        return self._report.ready(connected=self._connection)

    def _connection(self) -> tuple[bool, str]:
        if self._session is None:
            return False, "it is starting"
        return self._session.connected, self._session.last_error

    # The session

    def _make_session(self) -> Session:
        settings, topics = self._settings, self._topics
        return Session(
            settings.broker,
            client_id=f"{settings.broker.root}-edge-{settings.site}-{settings.device}",
            subscriptions=(
                Subscription(topics.receipt(settings.site, settings.device)),
                Subscription(topics.commands_to(settings.site, settings.device)),
                Subscription(topics.all_worker_states(), required=False),
                Subscription(topics.review(settings.site, settings.device), required=False),
                Subscription(topics.state(settings.site, settings.device), required=False),
            ),
            on_message=lambda message: self._mailroom.deliver(message) if self._mailroom else None,
            birth=self._presence.publication,
            will=self._presence.will(),
            on_connected=self._on_connected,
            on_disconnected=lambda reason: self._alarms.changed.set(),  # noqa: ARG005
        )

    def _on_connected(self) -> None:
        if self._uplink is not None:
            self._uplink.broker_is_there()
        self._alarms.changed.set()

    def _publish_state(self) -> None:
        session = self._session
        if session is not None and session.connected:
            session.publish_soon(self._presence.publication()).add_done_callback(_note_failure)

    def _answer(self, publication: Publication) -> None:
        assert self._session is not None  # noqa: S101 - start() came first
        self._session.publish_soon(publication).add_done_callback(_note_failure)
        self._alarms.changed.set()  # an order changes the state

    # Word from the other parts

    def _on_spooled(self) -> None:
        if self._uplink is not None:
            self._uplink.look()

    def _on_clash(self) -> None:
        settings = self._settings
        self._clash_until = time.monotonic() + _CLASH_BEATS * settings.heartbeat_s
        self._alarms.complain(
            "name_clash",
            f"another edge calls itself {settings.site}/{settings.device}: give each a device name of its own",
        )

    # The pulse

    def _beat(self) -> None:
        """Look at what other processes may have done, bring alarms up to date, and tell the state."""
        assert self._uplink is not None  # noqa: S101 - start() came first
        self._spool.tend()
        self._spool.recount()  # a person may have retried parked frames from a shell
        self._uplink.look()
        self._look_around()
        self._publish_state()

    def _look_around(self) -> None:
        """Bring gauges and standing alarms up to date."""
        totals = self._spool.totals
        connected, last_error = self._connection()
        self._counters.spooled.set(totals.unsettled)
        self._counters.spool_bytes.set(totals.size)
        self._counters.parked.set(totals.parked)
        self._counters.connected.set(connected)
        alarms = self._alarms
        if time.monotonic() > self._clash_until:
            alarms.clear("name_clash")
        alarms.set("reserve", self._spool.reserve_sentence)
        alarms.set("broker", "" if connected or self._session is None else last_error)
        alarms.set(
            "parked",
            f"{totals.parked} frames are parked: 'hemolink edge spool list' says why, then retry or export them"
            if totals.parked
            else "",
        )
        damaged = damaged_spools(self._settings.directory)
        alarms.set(
            "damaged_spool",
            f"a damaged spool was set aside as {damaged[-1].name}: what could be read of it is kept, what is lost is named; "
            "check the disk, then remove it"
            if damaged
            else "",
        )


def _note_failure(future: Any) -> None:
    if not future.cancelled() and (error := future.exception()) is not None:
        logger.debug("not published: %s", error)
