"""The uplink: moves every frame from the spool to the far end, until a receipt says that it is there.

A PUBACK says only that the broker took a message, so it settles nothing. What does: the receipt ``recorded`` (or
``diagnosed``, in a deployment without a record). The rules, each in a module of its own:

* at most a window of frames is under way, so that a slow worker is not buried (`edge_agent.dispatcher`);
* a frame not receipted in time is due again, later each time (`edge_agent.resend_timer`);
* a diagnosed frame is on lease, and not sent again while that holds (`edge_agent.lease`);
* while nobody seems to be there, frames are held and single ones sent as probes (`edge_agent.hold`, `edge_agent.fleet`);
* a frame too large for the broker is made smaller or parked (`edge_agent.oversize`);
* what the edge parks by itself, or has lost, it tells the record (`edge_agent.notices`).

One thread does all of it in turns: take what others left, note it in the spool in one transaction, publish what is due.
"""

import logging
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from broker_config.codec import decode
from broker_config.errors import DecodeError
from broker_config.fleet_messages import WorkerState
from broker_config.messages import Receipt
from broker_config.topics import Topics
from edge_agent.dispatcher import NEVER, Dispatcher, Outcome
from edge_agent.errors import SpoolUnavailable
from edge_agent.fleet import Fleet
from edge_agent.hold import Hold
from edge_agent.inbox import Inbox
from edge_agent.lease import Lease, Leases
from edge_agent.notices import NoticeOutcome, Notices
from edge_agent.publisher import Publisher
from edge_agent.resend_timer import ResendTimer
from edge_agent.settings import DeliverySettings
from edge_agent.spool import Spool
from edge_agent.status import Alarms, Counters
from edge_agent.stumbles import Stumbles

logger = logging.getLogger(__name__)

_LOOK_S = 30.0  # a look at the spool though nobody rang, for safety
_TROUBLE_S = 1.0
_SILENT_TRIES = 3
_WELCOME_PAUSE_S = 5.0
_MAX_WAITING_BYTES = 4_000_000  # of receipts that came and were not looked at yet


@dataclass(frozen=True)
class _ReceiptMessage:
    payload: bytes = field(repr=False)


@dataclass(frozen=True)
class _WorkerWord:
    """A worker's state, or none where its retained state was deleted."""

    name: str
    state: WorkerState | None
    retained: bool


@dataclass(frozen=True)
class _Connected:
    """A connection stands."""


_Word = Outcome | NoticeOutcome | _ReceiptMessage | _WorkerWord | _Connected


