"""The real daemon as a process of its own, to be killed and started again."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.clinician_dashboard.desk.people import token_beside
from tests.clinician_dashboard.desk.waiting import eventually

OPEN = ("/healthz", "/readyz", "/metrics")


@dataclass
class DeskProcess:
    """The real daemon as a process of its own, to be killed and started again."""

    settings: Path
    directory: Path
    program: tuple[str, ...] = ("-m", "clinician_dashboard")
    environment: dict[str, str] = field(default_factory=dict)
    process: "subprocess.Popen[bytes] | None" = None
    tokens: dict[str, str] = field(default_factory=dict)

    def start(self, *, ready: bool = True, **environment: str) -> None:
        ports = self.directory / "dashboard.port.json"
        ports.unlink(missing_ok=True)
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, *self.program, "--settings", str(self.settings)],
                env={**os.environ, **self.environment, **environment},
                stderr=log,
            )
        eventually(
            lambda: ports.exists() or not self.alive, within_s=60, what="the daemon announces its port"
        )
        if ready and self.alive:
            eventually(self._is_ready, within_s=60, what="the daemon is ready")

    @property
    def log(self) -> Path:
        return self.settings.with_suffix(".log")

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{json.loads((self.directory / 'dashboard.port.json').read_text())['web']}"

    def get(self, path: str) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.token()}"} if path not in OPEN else {}
        # Without the certificates, which take longer to read than the page to come.
        return httpx.get(self.url + path, timeout=20, verify=False, headers=headers)  # noqa: S501 - loopback, plain HTTP

    def token(self, role: str = "lab_lead") -> str:
        """A token for this record, made beside the daemon at its first use."""
        if role not in self.tokens:
            self.tokens[role] = token_beside(self.settings, role)
        return self.tokens[role]

    def summary(self) -> dict[str, Any]:
        return self.get("/api/v1/summary").raise_for_status().json()

    def _is_ready(self) -> bool:
        try:
            return not self.alive or self.get("/readyz").status_code == 200
        except (httpx.HTTPError, OSError):
            return False

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def terminate(self) -> int:
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(30)
