"""Runs the web application in a thread, on a port that is known once it listens."""

import contextlib
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from clinician_dashboard.errors import DashboardError

STARTED_WITHIN_S = 10.0
STOPPED_WITHIN_S = 5.0


class WebServer:
    """One uvicorn server.

    Args:
        app: The application.
        host: Address to listen on.
        port: Port, or 0 for any free one.
        certificate: Certificate and key, PEM, to speak https with; http if none.
        trusted_proxies: Addresses whose word about a client's address and scheme is taken.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        host: str,
        port: int,
        certificate: tuple[Path, Path] | None = None,
        trusted_proxies: Sequence[str] = ("127.0.0.1", "::1"),
    ) -> None:
        self._app = app
        self._certificate = certificate
        self._trusted_proxies = list(trusted_proxies)
        self._host = host
        self._wanted_port = port
        self._socket: socket.socket | None = None
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self.port = port
        self.exposed = False
        """Whether other machines can reach it; known once it listens."""

    def start(self) -> None:
        """Listen and serve.

        Raises:
            DashboardError: If the address cannot be had.
        """
        self._check_certificate()
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        # Named as TCP, or asyncio would not turn off Nagle's algorithm on what it accepts (it asks for the socket's protocol): head
        # and body are written apart, and the body would wait for the client's delayed acknowledgement of the head, 40 ms.
        self._socket = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind((self._host, self._wanted_port))
        except OSError as error:
            self._socket.close()
            raise DashboardError(
                f"the pages cannot listen on {self._host} port {self._wanted_port} ({error.strerror or error}): choose another "
                "'port' (0 for any free one) or 'host', or end what holds it"
            ) from None
        address, self.port = self._socket.getsockname()[:2]
        self.exposed = not ipaddress.ip_address(address).is_loopback
        self._server = uvicorn.Server(
            uvicorn.Config(
                self._app,
                log_config=None,
                access_log=False,
                log_level="warning",
                server_header=False,
                date_header=True,
                lifespan="off",
                ws="none",
                timeout_graceful_shutdown=2,
                forwarded_allow_ips=self._trusted_proxies,
                ssl_certfile=self._certificate[0] if self._certificate else None,
                ssl_keyfile=self._certificate[1] if self._certificate else None,
            )
        )
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, name="web", daemon=True
        )
        self._thread.start()
        deadline = time.monotonic() + STARTED_WITHIN_S
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                raise DashboardError("the web server did not start: its log says why")
            time.sleep(0.01)

    def _check_certificate(self) -> None:
        if self._certificate is None:
            return
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(*self._certificate, password=lambda: "")
        except (OSError, ValueError) as error:  # an SSLError is an OSError
            named = " or ".join(map(str, self._certificate))
            raise DashboardError(
                f"{named} cannot be used ({error.strerror or error if isinstance(error, OSError) else error}): name a "
                "certificate and its key, both PEM, in 'tls'"
            ) from None

    def stop(self) -> None:
        """Finish running requests and stop listening."""
        if self._server is not None:
            self._server.should_exit = True
        if self._thread is not None:
            self._thread.join(STOPPED_WITHIN_S)
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.close()
