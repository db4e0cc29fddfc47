"""What stands between clients and amqtt in the embedded broker, and refuses what amqtt would not do.

A module of its own, because it imports amqtt at its top and amqtt loads the plug-in by its dotted name.
"""

import asyncio
import logging
import time
from typing import Any

from amqtt.adapters import ReaderAdapter
from amqtt.broker import Broker
from amqtt.contexts import Action, BaseContext
from amqtt.plugins.base import BaseTopicPlugin
from amqtt.session import Session

logger = logging.getLogger(__name__)


_CONNECT = 0x10
_LEVEL_5 = 5
_CONNACK_UNSUPPORTED_VERSION = bytes(
    [0x20, 3, 0, 0x84, 0]
)  # MQTT 5, section 3.2: flags, reason code, no properties
_MAX_LENGTH_BYTES = 4
_GIVE_UP = 1.5


def refusal_of_version(level: int) -> bytes | None:
    """Return the CONNACK to send to a client of this protocol level, or none if it may go on."""
    return _CONNACK_UNSUPPORTED_VERSION if level >= _LEVEL_5 else None


class ConnectReader(ReaderAdapter):  # type: ignore[misc]
    """Reads a stream for amqtt, after a look at its CONNECT, and notes when something came.

    Args:
        reader: The client's stream.

    Attributes:
        keep_alive_s: The Keep Alive that the client named, after `client_id`; 0 if it wants none.
        heard_at: `time.monotonic` when something came last.
    """

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self._seen = b""
        self.keep_alive_s = 0
        self.heard_at = time.monotonic()

    async def protocol_level(self) -> int:
        """Return the protocol level of the CONNECT that must come first (MQTT 3.1.1 and 5, section 3.1.2.2).

        Raises:
            ValueError: If something else comes.
            EOFError: If the client drops before.
        """
        if (await self._look(1))[0] != _CONNECT:
            raise ValueError("not a CONNECT")
        for _ in range(_MAX_LENGTH_BYTES):
            if not (await self._look(1))[0] & 0x80:
                break
        name_length = int.from_bytes(await self._look(2), "big")
        if name_length > len("MQIsdp"):
            raise ValueError("not MQTT")
        await self._look(name_length)
        return (await self._look(1))[0]

    async def client_id(self) -> str:
        """Return the client id of the CONNECT, after `protocol_level` (MQTT 3.1.1, section 3.1.3.1).

        Raises:
            EOFError: If the client drops before.
        """
        await self._look(1)  # flags
        self.keep_alive_s = int.from_bytes(await self._look(2), "big")
        length = int.from_bytes(await self._look(2), "big")
        return (await self._look(length)).decode("utf-8", errors="replace")

    async def _look(self, count: int) -> bytes:
        piece = await self._reader.readexactly(count)
        self._seen += piece
        return piece

    async def read(self, n: int = -1) -> bytes:
        """Return exactly ``n`` bytes, those looked at first; everything up to the end if ``n`` is -1."""
        if n == -1:
            seen, self._seen = self._seen, b""
            return seen + await self._reader.read(-1)
        seen, self._seen = self._seen[:n], self._seen[n:]
        if len(seen) < n:
            seen += await self._reader.readexactly(n - len(seen))
        self.heard_at = time.monotonic()
        return seen

    def feed_eof(self) -> None:
        """End the stream."""
        self._reader.feed_eof()


async def watch(reader: ConnectReader, transport: asyncio.BaseTransport) -> None:
    """Cut a client off that has been silent for one and a half times its Keep Alive (MQTT 3.1.1, section 3.1.2.10).

    amqtt reads the figure and does nothing, so that the will of a client that fell silent would never come.

    Args:
        reader: What the client sends.
        transport: The client's connection.
    """
    allowed_s = _GIVE_UP * reader.keep_alive_s
    while (left_s := reader.heard_at + allowed_s - time.monotonic()) > 0:  # noqa: ASYNC110 - wakes when it can end
        await asyncio.sleep(left_s)
    logger.info("a client was silent for %.0f s: disconnected", allowed_s)
    transport.abort()  # type: ignore[attr-defined]


class GuardedBroker(Broker):  # type: ignore[misc]
    """amqtt, without the retained messages that it sends to every client that connects, asked or not."""

    async def _publish_retained_messages_for_subscription(
        self, subscription: tuple[str, int], session: Session
    ) -> None:
        subscribers: list[Any] = self._subscriptions.get(subscription[0], [])
        if any(subscriber is session for subscriber, _ in subscribers):
            await super()._publish_retained_messages_for_subscription(subscription, session)


class SharedSubscriptionGuard(BaseTopicPlugin):  # type: ignore[misc]
    """Refuses shared subscriptions: amqtt grants them and then delivers nothing."""

    def __init__(self, context: BaseContext) -> None:
        super().__init__(context)

    async def topic_filtering(
        self, *, session: Session | None = None, topic: str | None = None, action: Action | None = None
    ) -> bool:
        """Return whether the client may; false for a shared subscription, which the client sees in its SUBACK."""
        if action == Action.SUBSCRIBE and (topic or "").startswith("$share"):
            logger.warning(
                "%s asks for the shared subscription %s, which the embedded broker does not have: use Mosquitto, or "
                "one worker without a pool",
                session.client_id if session else "a client",
                topic,
            )
            return False
        return True
