"""A crowd of simulated edges in one process: real sessions, no microscopes.

``python -m hemolink.bench.storm_crowd`` reads one JSON object from standard input, starts its edges, and then one order a
line: ``still`` (make no more frames), ``report``, ``end``. It writes one JSON object a line: twice a second its counts,
and the report that was asked for. It ends when standard input does, so that a killed bench leaves no crowd behind.
"""

import hashlib
import json
import logging
import queue
import random
import resource
import sys
import threading
import time
from typing import Any

from broker_config.codec import decode
from broker_config.delivery import Publication, publication
from broker_config.device_messages import DeviceState
from broker_config.errors import DecodeError
from broker_config.messages import Frame, Presence, Receipt, new_frame_id, now
from broker_config.roles import Member
from broker_config.session import BrokerSettings, Ending, IncomingMessage, Session, Subscription
from broker_config.topics import Topics

SITE = "storm"
STACK_BYTES = 512 * 1024
STARTS_PER_S = 150.0
RESEND_S = 10.0
STOP_S = 2.0
_TURN_S = 0.25
_REPORT_S = 0.5
_IMAGE = bytes(range(256))
_SHA = hashlib.sha256(_IMAGE).hexdigest()


def device_name(number: int) -> str:
    """Return the device of the edge with this number."""
    return f"edge-{number:04d}"


def broker_of(number: int, broker: dict[str, Any], secrets: str | None) -> BrokerSettings:
    """Return how one edge reaches the broker: as a user of its own where there are users."""
    if secrets is None:
        return BrokerSettings.model_validate(broker)
    username = Member("edge", device_name(number), SITE).username
    secret = f"{secrets}/{username}.password"
    return BrokerSettings.model_validate({**broker, "username": username, "password_file": secret})


def raise_file_limit() -> int:
    """Allow this process, and those it starts, as many open files as it may have; return how many that is."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


class StormEdge:
    """One edge: announces itself, sends a small frame now and then, and keeps each until it is recorded.

    Args:
        number: Which one.
        broker: How to reach the broker.
        interval_s: Seconds between two frames.
    """

    def __init__(self, number: int, broker: BrokerSettings, *, interval_s: float) -> None:
        self._topics = Topics(broker.root)
        self._device = device_name(number)
        self._interval_s = interval_s
        self._next_at = time.monotonic() + random.uniform(0.0, interval_s)
        self._lock = threading.Lock()
        self._waiting: dict[str, tuple[Publication, float]] = {}
        self.captured = 0
        self.connected_at: list[float] = []
        self.failures: list[tuple[Ending, float]] = []
        self.session = Session(
            broker,
            client_id=f"{broker.root}-edge-{SITE}-{self._device}",
            subscriptions=[Subscription(self._topics.receipt(SITE, self._device))],
            on_message=self._take_receipt,
            birth=lambda: self._state("online"),
            will=self._state("offline"),
            on_connected=lambda: self.connected_at.append(time.monotonic()),
            on_failed=lambda ending, began: self.failures.append((ending, began)),
        )

    @property
    def waiting(self) -> int:
        """Frames without a receipt."""
        return len(self._waiting)

    def turn(self, moment: float, *, still: bool) -> None:
        """Make a frame if it is time for one, and send what waits."""
        if not still and moment >= self._next_at:
            self._next_at = moment + self._interval_s
            frame = self._frame()
            self.captured += 1
            topic = self._topics.frame(SITE, self._device, "routine")
            with self._lock:
                self._waiting[frame.frame_id] = (publication(topic, frame), 0.0)
        if not self.session.connected:
            return
        with self._lock:
            due = [(name, sent) for name, (sent, at) in self._waiting.items() if moment - at > RESEND_S]
            for name, sent in due:
                self._waiting[name] = (sent, moment)
        for _, sent in due:
            self.session.publish_soon(sent)

    def _frame(self) -> Frame:
        return Frame(
            frame_id=new_frame_id(),
            case="STORM-1",
            site=SITE,
            device=self._device,
            sequence=self.captured,
            captured_at=now(),
            encoding="jpeg",
            width=16,
            height=16,
            simulated=True,
            image_sha256=_SHA,
            image=_IMAGE,
        )

    def _state(self, presence: Presence) -> Publication:
        state = DeviceState(
            site=SITE, device=self._device, presence=presence, birth=1, at=now(), simulated=True
        )
        return publication(self._topics.state(SITE, self._device), state)

    def _take_receipt(self, message: IncomingMessage) -> None:
        try:
            receipt = decode(message.payload, Receipt)
        except DecodeError:
            return
        with self._lock:
            self._waiting.pop(receipt.frame_id, None)


class Crowd:
    """Some edges of one process.

    Args:
        order: ``first`` and ``count`` of the edges, ``interval_s``, ``seed``, the broker's settings, and ``secrets``: the
            folder of the edges' passwords, where the broker asks for them.
    """

    def __init__(self, order: dict[str, Any]) -> None:
        random.seed(f"{order['seed']}/{order['first']}")
        self._edges = [
            StormEdge(
                number, broker_of(number, order["broker"], order["secrets"]), interval_s=order["interval_s"]
            )
            for number in range(order["first"], order["first"] + order["count"])
        ]
        self._orders: queue.Queue[str] = queue.Queue()
        self._still = False

    def run(self) -> None:
        """Serve orders until ``end``, or until standard input ends."""
        threading.Thread(target=self._read_orders, daemon=True).start()
        for edge in self._edges:
            edge.session.start()
            time.sleep(1.0 / STARTS_PER_S)
        told_at = 0.0
        while True:
            try:
                order = self._orders.get(timeout=_TURN_S)
            except queue.Empty:
                order = ""
            match order:
                case "still":
                    self._still = True
                case "report":
                    _say(
                        {
                            "edges": [
                                {"connected_at": e.connected_at, "failures": e.failures} for e in self._edges
                            ]
                        }
                    )
                case "end":
                    break
            moment = time.monotonic()
            for edge in self._edges:
                edge.turn(moment, still=self._still)
            if moment - told_at > _REPORT_S:
                told_at = moment
                _say(self._counts())
        for edge in self._edges:
            edge.session.stop(STOP_S)

    def _counts(self) -> dict[str, int]:
        return {
            "connected": sum(edge.session.connected for edge in self._edges),
            "connections": sum(len(edge.connected_at) for edge in self._edges),
            "captured": sum(edge.captured for edge in self._edges),
            "waiting": sum(edge.waiting for edge in self._edges),
        }

    def _read_orders(self) -> None:
        for line in sys.stdin:
            self._orders.put(line.strip())
        self._orders.put("end")


def _say(what: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Read what to do, and do it."""
    logging.disable(logging.CRITICAL)  # a thousand edges that all say that the broker is away
    raise_file_limit()
    threading.stack_size(STACK_BYTES)
    Crowd(json.loads(sys.stdin.readline())).run()


if __name__ == "__main__":
    main()
