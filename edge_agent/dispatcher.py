"""The dispatcher: publishes the frames that are due, and hears what the broker says of each publish.

What the broker says settles nothing. It tells only whether a publish was taken, and if not, whether to wait, to make the
frame smaller, or to send it again on the next connection.
"""

import logging
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial

from broker_config import reasons
from broker_config.delivery import DELIVERY, Publication
from broker_config.errors import NotConnected, PayloadTooLarge, PublishRefused, PublishTimeout
from broker_config.messages import SCHEMA_VERSION
from broker_config.session import PublishResult
from broker_config.topics import Priority
from edge_agent.errors import EncodingFailed, SpoolUnavailable
from edge_agent.flights import Flight, Flights
from edge_agent.hold import Hold
from edge_agent.oversize import smaller_payload
from edge_agent.publisher import Publisher
from edge_agent.resend_timer import ResendTimer
from edge_agent.settings import DeliverySettings
from edge_agent.spool import Spool, SpoolRow
from edge_agent.status import Alarms, Counters
from edge_agent.stumbles import Stumbles

logger = logging.getLogger(__name__)

NEVER = 1e15
"""A due time that does not come: for trials without the resend rule."""

_ROW = DELIVERY["frame"]
_MAX_UNACKNOWLEDGED_BYTES = 16_000_000  # of frames in memory
_LOOK_AGAIN_S = 0.5


@dataclass(frozen=True)
class Outcome:
    """What the broker said of a publish."""

    frame_id: str
    result: PublishResult | None = None
    error: BaseException | None = field(default=None, repr=False)


