"""The web server: what it costs on the line beside the application's own work."""

import http.client
import statistics
import time

from clinician_dashboard.web.server import WebServer

DELAYED_ACKNOWLEDGEMENT_S = 0.04
"""What Linux waits with one at the least."""


async def greets(_scope, _receive, send):
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]}
    )  # written before the body, by itself
    await send({"type": "http.response.body", "body": b"alive"})


def test_an_answers_body_does_not_wait_for_the_acknowledgement_of_its_head():
    server = WebServer(greets, host="127.0.0.1", port=0)
    server.start()
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        took = []
        for _ in range(30):
            began = time.perf_counter()
            connection.request("GET", "/")
            assert connection.getresponse().read() == b"alive"
            took.append(time.perf_counter() - began)
    finally:
        connection.close()
        server.stop()
    assert statistics.median(took) < DELAYED_ACKNOWLEDGEMENT_S / 2
