"""A line to a broker that can be cut, go dead without a word, or be slow."""

import socket
import struct
import threading
import time
from contextlib import suppress
from typing import Self

_PIECE = 4096


class RoughLine:
    """Forwards TCP from a port of its own to another.

    Args:
        target: Port on the loopback to forward to.
        bytes_per_s: How much passes from the client to the target in a second; unlimited if none.
    """

    def __init__(self, target: int, *, bytes_per_s: int | None = None) -> None:
        self._target = target
        self._bytes_per_s = bytes_per_s
        self._dead = threading.Event()
        self._closing = threading.Event()
        self._ends: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._door = socket.socket()
        # Small buffers, inherited by what is accepted: what is on its way is what the line holds, as on a real one.
        self._door.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
        self._door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._door.bind(("127.0.0.1", 0))
        self._door.listen()
        self.port: int = self._door.getsockname()[1]

    def __enter__(self) -> Self:
        self._start(self._welcome)
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._door.shutdown(socket.SHUT_RDWR)
        self._door.close()
        self.cut()
        for thread in self._threads:
            thread.join(5)

    def cut(self) -> None:
        """End every connection at once, as a switch that resets does."""
        ends, self._ends = self._ends, []
        for end in ends:
            with suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                end.shutdown(socket.SHUT_RDWR)
        for end in ends:
            end.close()

    def go_dead(self) -> None:
        """Pass nothing more, in either direction, and tell nobody; what connects is accepted and hears nothing."""
        self._dead.set()

    def recover(self) -> None:
        """Pass what comes on new connections; those that were dead stay so, and end when their other side does."""
        self._dead.clear()

    def _start(self, work: object, *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _welcome(self) -> None:
        while not self._closing.is_set():
            try:
                guest, _ = self._door.accept()
            except OSError:
                return
            self._ends.append(guest)
            if self._dead.is_set():
                continue
            onward = socket.create_connection(("127.0.0.1", self._target), 5)
            onward.settimeout(None)
            self._ends.append(onward)
            died = threading.Event()
            self._start(self._forward, guest, onward, died, self._bytes_per_s)
            self._start(self._forward, onward, guest, died, None)

    def _forward(
        self, source: socket.socket, sink: socket.socket, died: threading.Event, bytes_per_s: int | None
    ) -> None:
        with suppress(OSError):
            while piece := source.recv(_PIECE):
                if self._dead.is_set():
                    died.set()
                if died.is_set():
                    continue
                sink.sendall(piece)
                if bytes_per_s:
                    time.sleep(len(piece) / bytes_per_s)
        if not died.is_set():
            with suppress(OSError):
                sink.shutdown(socket.SHUT_RDWR)