class Dispatcher:
    """Publishes what is due, as far as window and hold allow. One thread uses it.

    Args:
        spool: The frames.
        session: The connection.
        topics: The topic of each priority.
        settings: Window and timers.
        hold: Whether frames are held.
        stumbles: Frames that seem to end connections.
        timer: When a frame is sent again.
        counters: Where to count.
        alarms: Where to raise alarms.
        clock: Monotonic seconds; the spool's own.
        leave: Hands an outcome to the thread that uses this object, from any thread.

    Attributes:
        flights: The frames under way.
    """

    def __init__(
        self,
        *,
        spool: Spool,
        session: Publisher,
        topics: dict[Priority, str],
        settings: DeliverySettings,
        hold: Hold,
        stumbles: Stumbles,
        timer: ResendTimer,
        counters: Counters,
        alarms: Alarms,
        clock: Callable[[], float],
        leave: Callable[[Outcome], None],
    ) -> None:
        self._spool = spool
        self._session = session
        self._topics = topics
        self._settings = settings
        self._hold = hold
        self._stumbles = stumbles
        self._timer = timer
        self._counters = counters
        self._alarms = alarms
        self._clock = clock
        self._leave = leave
        self._too_large: list[Flight] = []
        self._found_none = False
        self.flights = Flights(clock=clock)

    # Publishing

    @property
    def next_at(self) -> float | None:
        """When there may be something to publish, or None when only word from elsewhere can change that.

        Raises:
            SpoolUnavailable: If the spool cannot be read.
        """
        if self._places <= 0 or not self._session.connected:
            return None
        due = self._spool.next_due_at()
        if due is None:
            return None
        now = self._clock()
        if due <= now and self._found_none:
            due = now + _LOOK_AGAIN_S  # what is due is under way already, or rests
        return max(due, self._hold.next_at)

    @property
    def _places(self) -> int:
        """How many frames may be published, the time of a probe aside."""
        if self._hold or self._stumbles.cautious:
            return 0 if self.flights.unacknowledged else 1
        if self.flights.unacknowledged_bytes > _MAX_UNACKNOWLEDGED_BYTES:
            return 0
        window = min(self._settings.window, self._session.receive_maximum)
        return max(1, window) - len(self.flights)

    def publish_due(self) -> None:
        """Publish as many of the frames that are due as may go.

        Raises:
            SpoolUnavailable: If the spool cannot be read.
        """
        places = self._places
        if places <= 0 or not self._session.connected or self._hold.next_at > self._clock():
            return
        excluding = (*(flight.frame_id for flight in self.flights), *self._stumbles.resting)
        rows = self._spool.next_due(self._clock(), excluding=excluding, limit=places)
        self._found_none = not rows
        flights = self._mark(rows)
        for row, flight in zip(rows, flights, strict=True):
            if flight is not None:
                self._publish(row, flight)

    def _mark(self, rows: list[SpoolRow]) -> list[Flight | None]:
        """Note in the spool what is about to be sent, in one transaction."""
        flights: list[Flight | None] = [self._flight(row) for row in rows]
        try:
            with self._spool.batch():
                for row, flight in zip(rows, flights, strict=True):
                    if flight is None:
                        self._spool.set_due(row.frame_id, due_at=NEVER)
                    else:
                        due_at = flight.due_at if self._settings.resend else NEVER
                        self._spool.mark_sent(row.frame_id, due_at=due_at)
        except SpoolUnavailable as error:
            # Sent all the same: only its receipt makes room.
            self._alarms.complain("uplink_disk", str(error))
        return flights

    def _flight(self, row: SpoolRow) -> Flight | None:
        if not self._settings.resend and row.state != "waiting":
            return None
        now, attempts = self._clock(), row.attempts + 1
        due_at = now + self._timer.in_s(attempts)
        return Flight(row.frame_id, row.size, attempts, now, due_at, probe=bool(self._hold))

    def _publish(self, row: SpoolRow, flight: Flight) -> None:
        payload = self._spool.payload(row.frame_id)
        if payload is None:
            return  # lost with the disk since; the spool has a notice of it
        self.flights.start(flight)
        if flight.probe:
            self._hold.probed()
        self._counters.published.labels("resend" if row.attempts else "first").inc()
        if row.attempts:
            logger.info(
                "publishing again, try %d",
                flight.attempts,
                extra={"frame_id": row.frame_id, "case": row.case},
            )
        ready = Publication(
            topic=self._topics[row.priority],
            payload=payload,
            qos=_ROW.qos,
            content_type=_ROW.content_type,
            correlation_data=row.frame_id.encode(),
            user_properties=(("schema", f"{_ROW.kind}/{SCHEMA_VERSION}"),),
        )
        self._session.publish_soon(ready).add_done_callback(partial(self._leave_outcome, row.frame_id))

    def _leave_outcome(self, frame_id: str, future: "Future[PublishResult]") -> None:
        if future.cancelled():
            self._leave(Outcome(frame_id, error=NotConnected("cancelled")))
        elif (error := future.exception()) is not None:
            self._leave(Outcome(frame_id, error=error))
        else:
            self._leave(Outcome(frame_id, result=future.result()))

    # What became of a publish

    def heard(self, outcome: Outcome) -> bool:
        """Take in what the broker said.

        Returns:
            Whether frames were held, and flow again.

        Raises:
            SpoolUnavailable: If it cannot be noted.
        """
        frame_id = outcome.frame_id
        flight = self.flights.acknowledge(frame_id)
        if outcome.result is not None and not outcome.result.no_subscribers:
            self._stumbles.passed(frame_id)
            if not self._stumbles.resting:
                self._alarms.clear("stumbling")
            return self._hold.lift("nobody_subscribes", "refused", "busy")
        if flight is None or flight.leased:
            return False  # a receipt was faster, or its time is over
        self.flights.end(frame_id)
        match outcome.error:
            case None:
                self._count_error("no_worker")
                self._hold.put(
                    "nobody_subscribes",
                    "no worker takes frames: start one, or see why it is down; frames wait in the spool",
                )
                self._take_back(flight)
            case PayloadTooLarge() | PublishRefused(reason_code=reasons.PACKET_TOO_LARGE):
                self._count_error("too_large")
                self._too_large.append(flight)
            case PublishRefused():
                self._count_error("refused")
                self._hold.put("refused", f"the broker refuses this device's frames: {outcome.error}")
                self._take_back(flight)
            case PublishTimeout():
                self._count_error("timeout")
                self._hold.put("busy")
                self._take_back(flight)
            case _:
                self._count_error("not_connected")
                self._stumble(flight)
        return False

    def _count_error(self, reason: str) -> None:
        self._counters.publish_errors.labels(reason).inc()

    def _take_back(self, flight: Flight) -> None:
        """Note that nobody has got the frame this time, and wait before the next one."""
        if self._hold.next_at <= self._clock():
            self._hold.probed()
        self._spool.mark_unsent(flight.frame_id, due_at=self._hold.next_at, left=False)

    def _stumble(self, flight: Flight) -> None:
        """The connection ended before the broker answered: the frame may or may not have arrived."""
        if self._stumbles.note(flight.frame_id, alone=self.flights.unacknowledged == 0):
            self._alarms.complain(
                "stumbling",
                f"the connection ends whenever a frame of {flight.size} bytes is sent: if the broker takes no packet so "
                "large, raise its limit, or set broker.max_packet_bytes to what it takes",
            )
        self._spool.mark_unsent(flight.frame_id, due_at=self._clock(), left=self._settings.resend)

    # Frames that the broker does not take

    def make_smaller(self) -> None:
        """Deal with the frames that were too large: encode again what has never left, and park the others.

        Apart from `heard`, because encoding takes time and needs no transaction around it.

        Raises:
            SpoolUnavailable: If the spool cannot be written; the frames are tried again when they are next due.
        """
        while self._too_large:
            flight = self._too_large.pop()
            self._spool.mark_unsent(flight.frame_id, due_at=self._clock(), left=False)
            payload = self._spool.payload(flight.frame_id)
            if payload is not None:
                self._fit(flight, payload)

    def _fit(self, flight: Flight, payload: bytes) -> None:
        if flight.attempts > 1:
            self.park(
                flight.frame_id,
                f"too large for the broker ({len(payload)} bytes), and published before, so that its image may not "
                "change any more: raise the broker's max_packet_size and retry it, or export it",
                code="too_large",
            )
            return
        try:
            smaller = smaller_payload(payload, limit_bytes=self._session.maximum_packet_bytes)
        except EncodingFailed as error:
            self.park(flight.frame_id, f"too large for the broker: {error}", code="too_large")
            return
        self._spool.replace_payload(flight.frame_id, smaller)
        logger.warning(
            "the frame was larger than the broker takes (%d bytes) and was encoded again, to %d bytes",
            len(payload),
            len(smaller),
            extra={"frame_id": flight.frame_id},
        )

    def park(self, frame_id: str, reason: str, *, code: str = "") -> None:
        """Keep a frame for a person.

        Args:
            frame_id: The frame.
            reason: Why, for that person.
            code: Set where the edge parks it by itself, so that the record is told.

        Raises:
            SpoolUnavailable: If the spool cannot be written.
        """
        self.drop(frame_id)
        if self._spool.park(frame_id, reason=reason, code=code):
            self._alarms.changed.set()
            logger.error(
                "the frame is parked for a person ('hemolink edge spool list'): %s",
                reason,
                extra={"frame_id": frame_id},
            )

    def drop(self, frame_id: str) -> Flight | None:
        """Forget a frame whose fate is known, and return its flight."""
        self._stumbles.forget(frame_id)
        return self.flights.end(frame_id)
