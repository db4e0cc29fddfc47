"""The far end of the storm: takes frames, answers each with a receipt, and watches the states."""

import threading
import time
from collections.abc import Callable

from broker_config.codec import decode
from broker_config.delivery import publication
from broker_config.device_messages import DeviceState
from broker_config.errors import ContractError
from broker_config.messages import Frame, Receipt, now
from broker_config.session import BrokerSettings, IncomingMessage, Session, Subscription
from broker_config.topics import Topics


class StormRecord:
    """Counts what arrives; nothing is stored.

    Args:
        broker: How to reach the broker.
        silent: Whether to give no receipts, to show that the count of lost frames can rise.
    """

    def __init__(self, broker: BrokerSettings, *, silent: bool = False) -> None:
        self._topics = Topics(broker.root)
        self._silent = silent
        self._lock = threading.Lock()
        self._frames: set[str] = set()
        self._births: dict[str, float] = {}
        self._session = Session(
            broker,
            client_id=f"{broker.root}-storm-record",
            subscriptions=[
                Subscription(self._topics.all_frames()),
                Subscription(self._topics.all_of("state")),
            ],
            on_message=self._take,
            max_inflight=1000,
        )

    def start(self) -> None:
        """Connect; waits until it listens."""
        self._session.connect(10.0)

    def stop(self) -> None:
        """Disconnect."""
        self._session.stop()

    @property
    def recorded(self) -> int:
        """How many different frames have come."""
        return len(self._frames)

    def forget_births(self) -> None:
        """Count births anew."""
        with self._lock:
            self._births.clear()

    def births(self) -> dict[str, float]:
        """Return when each device was first seen online since `forget_births` (`time.monotonic`)."""
        with self._lock:
            return dict(self._births)

    def _take(self, message: IncomingMessage) -> None:
        try:
            if self._topics.parse(message.topic).kind == "state":
                self._note(decode(message.payload, DeviceState))
            else:
                self._record(decode(message.payload, Frame))
        except ContractError:
            return

    def _note(self, state: DeviceState) -> None:
        if state.presence == "online":
            with self._lock:
                self._births.setdefault(state.device, time.monotonic())

    def _record(self, frame: Frame) -> None:
        self._frames.add(frame.frame_id)
        if self._silent:
            return
        receipt = Receipt(frame_id=frame.frame_id, status="recorded", by="record", at=now())
        # One that is lost costs a resend, nothing more.
        self._session.publish_soon(publication(self._topics.receipt(frame.site, frame.device), receipt))


def retained_presences(broker: BrokerSettings, *, enough: int, within_s: float) -> dict[str, str]:
    """Return the presence in each device's retained state, as somebody who comes late sees it.

    Args:
        broker: How to reach the broker.
        enough: End when so many are online.
        within_s: How long to look at most.
    """
    topics = Topics(broker.root)
    seen: dict[str, str] = {}

    def take(message: IncomingMessage) -> None:
        try:
            state = decode(message.payload, DeviceState)
        except ContractError:
            return
        seen[state.device] = state.presence

    session = Session(
        broker,
        client_id=f"{broker.root}-storm-latecomer",
        subscriptions=[Subscription(topics.all_of("state"))],
        on_message=take,
    )
    session.connect(within_s)
    try:
        wait_until(lambda: sum(one == "online" for one in list(seen.values())) >= enough, within_s=within_s)
    finally:
        session.stop()
    return dict(seen)


def wait_until(condition: Callable[[], bool], *, within_s: float, turn_s: float = 0.05) -> bool:
    """Wait until ``condition`` holds; return whether it came to."""
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(turn_s)
    return True
