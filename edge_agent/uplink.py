"""The uplink: publishes what the spool holds, again and again, until a receipt says that the far end has it.

A PUBACK says only that the broker took a message, so it settles nothing. What does: the receipt ``recorded`` (or
``diagnosed``, in a deployment without a record). At most a window of frames is published and unreceipted at any time,
so a slow worker is not buried. A frame not receipted in time is due again, later each time (exponential backoff; full
jitter on top of a floor, so that no resend overtakes a diagnosis under way); the floor grows with the time that
receipts take, and with every receipt that a resend did not wait for, so that a slow far end is not made slower. One thread does all of it; the network thread and the capture thread only leave word.
"""

import logging
import queue
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from broker_config import reasons
from broker_config.codec import decode
from broker_config.delivery import DELIVERY, Publication
from broker_config.errors import DecodeError, NotConnected, PayloadTooLarge, PublishRefused, PublishTimeout
from broker_config.messages import SCHEMA_VERSION, Frame, Receipt
from broker_config.session import PublishResult
from broker_config.topics import Topics
from edge_agent.encoder import encode_within, smaller_frame
from edge_agent.errors import EncodingFailed, SpoolUnavailable
from edge_agent.resend_timer import ResendTimer
from edge_agent.settings import DeliverySettings
from edge_agent.spool import Spool, SpoolRow
from edge_agent.status import AlarmCode, Alarms, Counters

logger = logging.getLogger(__name__)

_ROW = DELIVERY["frame"]
_IDLE_S = 0.5
_PROBE_FIRST_S = 1.0
_PROBE_MAX_S = 30.0
_DIAGNOSED_PATIENCE = 3
_SILENT_TRIES = 3
_OVERHEAD_BYTES = 2048  # topic, properties and the frame's fields other than the image
_MAX_DOUBLINGS = 16


class Publisher(Protocol):
    """The part of `broker_config.session.Session` that the uplink needs."""

    @property
    def connected(self) -> bool:
        """Whether the broker is there."""

    @property
    def receive_maximum(self) -> int:
        """How many publishes the broker takes at once."""

    @property
    def maximum_packet_bytes(self) -> int | None:
        """Largest packet the broker takes."""

    def publish_soon(self, publication: Publication) -> "Future[PublishResult]":
        """Publish without waiting."""


@dataclass
class _Flight:
    """A frame published and not yet receipted."""

    sent_at: float
    due_at: float
    attempts: int


