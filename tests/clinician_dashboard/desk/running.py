"""A running dashboard, and clients of its pages."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from broker_config.settings import BrokerSettings
from clinician_dashboard.access.door import COOKIE
from clinician_dashboard.access.roles import Role
from clinician_dashboard.access.web import CSRF_HEADER
from clinician_dashboard.dashboard import Dashboard
from clinician_dashboard.settings import Settings
from tests.clinician_dashboard.desk.people import session_of, token_of
from tests.clinician_dashboard.desk.waiting import eventually


@dataclass
class Desk:
    """A running dashboard and a client of its pages."""

    dashboard: Dashboard
    http: httpx.Client
    stop: Callable[[], None]
    clients: list[httpx.Client]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.dashboard.port}"

    def sign_in(self, role: Role, *, name: str = "") -> httpx.Client:
        """Return a client that is signed in as somebody of a role."""
        cookie = session_of(self.dashboard.access, role, name=name)
        client = self.stranger()
        client.cookies.set(COOKIE, cookie)
        identity = self.dashboard.access.sessions.find(cookie)
        assert identity is not None
        client.headers[CSRF_HEADER] = identity.csrf
        return client

    def stranger(self) -> httpx.Client:
        """Return a client that nobody is signed in with."""
        # Without the certificates, which take longer to read than a page to come.
        self.clients.append(httpx.Client(base_url=self.url, timeout=10, verify=False))  # noqa: S501 - plain HTTP
        return self.clients[-1]

    def integration(self, role: Role) -> httpx.Client:
        """Return a client that sends a token of a role."""
        client = self.stranger()
        client.headers["Authorization"] = f"Bearer {self.token(role)}"
        return client

    def token(self, role: Role) -> str:
        return token_of(self.dashboard.access, role)

    def admit(self, page: Any, role: Role = "lab_lead", *, name: str = "") -> None:
        """Sign a Playwright page's browser in."""
        cookie = session_of(self.dashboard.access, role, name=name)
        page.context.add_cookies([{"name": COOKIE, "value": cookie, "url": self.url}])

    def summary(self) -> dict[str, Any]:
        return self.http.get("/api/v1/summary").raise_for_status().json()


@contextmanager
def run_desk(port: int, directory: Path, *, protocol: str, **changes: Any) -> Iterator[Desk]:
    settings = Settings(
        broker=BrokerSettings(port=port, protocol=protocol), directory=directory, port=0, **changes
    )
    dashboard = Dashboard(settings)
    dashboard.start()
    stopped = threading.Event()
    clients: list[httpx.Client] = []

    def stop() -> None:
        if not stopped.is_set():
            stopped.set()
            for client in clients:
                client.close()
            dashboard.stop()

    try:
        eventually(lambda: dashboard.ready()[0], what="the dashboard is ready")
        running = Desk(dashboard, httpx.Client(verify=False), stop, clients)  # noqa: S501 - plain HTTP
        running.http.close()
        running.http = running.sign_in("lab_lead")
        yield running
    finally:
        stop()
