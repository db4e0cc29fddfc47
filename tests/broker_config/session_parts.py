"""Small parts for the session tests: polling, a collecting session, a broker that misbehaves on purpose."""

import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from broker_config.delivery import Publication
from broker_config.session import BrokerSettings, IncomingMessage, Session, Subscription


def eventually(condition: Callable[[], object], *, within_s: float = 10.0) -> None:
    """Poll until ``condition`` holds, or fail."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come to hold in time"
        time.sleep(0.01)


def settings_for(port: int, protocol: str = "5", **changes: object) -> BrokerSettings:
    fields = {"port": port, "protocol": protocol, "reconnect_max_s": 0.2, "connect_timeout_s": 5}
    return BrokerSettings.model_validate({**fields, **changes})


def message(topic: str, payload: bytes = b"x", **changes: object) -> Publication:
    return Publication(topic, payload, **changes)


@contextmanager
def running(broker: BrokerSettings, client_id: str, **options: object) -> Iterator[Session]:
    """A connected session, stopped at the end."""
    session = Session(broker, client_id=client_id, **options)
    session.start()
    try:
        assert session.wait_connected(10), session.last_error
        yield session
    finally:
        session.stop()


@contextmanager
def listening(
    broker: BrokerSettings, *filters: str, client_id: str = "listener", **options: object
) -> Iterator["queue.Queue[IncomingMessage]"]:
    """What comes to the filters, as a queue."""
    inbox: queue.Queue[IncomingMessage] = queue.Queue()
    subscriptions = [Subscription(one) for one in filters]
    with running(broker, client_id, subscriptions=subscriptions, on_message=inbox.put, **options):
        yield inbox


@contextmanager
def fake_broker(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """A port on which ``serve`` gets each connection, in a thread of its own."""
    door = socket.create_server(("127.0.0.1", 0))
    guests: list[socket.socket] = []

    def welcome() -> None:
        while True:
            try:
                guest, _ = door.accept()
            except OSError:
                return
            guests.append(guest)
            threading.Thread(target=_quietly, args=(serve, guest), daemon=True).start()

    thread = threading.Thread(target=welcome, daemon=True)
    thread.start()
    try:
        yield door.getsockname()[1]
    finally:
        door.shutdown(socket.SHUT_RDWR)
        door.close()
        for guest in guests:
            guest.close()
        thread.join(5)


def _quietly(serve: Callable[[socket.socket], None], guest: socket.socket) -> None:
    with suppress(OSError):
        serve(guest)


def read_packet(guest: socket.socket) -> tuple[int, bytes]:
    """Read one MQTT packet: its first byte and its body."""
    first = _exactly(guest, 1)[0]
    length, shift = 0, 0
    while True:
        byte = _exactly(guest, 1)[0]
        length |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return first, _exactly(guest, length)


def _exactly(guest: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = guest.recv(count - len(data))
        if not piece:
            raise OSError("closed")
        data += piece
    return data


CONNACK_5 = bytes([0x20, 3, 0, 0, 0])
