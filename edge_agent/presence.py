"""Presence: what a device's retained state says of it, and that it stays true.

The broker publishes the will when it thinks that the device is gone: after a cut line it may think so when the device is
long back. The birth number tells readers which life a state is from, but the broker keeps whatever came last. So a live
device listens to its own state, and says at once what is true when something else is said in its name.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable

from broker_config.codec import decode
from broker_config.delivery import Publication, publication
from broker_config.device_messages import DeviceState

logger = logging.getLogger(__name__)

_OWN_REMEMBERED = 32


class Presence:
    """Makes the publications of a device's state and notices false ones. Any thread may call it.

    Args:
        topic: The device's state topic.
        state: Makes the state as it is at this moment.
        will: What the broker is to say when the device vanishes.
        correct: Called when something false was said: the state must be published at once.
        clash: Called when another live device uses this one's name.
    """

    def __init__(
        self,
        topic: str,
        *,
        state: Callable[[], DeviceState],
        will: Callable[[], DeviceState],
        correct: Callable[[], None],
        clash: Callable[[], None],
    ) -> None:
        self._topic = topic
        self._state = state
        self._will = will
        self._correct = correct
        self._clash = clash
        self._lock = threading.Lock()
        self._own: deque[bytes] = deque(maxlen=_OWN_REMEMBERED)

    def publication(self) -> Publication:
        """Return the state, ready to publish."""
        ready = publication(self._topic, self._state())
        with self._lock:
            self._own.append(ready.payload)
        return ready

    def will(self) -> Publication:
        """Return the will."""
        return publication(self._topic, self._will())

    def hear(self, payload: bytes, *, retained: bool) -> None:
        """Take in a message on the device's own state topic.

        Args:
            payload: The message.
            retained: Whether the broker had kept it: then the birth that follows the connection takes its place.

        Raises:
            DecodeError: If it is no state.
        """
        with self._lock:
            if payload in self._own:
                return
        own = self._state()
        if own.presence != "online":
            return  # on its way out: nothing to defend
        if not payload:
            self._correct()  # somebody deleted the retained state
            return
        said = decode(payload, DeviceState)
        if retained:
            return
        if said.presence != "online":
            logger.info("the broker said %r of this device, which lives: corrected", said.presence)
            self._correct()
        elif said.birth != own.birth:
            self._clash()