@dataclass(frozen=True)
class _Outcome:
    frame_id: str
    result: PublishResult | None = None
    error: BaseException | None = field(default=None, repr=False)


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
        self._topics = topics
        self._site, self._device = site, device
        self._settings = settings
        self._counters = counters
        self._alarms = alarms
        self._clock = clock
        self._uniform = uniform
        self._inbox: queue.SimpleQueue[Receipt | _Outcome | str | None] = queue.SimpleQueue()
        self._flights: dict[str, _Flight] = {}
        self._heard_at = clock()
        self._undeleted: set[str] = set()
        self._disk_trouble = False
        self._hold_until = 0.0
        self._probes = 0
        self._timer = ResendTimer(settings, uniform=uniform)
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to publish, on a thread of its own."""
        self._thread = threading.Thread(target=self._run, name="uplink", daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Stop publishing; the spool keeps what is not receipted."""
        self._stopping.set()
        self._inbox.put(None)
        if self._thread is not None:
            self._thread.join(timeout_s)

    def flush(self, timeout_s: float) -> bool:
        """Wait until every frame is settled or parked, as long as somebody is there to take them.

        Returns:
            Whether nothing is left.
        """
        deadline = self._clock() + timeout_s
        while self._spool.totals.unsettled and self._clock() < deadline:
            if not self._session.connected or self._clock() < self._hold_until:
                break
            self._stopping.wait(0.02)
        return self._spool.totals.unsettled == 0

    # Word from other threads

    def frame_added(self) -> None:
        """Say that the spool has a new frame."""
        self._inbox.put(None)

    def receipt_arrived(self, receipt: Receipt) -> None:
        """Hand over a receipt."""
        self._inbox.put(receipt)

    def somebody_is_there(self, who: str) -> None:
        """Say that the broker or a worker has come (back): whatever waits is worth another try now."""
        self._inbox.put(who)

    # The thread

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._take_word(self._pause_s())
                self._delete_settled()
                self._publish_due()
                self._alarms.clear("uplink")
            except SpoolUnavailable as error:
                self._note_disk(error)
                self._stopping.wait(1.0)
            except Exception as error:
                logger.exception("the uplink stumbled; it goes on")
                self._alarms.raise_(
                    "uplink", f"the uplink stumbled ({type(error).__name__}): see the log, and report it"
                )
                self._stopping.wait(1.0)

    def _take_word(self, timeout_s: float) -> None:
        try:
            word = self._inbox.get(timeout=timeout_s)
            while True:
                self._hear(word)
                word = self._inbox.get_nowait()
        except queue.Empty:
            pass

    def _hear(self, word: "Receipt | _Outcome | str | None") -> None:
        if isinstance(word, Receipt):
            self._on_receipt(word)
        elif isinstance(word, _Outcome):
            self._on_outcome(word)
        elif isinstance(word, str):
            self._heard_at = self._clock()
            self._probes = 0
            self._hold_until = 0.0
            self._timer.relax()
            for frame_id in [one for one, flight in self._flights.items() if flight.attempts > 1]:
                del self._flights[frame_id]
            self._hasten()
            logger.info("%s is there: whatever waits is sent again", word)

    def _hasten(self) -> None:
        """Bring forward every resend except those of the flights under way."""
        now = self._clock()
        self._spool.hasten(due_at=now)
        for frame_id, flight in self._flights.items():
            self._spool.set_due(frame_id, due_at=flight.due_at)

    def _pause_s(self) -> float:
        now = self._clock()
        if not self._session.connected:
            return _IDLE_S
        if self._hold_until > now:
            return min(_IDLE_S, self._hold_until - now)
        if len(self._flights) >= self._window:
            return _IDLE_S
        due = self._spool.next_due_at()
        return _IDLE_S if due is None else min(_IDLE_S, max(due - now, 0.0))

    @property
    def _window(self) -> int:
        if self._probes:
            return 1  # one frame at a time finds out whether somebody is there again
        return max(1, min(self._settings.window, self._session.receive_maximum))

    def _publish_due(self) -> None:
        now = self._clock()
        for frame_id in [one for one, flight in self._flights.items() if flight.due_at <= now]:
            del self._flights[frame_id]  # no receipt in time: due again by the spool's own account
        while (
            self._session.connected
            and self._hold_until <= self._clock()
            and len(self._flights) < self._window
            and not self._stopping.is_set()
        ):
            row = self._spool.next_due(self._clock(), excluding=(*self._flights, *self._undeleted))
            if row is None:
                break
            self._publish(row)

    def _publish(self, row: SpoolRow) -> None:
        payload = self._spool.payload(row.frame_id)
        if payload is None:
            return
        now = self._clock()
        attempts = row.attempts + 1
        due_at = now + self._timer.in_s(attempts)
        try:
            self._spool.mark_sent(row.frame_id, due_at=due_at)
        except SpoolUnavailable as error:
            self._note_disk(error)  # sent all the same: only its receipt makes room
        self._flights[row.frame_id] = _Flight(now, due_at, attempts)
        self._counters.published.labels("resend" if row.attempts else "first").inc()
        silent_s = now - self._heard_at
        if row.attempts >= _SILENT_TRIES and silent_s > _SILENT_TRIES * self._settings.resend_after_s:
            self._note_silence(row, silent_s)
        if row.attempts:
            logger.info(
                "publishing again, try %d", attempts, extra={"frame_id": row.frame_id, "case": row.case}
            )
        ready = Publication(
            topic=self._topics.frame(self._site, self._device, row.priority),
            payload=payload,
            qos=_ROW.qos,
            content_type=_ROW.content_type,
            correlation_data=row.frame_id.encode(),
            user_properties=(("schema", f"{_ROW.kind}/{SCHEMA_VERSION}"),),
        )
        future = self._session.publish_soon(ready)
        future.add_done_callback(partial(self._leave_outcome, row.frame_id))

    def _leave_outcome(self, frame_id: str, future: "Future[PublishResult]") -> None:
        if future.cancelled():
            self._inbox.put(_Outcome(frame_id, error=NotConnected("cancelled")))
        elif (error := future.exception()) is not None:
            self._inbox.put(_Outcome(frame_id, error=error))
        else:
            self._inbox.put(_Outcome(frame_id, result=future.result()))

    # What became of a publish

    def _on_outcome(self, outcome: _Outcome) -> None:
        flight = self._flights.get(outcome.frame_id)
        if outcome.result is not None and not outcome.result.no_subscribers:
            self._somebody_took_it()
            return
        if flight is None:
            return  # a receipt was faster, or its time is over
        del self._flights[outcome.frame_id]
        if outcome.result is not None:
            self._counters.publish_errors.labels("no_worker").inc()
            self._complain(
                "no_worker",
                "no worker takes frames: start one, or see why it is down; frames wait in the spool",
            )
            self._hold(outcome.frame_id)
            return
        match outcome.error:
            case PayloadTooLarge():
                self._counters.publish_errors.labels("too_large").inc()
                self._make_smaller(outcome.frame_id, str(outcome.error))
            case PublishRefused(reason_code=reasons.PACKET_TOO_LARGE):
                self._counters.publish_errors.labels("too_large").inc()
                self._make_smaller(outcome.frame_id, str(outcome.error))
            case PublishRefused():
                self._counters.publish_errors.labels("refused").inc()
                self._complain("refused", f"the broker refuses this device's frames: {outcome.error}")
                self._hold(outcome.frame_id)
            case PublishTimeout():
                self._counters.publish_errors.labels("timeout").inc()
                self._hold(outcome.frame_id)
            case _:
                self._counters.publish_errors.labels("not_connected").inc()
                self._spool.mark_unsent(outcome.frame_id, due_at=self._clock())

    def _somebody_took_it(self) -> None:
        self._probes = 0
        self._hold_until = 0.0
        if self._alarms.clear("no_worker") | self._alarms.clear("refused"):
            logger.info("frames are taken again")
            self._hasten()

    def _hold(self, frame_id: str) -> None:
        """Keep the frame and try again later, one frame at a time: exponential backoff, full jitter."""
        self._probes += 1
        longest = min(_PROBE_MAX_S, self._settings.resend_max_s)
        bound = min(longest, _PROBE_FIRST_S * 2.0 ** min(self._probes - 1, _MAX_DOUBLINGS))
        self._hold_until = self._clock() + self._uniform(0.0, bound)
        self._spool.mark_unsent(frame_id, due_at=self._hold_until)

    def _make_smaller(self, frame_id: str, why: str) -> None:
        """Encode the image again, smaller; if even that does not fit, keep the frame for a person."""
        payload = self._spool.payload(frame_id)
        if payload is None:
            return
        limit = self._session.maximum_packet_bytes or len(payload) // 2
        try:
            frame = decode(payload, Frame)
            encoded = encode_within(frame.image, limit_bytes=limit - _OVERHEAD_BYTES)
        except (EncodingFailed, DecodeError) as error:
            self._park(frame_id, f"too large for the broker: {error}")
            return
        smaller = smaller_frame(frame, encoded.data)
        if len(smaller) >= len(payload):
            self._park(frame_id, f"too large for the broker: {why}")
            return
        self._spool.replace_payload(frame_id, smaller)
        self._spool.mark_unsent(frame_id, due_at=self._clock())
        logger.warning(
            "the frame was larger than the broker takes (%d bytes) and was encoded again as JPEG of %d bytes",
            len(payload),
            len(encoded.data),
            extra={"frame_id": frame_id},
        )

    def _park(self, frame_id: str, reason: str) -> None:
        self._flights.pop(frame_id, None)
        if self._spool.park(frame_id, reason=reason):
            logger.error(
                "the frame is parked for a person ('hemolink edge spool list'): %s",
                reason,
                extra={"frame_id": frame_id},
            )

    # Receipts

    def _on_receipt(self, receipt: Receipt) -> None:
        frame_id = receipt.frame_id
        row = self._spool.row(frame_id)
        self._counters.receipts.labels(receipt.status if row is not None else "unknown").inc()
        if row is None:
            return  # settled before, or another device's history
        now = self._clock()
        if receipt.status in ("recorded", "rejected", self._settings.settle_on):
            self._heard_at = now
            if self._alarms.clear("unanswered"):
                logger.info("frames are answered again")
        match receipt.status:
            case "recorded":
                self._settle(frame_id)
            case "diagnosed" if self._settings.settle_on == "diagnosed":
                self._settle(frame_id)
            case "diagnosed":
                due_at = now + _DIAGNOSED_PATIENCE * self._timer.in_s(max(row.attempts, 1))
                self._spool.mark_diagnosed(frame_id, due_at=due_at)
                flight = self._flights.get(frame_id)
                if flight is not None:
                    flight.due_at = due_at
            case "rejected":
                self._park(frame_id, f"rejected by {receipt.by}: {receipt.reason or 'no reason given'}")
            case "retry":
                self._flights.pop(frame_id, None)
                self._spool.mark_unsent(frame_id, due_at=now + self._uniform(0.0, _PROBE_FIRST_S))

    def _settle(self, frame_id: str) -> None:
        flight = self._flights.pop(frame_id, None)
        if flight is not None:
            took = self._clock() - flight.sent_at
            self._counters.delivery_s.observe(took)
            self._timer.learn(took, attempts=flight.attempts)
        self._undeleted.add(frame_id)
        self._delete_settled()

    def _delete_settled(self) -> None:
        """Delete what the far end has; on a disk too full even for that, later."""
        for frame_id in list(self._undeleted):
            try:
                if self._spool.settle(frame_id):
                    self._counters.settled()
            except SpoolUnavailable as error:
                self._note_disk(error)
                return
            self._undeleted.discard(frame_id)
        if self._disk_trouble:
            self._disk_trouble = False
            self._alarms.clear("uplink_disk")

    def _note_disk(self, error: SpoolUnavailable) -> None:
        self._disk_trouble = True
        self._complain("uplink_disk", str(error))

    # Word for a person

    def _complain(self, code: AlarmCode, sentence: str) -> None:
        if self._alarms.raise_(code, sentence):
            logger.error("%s", sentence)

    def _note_silence(self, row: SpoolRow, silent_s: float) -> None:
        """Say so when frames go out again and again, and neither an error nor a receipt comes back."""
        if row.state == "diagnosed":
            self._complain(
                "unanswered",
                f"frames are diagnosed, and none was recorded for {silent_s:.0f} s: start the dashboard, or see why it "
                "cannot write; frames wait in the spool",
            )
        else:
            self._complain(
                "unanswered",
                f"frames are published, and nobody has answered for {silent_s:.0f} s: see that a worker and the dashboard "
                f"run and keep up, and that no other edge calls itself {self._site}/{self._device}; frames wait in the "
                "spool",
            )
