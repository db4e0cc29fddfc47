"""The subscriptions of one connection: asked for once it is accepted, given back one by one."""

import logging
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

from paho.mqtt.client import Client
from paho.mqtt.enums import MQTTErrorCode

from broker_config import reasons
from broker_config.paho_client import LinkOptions, subscribe
from broker_config.traffic import Subscription

logger = logging.getLogger(__name__)


class Subscribing:
    """What a connection subscribes to.

    Any thread may call `forget`; all else belongs to the network thread.

    Args:
        options: How the session connects.
    """

    def __init__(self, options: LinkOptions) -> None:
        self._broker = options.broker
        self._v5 = options.v5
        self._kept: Sequence[Subscription] = tuple(options.subscriptions)
        self._asked: Sequence[Subscription] = ()
        self._mid: int | None = None
        self._leaving: dict[int, Future[bool]] = {}

    def forget(self, topic_filter: str) -> None:
        """Do not ask for this one, if the connection has not asked yet."""
        self._kept = tuple(one for one in self._kept if one.topic_filter != topic_filter)

    def ask(self, client: Client) -> bool:
        """Send SUBSCRIBE; return false if there is nothing to ask for."""
        self._asked = self._kept
        if self._asked:
            self._mid = subscribe(client, self._asked, v5=self._v5)
        return bool(self._asked)

    def answers(self, mid: int) -> bool:
        """Whether this is the packet identifier of our SUBSCRIBE."""
        return mid == self._mid

    def refusal(self, reason_codes: Sequence[Any]) -> str:
        """Return the sentence for the first refused subscription that the session cannot do without; empty if none."""
        for subscription, reason in zip(self._asked, reason_codes, strict=False):
            if not reason.is_failure:
                continue
            sentence = (
                f"the broker at {reasons.address(self._broker)} refused the subscription "
                f"{subscription.topic_filter} ({str(reason).lower()}): allow it in the broker's access rules, or "
                "use a broker that supports it (the embedded one has no shared subscriptions)"
            )
            if subscription.required:
                return sentence
            logger.warning("%s; going on without it", sentence)
        return ""

    def leave(self, client: Client, topic_filter: str, done: "Future[bool]") -> None:
        """Send UNSUBSCRIBE; ``done`` says whether the broker confirmed it."""
        rc, mid = client.unsubscribe(topic_filter)
        if rc == MQTTErrorCode.MQTT_ERR_SUCCESS and mid is not None:
            self._leaving[mid] = done
        else:
            done.set_result(False)

    def left(self, mid: int, reason_codes: Sequence[Any]) -> None:
        """Take the answer to an UNSUBSCRIBE; 3.1.1 has no reason codes."""
        done = self._leaving.pop(mid, None)
        if done is not None:
            done.set_result(not any(reason.is_failure for reason in reason_codes))

    def end(self) -> None:
        """Tell those who wait that no confirmation will come."""
        for done in self._leaving.values():
            done.set_result(False)
        self._leaving.clear()
