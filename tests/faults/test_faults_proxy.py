"""The proxy: what a client behind it meets."""

import socket
import socketserver
import threading
import time

import pytest

from hemolink.bench.faults.proxy import Proxy, Weather


class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        try:
            while data := self.request.recv(65536):
                self.request.sendall(data)
        except OSError:
            pass


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


@pytest.fixture
def proxy():
    with Server(("127.0.0.1", 0), Echo) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        one = Proxy(lambda: server.server_address)
        one.start()
        yield one
        one.stop()
        one.stop()
        server.shutdown()
        thread.join()


@pytest.fixture
def connect(proxy):
    opened = []

    def connect():
        client = socket.create_connection(("127.0.0.1", proxy.port), timeout=10)
        opened.append(client)
        return client

    yield connect
    for client in opened:
        client.close()


def say(client, data=b"hello"):
    client.sendall(data)
    heard = b""
    while len(heard) < len(data):
        piece = client.recv(65536)
        if not piece:
            raise ConnectionError("closed")
        heard += piece
    return heard


def wait_for(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_closed(client):
    try:
        return client.recv(1) == b""
    except ConnectionError:
        return True


def test_it_carries_bytes_both_ways(connect):
    data = bytes(range(256)) * 2000
    client = connect()
    received = []
    reader = threading.Thread(target=lambda: received.append(_read(client, len(data))))
    reader.start()
    client.sendall(data)
    reader.join(20)
    assert received == [data]


def _read(client, count):
    heard = b""
    while len(heard) < count and (piece := client.recv(65536)):
        heard += piece
    return heard


def test_a_cut_resets_what_stands_and_lets_a_new_connection_through(proxy, connect):
    client = connect()
    say(client)
    assert proxy.cut() == 1
    assert is_closed(client)
    assert say(connect()) == b"hello"


def test_shut_refuses_until_it_is_opened(proxy, connect):
    client = connect()
    say(client)
    proxy.shut()
    assert is_closed(client)
    assert is_closed(connect())
    proxy.open()
    assert say(connect()) == b"hello"


def test_a_deaf_connection_stays_silent_and_open_for_ever_while_a_new_one_works(proxy, connect):
    client = connect()
    say(client)
    proxy.deafen()
    client.sendall(b"is anybody there")
    during = connect()
    during.sendall(b"and here")
    wait_for(lambda: proxy.connections == 2)
    proxy.open()
    assert say(connect()) == b"hello"
    for silent in (client, during):
        silent.settimeout(0.3)
        with pytest.raises(TimeoutError):
            silent.recv(1)


def test_latency_bandwidth_and_stalls_cost_their_time(proxy, connect):
    client = connect()
    say(client)
    for weather, data, least_s in (
        (Weather(latency_s=0.1), b"x", 0.2),
        (Weather(bytes_per_s=50_000), b"x" * 10_000, 0.3),
        (Weather(stall_share=1.0, stall_s=0.15), b"x", 0.3),
    ):
        proxy.slow(weather)
        began = time.monotonic()
        assert say(client, data) == data
        assert time.monotonic() - began >= least_s
    proxy.open()
    assert say(client) == b"hello"


def test_a_client_whose_target_is_away_sees_its_connection_end(free_port):
    port = free_port()
    proxy = Proxy(lambda: ("127.0.0.1", port))
    proxy.start()
    try:
        with socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as client:
            assert is_closed(client)
    finally:
        proxy.stop()


def test_what_was_sent_before_an_orderly_end_arrives():
    received = []

    class Sink(socketserver.BaseRequestHandler):
        def handle(self):
            received.append(_read(self.request, 10**9))

    with Server(("127.0.0.1", 0), Sink) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        proxy = Proxy(lambda: server.server_address)
        proxy.start()
        with socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as client:
            client.sendall(b"x" * 300_000)
        wait_for(lambda: received)
        proxy.stop()
        server.shutdown()
        thread.join()
    assert [len(data) for data in received] == [300_000]
