"""What other threads hand to a connection's network thread: publications, acknowledgements, and a bell."""

import selectors
import socket
import threading
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass

from broker_config.delivery import Publication
from broker_config.errors import NotConnected, PublishTimeout
from broker_config.packets import PackedProperties
from broker_config.traffic import PublishResult

MAX_WAITING = 1000
"""How many publications may wait for room in the window."""


@dataclass
class Outgoing:
    """One publication on its way, with the future of its acknowledgement."""

    publication: Publication
    properties: PackedProperties | None
    future: "Future[PublishResult]"

    def fail(self, error: Exception) -> None:
        """Fail the future, unless it was cancelled."""
        if self.future.running() or self.future.set_running_or_notify_cancel():
            self.future.set_exception(error)


class Mailbox:
    """Open from the moment the broker has accepted a connection to the connection's end.

    The thread that makes it is the network thread, which alone takes things out.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_open = False
        self._publications: deque[Outgoing] = deque()
        self._acks: deque[int] = deque()
        self._unsubscriptions: deque[tuple[str, Future[bool]]] = deque()
        self._owner = threading.get_ident()
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        self._rung = False
        self._closed = False

    @property
    def is_open(self) -> bool:
        """Whether it takes anything."""
        return self._is_open

    @property
    def owned_here(self) -> bool:
        """Whether the caller runs on the network thread."""
        return threading.get_ident() == self._owner

    # For any thread

    def put(self, outgoing: Outgoing) -> None:
        """Take a publication, or fail its future."""
        with self._lock:
            is_open, waiting = self._is_open, len(self._publications)
            if is_open and waiting < MAX_WAITING:
                self._publications.append(outgoing)
        if not is_open:
            outgoing.fail(NotConnected("the connection to the broker has just ended: publish again"))
        elif waiting >= MAX_WAITING:
            outgoing.fail(
                PublishTimeout(f"{waiting} publishes wait for the broker already: publish again later")
            )
        else:
            self.ring()

    def put_ack(self, mid: int) -> bool:
        """Take the acknowledgement of a message; false when closed."""
        with self._lock:
            if not self._is_open:
                return False
            self._acks.append(mid)
        self.ring()
        return True

    def put_unsubscription(self, topic_filter: str, done: "Future[bool]") -> None:
        """Take a topic filter to unsubscribe from, even before the connection stands; false in ``done`` when it ends."""
        with self._lock:
            closed = self._closed
            if not closed:
                self._unsubscriptions.append((topic_filter, done))
        if closed:
            done.set_result(False)
        else:
            self.ring()

    def ring(self) -> None:
        """Wake the network thread; once is enough until it has woken."""
        if self.owned_here:
            return
        with self._lock:
            if not self._closed and not self._rung:
                self._rung = True
                self._writer.send(b"\0")

    # For the network thread

    def register(self, selector: selectors.BaseSelector) -> None:
        """Let ``selector`` wake when the bell rings."""
        selector.register(self._reader, selectors.EVENT_READ)

    def silence(self) -> None:
        """Stop the bell; to be called before the mailbox is emptied, so that nothing put in later is overlooked."""
        with self._lock:
            if self._rung:
                self._rung = False
                self._reader.recv(1)

    def open(self) -> None:
        """Begin to take things."""
        with self._lock:
            self._is_open = True

    def take(self) -> Outgoing | None:
        """Take out the next publication that was not cancelled."""
        while True:
            with self._lock:
                if not self._publications:
                    return None
                outgoing = self._publications.popleft()
            if outgoing.future.set_running_or_notify_cancel():
                return outgoing

    def take_acks(self) -> list[int]:
        """Take out every acknowledgement."""
        with self._lock:
            acks = list(self._acks)
            self._acks.clear()
        return acks

    def take_unsubscriptions(self) -> "list[tuple[str, Future[bool]]]":
        """Take out every topic filter to unsubscribe from."""
        with self._lock:
            taken = list(self._unsubscriptions)
            self._unsubscriptions.clear()
        return taken

    def shut(self) -> None:
        """Take nothing more; what is inside stays."""
        with self._lock:
            self._is_open = False

    def close(self) -> list[Outgoing]:
        """End, and return the publications that were never sent."""
        with self._lock:
            self._is_open, self._closed = False, True
            left = list(self._publications)
            self._publications.clear()
            self._acks.clear()
            unsubscriptions = list(self._unsubscriptions)
            self._unsubscriptions.clear()
        for _, done in unsubscriptions:
            done.set_result(False)
        self._reader.close()
        self._writer.close()
        return left