class Uplink:
    """Moves frames from the spool to the far end.

    Args:
        spool: The frames.
        session: The connection.
        topics: Topic names.
        site: This device's site.
        device: This device.
        settings: Window, timers and what settles.
        counters: Where to count.
        alarms: Where to raise alarms.
        clock: Monotonic seconds; the spool's own.
        uniform: Uniform random number between two bounds, for the jitter.
    """

    def __init__(
        self,
        *,
        spool: Spool,
        session: Publisher,
        topics: Topics,
        site: str,
        device: str,
        settings: DeliverySettings,
        counters: Counters,
        alarms: Alarms,
        clock: Callable[[], float] = time.monotonic,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._spool = spool
        self._session = session
        self._name = f"{site}/{device}"
        self._settings = settings
        self._counters = counters
        self._alarms = alarms
        self._clock = clock
        self._uniform = uniform
        self._inbox: Inbox[_Word] = Inbox(max_bytes=_MAX_WAITING_BYTES)
        self._leases = Leases(term_s=settings.lease_s, max_s=settings.resend_max_s, clock=clock)
        self._fleet = Fleet(clock=clock)
        self._hold = Hold(alarms, max_s=settings.resend_max_s, clock=clock, uniform=uniform)
        self._timer = ResendTimer(settings, uniform=uniform)
        self._dispatcher = Dispatcher(
            spool=spool,
            session=session,
            topics={
                "stat": topics.frame(site, device, "stat"),
                "routine": topics.frame(site, device, "routine"),
            },
            settings=settings,
            hold=self._hold,
            stumbles=Stumbles(max_s=settings.resend_max_s, clock=clock, uniform=uniform),
            timer=self._timer,
            counters=counters,
            alarms=alarms,
            clock=clock,
            leave=self._inbox.put,
        )
        self._notices = Notices(
            spool=spool,
            session=session,
            topics=topics,
            site=site,
            device=device,
            clock=clock,
            leave=self._inbox.put,
        )
        self._undeleted: dict[str, None] = {}
        self._connected_at = self._recorded_at = self._asking_since = clock()
        self._lapsed = 0
        self._come = ""
        self._welcome_at = 0.0
        self._in_trouble = False
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to publish, on a thread of its own."""
        if not self._settings.resend:
            logger.warning(
                "delivery.resend is false: what gets lost behind the broker is lost for good; this is for trials only"
            )
        self._thread = threading.Thread(target=self._run, name="uplink", daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Stop publishing; the spool keeps what is not receipted."""
        self._stopping.set()
        self._inbox.ring()
        if self._thread is not None:
            self._thread.join(timeout_s)

    def flush(self, timeout_s: float) -> bool:
        """Wait until every frame is settled or parked, as long as somebody is there to take them.

        Returns:
            Whether nothing is left.
        """
        deadline = self._clock() + timeout_s
        while self._spool.totals.unsettled and self._clock() < deadline:
            if not self._session.connected or self._hold:
                break
            self._stopping.wait(0.02)
        return self._spool.totals.unsettled == 0

    # Word from other threads

    def look(self) -> None:
        """Say that the spool has something new: a frame, a notice, or a frame that a person took back into the row."""
        self._inbox.ring()

    def receipt_message(self, payload: bytes) -> None:
        """Hand over a receipt as it came. When too many wait it is passed over, which costs a resend."""
        if not self._inbox.offer(_ReceiptMessage(payload), size=len(payload) + 200):
            self._counters.message("receipt", "overflow")

    def broker_is_there(self) -> None:
        """Say that a connection stands: whatever waits is worth another try now."""
        self._inbox.put(_Connected())

    def worker_told(self, name: str, state: WorkerState | None, *, retained: bool) -> None:
        """Hand over a worker's state; none when its retained state was deleted."""
        self._inbox.put(_WorkerWord(name, state, retained))

    # The thread

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._turn(self._inbox.take(self._pause_s()))
                self._alarms.clear("uplink")
            except SpoolUnavailable as error:
                self._in_trouble = True
                self._alarms.complain("uplink_disk", str(error))
                self._stopping.wait(_TROUBLE_S)
            except Exception as error:
                self._in_trouble = True
                logger.exception("the uplink stumbled; it goes on")
                self._alarms.raise_(
                    "uplink", f"the uplink stumbled ({type(error).__name__}): see the log, and report it"
                )
                self._stopping.wait(_TROUBLE_S)

    def _pause_s(self) -> float:
        """Return how long nothing can fall due, if nobody rings."""
        if self._in_trouble:
            return 0.0
        flights = self._dispatcher.flights
        times = [flights.next_due, self._leases.next_end, self._notices.next_at, self._dispatcher.next_at]
        if self._come:
            times.append(self._welcome_at)
        now = self._clock()
        return max(0.0, min([_LOOK_S, *(time - now for time in times if time is not None)]))

    def _turn(self, words: list[_Word]) -> None:
        """Take in what was left here, bring the spool up to date, publish what is due."""
        with self._spool.batch():
            for word in words:
                self._hear(word)
            for lease in self._leases.run_out():
                self._on_lease_over(lease)
            deleted = [frame_id for frame_id in self._undeleted if self._spool.settle(frame_id)]
        # Only now is it true. Until then a disk too full even for a deletion keeps them here, for the next turn.
        self._undeleted.clear()
        self._counters.settled(len(deleted))
        self._alarms.clear("uplink_disk")
        self._in_trouble = False
        self._dispatcher.make_smaller()
        # No receipt in time: due again by the spool's own account.
        self._listen_for_silence(len(self._dispatcher.flights.lapse()))
        if self._come and self._clock() >= self._welcome_at:
            # With a pause: anybody who may write to the fleet's topics could invent workers that come and come.
            self._welcome_at = self._clock() + _WELCOME_PAUSE_S
            self._go_on(self._come)
            self._come = ""
        self._weigh_the_fleet()
        self._dispatcher.publish_due()
        self._notices.send()

    def _hear(self, word: _Word) -> None:
        match word:
            case _ReceiptMessage():
                self._on_receipt(word.payload)
            case Outcome():
                if self._dispatcher.heard(word):
                    self._flow_again("frames are taken again")
            case NoticeOutcome():
                self._notices.heard(word)
            case _Connected():
                self._connected_at = self._clock()
                self._notices.try_now()
                self._go_on("the broker")
            case _WorkerWord(state=None):
                self._fleet.lose(word.name)
            case _WorkerWord(state=WorkerState() as state):
                if self._fleet.hear(state, retained=word.retained):
                    self._hold.lift("nobody_subscribes", "deserted", "silence")
                    self._come = f"worker {word.name}"

    # Somebody comes, or nobody is there

    def _go_on(self, who: str) -> None:
        """Somebody has come: whatever waits is worth another try now."""
        self._lapsed = 0
        self._asking_since = self._clock()
        self._hold.probe_now()
        self._timer.relax()
        for flight in self._dispatcher.flights:
            if (flight.attempts > 1 or flight.probe) and not flight.leased:
                self._dispatcher.flights.end(flight.frame_id)
        self._flow_again(f"{who} is there: whatever waits is sent again")

    def _flow_again(self, why: str) -> None:
        """Bring forward every resend, except of what is under way or on lease."""
        logger.info("%s", why)
        if not self._settings.resend:
            return
        self._spool.hasten(due_at=self._clock())  # which leaves frames on lease alone
        for flight in self._dispatcher.flights:
            if not flight.leased:
                self._spool.set_due(flight.frame_id, due_at=flight.due_at)

    def _weigh_the_fleet(self) -> None:
        if self._fleet.verdict != "deserted":
            if self._hold.lift("deserted"):
                self._flow_again("a worker is there again")
        elif not self._hold.has("deserted"):
            self._hold.put(
                "deserted",
                f"no worker is online ({self._fleet.known} have told their state): start one, or see why it is down; "
                "frames wait in the spool, and one is tried now and then",
            )

    def _on_lease_over(self, lease: Lease) -> None:
        """Diagnosed, and not recorded in time: due again.

        If nothing at all was recorded in that time, over one and the same connection, the record is away.
        """
        self._dispatcher.flights.end(lease.frame_id)
        logger.info("diagnosed and not recorded in time: due again", extra={"frame_id": lease.frame_id})
        if self._session.connected and max(self._connected_at, self._recorded_at) < lease.granted_at:
            silent_s = self._clock() - self._recorded_at
            self._hold.put(
                "no_record",
                f"frames are diagnosed, and none was recorded for {silent_s:.0f} s: start the dashboard, or see why it "
                "cannot write; frames wait in the spool",
            )

    def _listen_for_silence(self, lapsed: int) -> None:
        """Hold frames when several have gone out in vain and no receipt of any kind has come since."""
        if not self._session.connected:
            return  # it is not the far end that is silent
        self._lapsed += lapsed
        if not self._dispatcher.flights and not self._lapsed:
            self._asking_since = self._clock()
        silent_s = self._clock() - self._asking_since
        if self._lapsed >= _SILENT_TRIES and silent_s > _SILENT_TRIES * self._settings.resend_after_s:
            self._hold.put(
                "silence",
                f"frames are published, and nobody has answered for {silent_s:.0f} s: see that a worker and the dashboard "
                f"run and keep up, and that no other edge calls itself {self._name}; frames wait in the spool",
            )

    def _answered(self) -> bool:
        """Note that somebody answers; returns whether frames were held for the silence alone."""
        self._lapsed = 0
        self._asking_since = self._clock()
        return self._hold.lift("silence")

    # Receipts

    def _on_receipt(self, payload: bytes) -> None:
        try:
            receipt = decode(payload, Receipt)
        except DecodeError as error:
            self._counters.message("receipt", error.code)
            logger.warning("a receipt was passed over: %s", error)
            return
        frame_id = receipt.frame_id
        known = frame_id in self._dispatcher.flights or (
            frame_id not in self._undeleted and self._spool.row(frame_id) is not None
        )
        self._counters.message("receipt", "taken" if known else "unknown_frame")
        self._counters.receipts.labels(receipt.status if known else "unknown").inc()
        if not known:
            return  # settled before, or another device's history
        flows = self._answered()
        match receipt.status:
            case "recorded":
                self._recorded_at = self._clock()
                flows |= self._hold.lift("no_record")
                self._settle(frame_id)
            case "diagnosed":
                self._fleet.prove()
                if self._settings.settle_on == "diagnosed":
                    self._settle(frame_id)
                else:
                    self._lease(frame_id)
            case "rejected":
                self._leases.end(frame_id)
                self._dispatcher.park(
                    frame_id, f"rejected by {receipt.by}: {receipt.reason or 'no reason given'}"
                )
            case "retry":
                self._fleet.prove()
                self._leases.end(frame_id)
                self._dispatcher.drop(frame_id)
                due_at = self._clock() + self._uniform(0.0, 1.0)
                self._spool.mark_unsent(frame_id, due_at=due_at, left=self._settings.resend)
        if flows:
            self._flow_again("frames are answered again")

    def _lease(self, frame_id: str) -> None:
        lease = self._leases.grant(frame_id)
        self._spool.mark_diagnosed(frame_id, due_at=lease.until if self._settings.resend else NEVER)
        flight = self._dispatcher.flights.get(frame_id)
        if flight is not None:
            flight.due_at = lease.until
            flight.leased = True

    def _settle(self, frame_id: str) -> None:
        self._leases.end(frame_id)
        flight = self._dispatcher.drop(frame_id)
        if flight is not None:
            took = self._clock() - flight.sent_at
            self._counters.delivery_s.observe(took)
            self._timer.learn(took, attempts=flight.attempts)
        self._undeleted[frame_id] = None
