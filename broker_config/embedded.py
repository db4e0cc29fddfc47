"""The embedded broker: amqtt in this process, for the demo, for one machine, and for tests that need no more.

What it cannot do, and what follows from it:

- It speaks MQTT 3.1.1 only: a version 5 CONNECT is answered with 0x84, and clients set ``broker.protocol`` to ``3.1.1``.
- It has no shared subscriptions, so one worker. A ``$share`` filter is refused here; amqtt itself would grant it and
  deliver nothing.
- It sends a subscriber everything at once, without a window, and forgets a message that is not acknowledged within
  five seconds. It loses what is in flight to a subscriber that drops, and everything when it ends: the edge sends
  again.
- It takes a second client of one client id beside the first; here the first is ended, as MQTT asks.
- It does not enforce keep-alive, and sends retained messages to clients that never asked; here it does and does not.
- It delivers at the subscription's quality of service, even what was published at 0.
- It listens on the loopback only, because it has neither TLS nor access rules: who can open a socket on this machine
  can publish anything, by a will too.

The listening socket and the connections are kept here and only their streams are handed to amqtt, because amqtt can
leave both open when it ends.
"""

import asyncio
import contextlib
import logging
import threading
from collections.abc import Coroutine
from typing import Any, Self

from broker_config.errors import BrokerFailed

logger = logging.getLogger(__name__)

_START_S = 20.0
_STOP_S = 5.0
_CONNECT_S = 10.0
_TAKE_OVER_S = 2.0
_LISTENER = "default"
_GUARD = "broker_config.embedded_guard.SharedSubscriptionGuard"


