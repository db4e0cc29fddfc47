"""A TCP proxy between one client and the broker, that can do what networks do: cut, swallow, slow down, stall."""

import asyncio
import contextlib
import random
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

_CHUNK = 16 * 1024
_START_S = 10.0

T = TypeVar("T")


@dataclass(frozen=True)
class Weather:
    """How bytes travel.

    Attributes:
        latency_s: Added to each piece of a stream, in each direction.
        bytes_per_s: Bandwidth in each direction; none for no limit.
        stall_share: Share of the pieces that wait for `stall_s` more, as after a lost segment.
        stall_s: How long such a piece waits.
    """

    latency_s: float = 0.0
    bytes_per_s: float | None = None
    stall_share: float = 0.0
    stall_s: float = 0.0


FAIR = Weather()


class _Connection:
    """Two streams that carry each other's bytes."""

    def __init__(self) -> None:
        self.deaf = False
        self.writers: list[asyncio.StreamWriter] = []

    def reset(self) -> None:
        """End both sides at once, without a goodbye; what was on its way is gone."""
        for writer in self.writers:
            writer.transport.abort()

    def close(self) -> None:
        """End both sides in order: what was taken is still sent."""
        for writer in self.writers:
            writer.close()


class Proxy:
    """Listens on a port of its own and passes everything on to the target.

    Every method may be called from any thread. A connection that was deafened (`deafen`) stays deaf for as long as its two
    ends keep it, as behind a router that forgot it: each end may write and is never heard, and only its own timers
    tell it.

    Args:
        target: Host and port to connect to, asked at each connection.
        seed: Seed of the stalls.
    """

    def __init__(self, target: Callable[[], tuple[str, int]], *, seed: int = 0) -> None:
        self._target = target
        self._random = random.Random(seed)
        self._weather = FAIR
        self._deaf = False
        self._shut = False
        self._connections: set[_Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._server: asyncio.Server | None = None
        self._thread: threading.Thread | None = None
        self.port = 0
        self.accepted = 0

    def start(self) -> None:
        """Listen; returns when the port is known.

        Raises:
            OSError: If it cannot listen.
        """
        loop = self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), loop).result(_START_S)

    def stop(self) -> None:
        """End every connection and the server. Safe to call twice."""
        loop, self._loop = self._loop, None
        if loop is None:
            return
        asyncio.run_coroutine_threadsafe(self._end(), loop).result(_START_S)
        loop.call_soon_threadsafe(loop.stop)
        if self._thread is not None:
            self._thread.join(_START_S)
        loop.close()

    @property
    def connections(self) -> int:
        """How many connections stand."""
        return len(self._connections)

    def cut(self) -> int:
        """Reset every connection; returns how many there were."""
        return self._call(self._cut_all)

    def shut(self) -> None:
        """Cut, and refuse new connections until `open`."""

        def act() -> None:
            self._shut = True
            self._cut_all()

        self._call(act)

    def deafen(self) -> None:
        """Swallow what comes from either side, on the connections that stand (for ever) and on new ones until `open`."""

        def act() -> None:
            self._deaf = True
            for connection in self._connections:
                connection.deaf = True

        self._call(act)

    def slow(self, weather: Weather) -> None:
        """Let bytes travel so from now on, until `open`."""

        def act() -> None:
            self._weather = weather

        self._call(act)

    def open(self) -> None:
        """Behave from now on; connections that were deafened stay deaf."""

        def act() -> None:
            self._shut = self._deaf = False
            self._weather = FAIR

        self._call(act)

    def _call(self, act: Callable[[], T]) -> T:
        """Run ``act`` on the proxy's own thread and return what it returns."""
        loop = self._loop
        if loop is None:
            raise RuntimeError("the proxy does not run")
        done: Future[T] = Future()

        def run() -> None:
            try:
                done.set_result(act())
            except BaseException as error:  # noqa: BLE001 - handed to the caller
                done.set_exception(error)

        loop.call_soon_threadsafe(run)
        return done.result(_START_S)

    def _cut_all(self) -> int:
        count = len(self._connections)
        for connection in list(self._connections):
            connection.reset()
        return count

    # The loop's thread

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _end(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        self._cut_all()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task: asyncio.Task[Any] | None = asyncio.current_task()
        assert task is not None  # noqa: S101 - a server's callback runs in one
        self._tasks.add(task)
        connection = _Connection()
        connection.deaf = self._deaf
        connection.writers.append(writer)
        self._connections.add(connection)
        self.accepted += 1
        try:
            if self._shut:
                return
            host, port = self._target()
            far_reader, far_writer = await asyncio.open_connection(host, port)
            connection.writers.append(far_writer)
            ends = [
                asyncio.ensure_future(self._pump(reader, far_writer, connection)),
                asyncio.ensure_future(self._pump(far_reader, writer, connection)),
            ]
            try:
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for end in ends:
                    end.cancel()
                await asyncio.gather(*ends, return_exceptions=True)
        except (OSError, asyncio.CancelledError):
            pass  # the broker is away, or the proxy ends: the client sees its connection go
        finally:
            connection.close()
            self._connections.discard(connection)
            self._tasks.discard(task)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: _Connection
    ) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while piece := await reader.read(_CHUNK):
                await self._delay(len(piece))
                if connection.deaf:
                    continue
                writer.write(piece)
                await writer.drain()
        while connection.deaf:  # the other side never hears that this one has gone
            await asyncio.sleep(0.2)
            if writer.transport.is_closing():
                break

    async def _delay(self, size: int) -> None:
        weather = self._weather
        if weather is FAIR:
            return
        pause = weather.latency_s
        if weather.bytes_per_s is not None:
            pause += size / weather.bytes_per_s
        if weather.stall_share and self._random.random() < weather.stall_share:
            pause += weather.stall_s
        await asyncio.sleep(pause)
