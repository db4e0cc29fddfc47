"""The small web server of a daemon: is it alive, is it ready, how much has it done.

``/healthz`` answers 200 while the daemon lives, 503 with one sentence if it is stuck; ``/readyz`` 200 or 503 with one sentence; ``/metrics`` in the
Prometheus text format; ``/status`` as JSON. It listens on the loopback by default and never shows an image or a name.
"""

import contextlib
import json
import logging
import socket
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from broker_config.errors import SettingsError

logger = logging.getLogger(__name__)

_TEXT = "text/plain; charset=utf-8"


_POLL_S = 5.0
"""How often an idle monitor wakes; `Monitor.stop` does not wait for it."""


def _always_ready() -> tuple[bool, str]:
    return True, "ready"


def _always_alive() -> tuple[bool, str]:
    return True, "alive"


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002 - the base class's signature
        """Log what the base class would print as a traceback on standard error."""
        logger.debug("a request to the monitor failed: %r", sys.exc_info()[1])


class Monitor:
    """Serves a daemon's health, metrics and status.

    Args:
        host: Address to listen on.
        port: Port, or 0 for any free one.
        ready: Returns whether the daemon can do its work, and one sentence that says why not. Called from the
            server's threads, so it must be quick and thread-safe.
        alive: Returns whether the daemon can ever do its work again without a restart, and one sentence: a thread of
            it that is stuck or gone makes ``/healthz`` answer 503, so that whoever watches it restarts it.
        registry: Where the daemon's metrics are registered; its own, never the process-wide one.
        status: Returns what ``/status`` serves as JSON.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        ready: Callable[[], tuple[bool, str]] = _always_ready,
        alive: Callable[[], tuple[bool, str]] = _always_alive,
        registry: CollectorRegistry | None = None,
        status: Callable[[], dict[str, Any]] | None = None,
    ) -> None:
        self._host = host
        self._port = port
        self._ready = ready
        self._alive = alive
        self._registry = registry if registry is not None else CollectorRegistry()
        self._status = status
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        """The port it listens on; the one that was asked for until `start`."""
        return int(self._server.server_address[1]) if self._server else self._port

    def start(self) -> None:
        """Listen, and answer from a thread of its own.

        Raises:
            SettingsError: If the address cannot be listened on.
        """
        monitor = self

        class Handler(BaseHTTPRequestHandler):
            timeout = 10
            server_version = "hemolink"
            sys_version = ""

            def do_GET(self) -> None:
                answer = monitor.answer(self.path.partition("?")[0])
                with contextlib.suppress(ConnectionError):  # who asked may have gone
                    self._send(*answer)

            def _send(self, code: int, content_type: str, body: bytes) -> None:
                self.send_response(code)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Cache-Control", "no-store")
                self.send_header("X-Content-Type-Options", "nosniff")
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            do_HEAD = do_GET  # noqa: N815 - the name the base class looks for

            def log_message(self, template: str, *values: object) -> None:
                logger.debug(template, *values)

        try:
            self._server = _Server((self._host, self._port), Handler)
        except (OSError, OverflowError) as error:
            raise SettingsError(
                f"the monitor cannot listen on {self._host}:{self._port} ({error}): free the port, or set "
                "monitor.port to 0 for any free one"
            ) from None
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": _POLL_S}, name="monitor", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Stop listening. Harmless when not started."""
        if self._server is not None and self._thread is not None:
            ending = threading.Thread(target=self._server.shutdown)
            ending.start()
            while ending.is_alive():  # a knock on its own door wakes it, so that it need not poll for its end
                with contextlib.suppress(OSError):
                    socket.create_connection((self._host, self.port), 0.5).close()
                ending.join(0.05)
            self._server.server_close()
            self._thread.join(5)
            self._server = self._thread = None

    def answer(self, path: str) -> tuple[int, str, bytes]:
        """Return status code, content type and body for one path."""
        try:
            match path:
                case "/healthz":
                    alive, sentence = self._alive()
                    return (200 if alive else 503), _TEXT, f"{sentence}\n".encode()
                case "/readyz":
                    ready, sentence = self._ready()
                    return (200 if ready else 503), _TEXT, f"{sentence}\n".encode()
                case "/metrics":
                    return 200, CONTENT_TYPE_LATEST, generate_latest(self._registry)
                case "/status" if self._status is not None:
                    return 200, "application/json", json.dumps(self._status(), default=str).encode()
        except Exception:
            logger.exception("the monitor could not answer %s", path)
            return 500, _TEXT, b"the daemon could not say; see its log\n"
        return 404, _TEXT, b"try /healthz, /readyz, /metrics or /status\n"