class EmbeddedBroker:
    """Runs amqtt on an event loop in a thread of its own.

    Args:
        host: Address to listen on; the loopback.
        port: Port, or 0 for any free one.
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self.host = host
        self.port = port
        self._writers: set[asyncio.StreamWriter] = set()
        self._guests: dict[str, tuple[asyncio.StreamWriter, asyncio.Task[Any] | None]] = {}
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._started = threading.Event()
        self._failure: BaseException | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def running(self) -> bool:
        """Whether it serves."""
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Start it and wait until it listens. After `stop` it may start again, on the same port and empty.

        Raises:
            BrokerFailed: If amqtt is not installed, the address is not the loopback, or the port is taken.
        """
        if self.running:
            return
        if self.host not in ("127.0.0.1", "localhost"):
            raise BrokerFailed(
                f"the embedded broker has no access rules and may not listen on {self.host}: use 127.0.0.1, or "
                "Mosquitto for a network"
            )
        try:
            import amqtt.broker  # noqa: F401, PLC0415 - takes a second, and only this class needs it
        except ImportError:
            raise BrokerFailed(
                "the embedded broker needs amqtt: pip install 'hemolink[embedded]', or use Mosquitto"
            ) from None
        # What amqtt calls errors are clients that drop, or that take their time over an acknowledgement.
        logging.getLogger("amqtt").setLevel(logging.CRITICAL)
        self._started.clear()
        self._failure = None
        self._thread = threading.Thread(target=self._run, name="embedded-broker", daemon=True)
        self._thread.start()
        if not self._started.wait(_START_S) or self._failure is not None:
            failure = self._failure
            self.stop()
            raise BrokerFailed(
                f"the embedded broker could not listen on {self.host}:{self.port} "
                f"({failure or 'it did not start in time'}): choose a free port, or 0 for any"
            )

    def stop(self) -> None:
        """Disconnect every client and end. Harmless when it does not run."""
        thread, loop, stop = self._thread, self._loop, self._stop
        if thread is None:
            return
        if loop is not None and stop is not None and thread.is_alive():
            try:
                loop.call_soon_threadsafe(stop.set)
            except RuntimeError:
                logger.debug("the embedded broker had ended already")
        thread.join(_STOP_S)
        self._thread = None

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            self._failure = self._failure or error
            logger.debug("the embedded broker ended", exc_info=True)
        finally:
            self._started.set()

    async def _serve(self) -> None:
        from broker_config.embedded_guard import GuardedBroker  # noqa: PLC0415 - see start

        self._loop = asyncio.get_running_loop()
        self._loop.set_exception_handler(_log_quietly)
        self._stop = asyncio.Event()
        broker = GuardedBroker(
            {
                "listeners": {_LISTENER: {"type": "external"}},
                "plugins": {
                    "amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True},
                    _GUARD: {},
                },
            }
        )
        await broker.start()
        try:
            server = await asyncio.start_server(
                lambda reader, writer: self._open_door(broker, reader, writer), self.host, self.port
            )
            self.port = int(server.sockets[0].getsockname()[1])
            self._started.set()
            await self._stop.wait()
            # First the door, then the guests: a client must not come back to a broker that is going. One that has just
            # been accepted gets its turn before, since asyncio leaves its socket open when it comes after close().
            for listener in server.sockets:
                self._loop.remove_reader(listener.fileno())
            await asyncio.sleep(0)
            server.close()
            for writer in list(self._writers):
                writer.transport.abort()
        finally:
            try:
                await asyncio.wait_for(broker.shutdown(), _STOP_S / 2)
            except Exception:
                logger.debug("the embedded broker did not shut down cleanly", exc_info=True)

    def _open_door(
        self, broker: Any, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> Coroutine[Any, Any, None]:
        # Noted here and not in the task: one that is cancelled before its first step closes nothing.
        self._writers.add(writer)
        if self._stop is not None and self._stop.is_set():
            writer.transport.abort()
        return self._host_guest(broker, reader, writer)

    async def _host_guest(
        self, broker: Any, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        # Only the end of the loop cancels a guest's task. asyncio asks a finished one for its exception, and reports
        # a cancelled one as a fault with a traceback.
        with contextlib.suppress(asyncio.CancelledError):
            await self._welcome(broker, reader, writer)

    async def _welcome(self, broker: Any, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from amqtt.adapters import StreamWriterAdapter  # noqa: PLC0415 - see start

        from broker_config.embedded_guard import ConnectReader, refusal_of_version, watch  # noqa: PLC0415 - see start

        name = ""
        watching: asyncio.Task[None] | None = None
        try:
            first = ConnectReader(reader)
            level = await asyncio.wait_for(first.protocol_level(), _CONNECT_S)
            refusal = refusal_of_version(level)
            if refusal is not None:
                logger.warning(
                    "a client speaks MQTT 5, and the embedded broker 3.1.1: set broker.protocol to '3.1.1'"
                )
                writer.write(refusal)
                await writer.drain()
                return
            name = await asyncio.wait_for(first.client_id(), _CONNECT_S)
            if name:
                await self._take_over(name, writer)
            if first.keep_alive_s:
                watching = asyncio.create_task(watch(first, writer.transport))
            await broker.external_connected(first, StreamWriterAdapter(writer), _LISTENER)
        except (OSError, EOFError, TimeoutError):
            logger.debug("a client of the embedded broker dropped", exc_info=True)
        except Exception:
            # Whatever one client sends, the others are served.
            logger.debug("a client of the embedded broker was dropped", exc_info=True)
        finally:
            if watching is not None:
                watching.cancel()
            self._writers.discard(writer)
            if name and self._guests.get(name, (None,))[0] is writer:
                del self._guests[name]
            writer.close()
            with contextlib.suppress(Exception):
                await writer.wait_closed()

    async def _take_over(self, name: str, writer: asyncio.StreamWriter) -> None:
        """End the client that has this client id already, as a broker must (MQTT 3.1.1, section 3.1.4).

        amqtt leaves both connected, and the messages of both to one of them: the other would wait for ever.
        """
        earlier = self._guests.get(name)
        self._guests[name] = (writer, asyncio.current_task())
        if earlier is None:
            return
        logger.warning("a second client calls itself %s: the first one is disconnected", name)
        earlier[0].transport.abort()
        if earlier[1] is not None:
            await asyncio.wait({earlier[1]}, timeout=_TAKE_OVER_S)


def _log_quietly(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    # A client that drops makes amqtt's tasks fail one by one; none of it is news to an operator.
    logger.debug("embedded broker: %s", context.get("message"), exc_info=context.get("exception"))
