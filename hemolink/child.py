"""One daemon that the demo, or a bench, runs as a process of its own."""

import http.client
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from hemolink.errors import ChildDied, NotReady, Unanswered

LOG_LINES = 12
_POLL_S = 0.1
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback never goes through a proxy


class Child:
    """A daemon with its settings file, its log file and its port file.

    Args:
        role: The daemon's name, as in its port file (``edge``, ``worker``, ``dashboard``).
        module: The package to run with ``python -m``.
        settings: What to write into its settings file.
        directory: The demo's folder; the daemon's own folder is ``settings["directory"]``.
        name: What to call it and its files, where several of one role run; the role unless given.

    Attributes:
        token: What `get` shows at the door, where the daemon has one; empty where it asks for none.
    """

    def __init__(
        self,
        role: str,
        *,
        module: str,
        settings: Mapping[str, Any],
        directory: Path,
        name: str | None = None,
    ) -> None:
        self.role = role
        self.name = name or role
        self._module = module
        self._settings = dict(settings)
        self._settings_path = directory / "settings" / f"{self.name}.yaml"
        self._port_path = Path(self._settings["directory"]) / f"{role}.port.json"
        self.log_path = directory / "logs" / f"{self.name}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.token = ""

    @property
    def process(self) -> subprocess.Popen[bytes] | None:
        """The process last started, if any."""
        return self._process

    def start(self) -> None:
        """Write the settings file and start the process; its output is added to the log file."""
        for path in (self._settings_path, self.log_path, self._port_path):
            path.parent.mkdir(parents=True, exist_ok=True)
        self._port_path.unlink(missing_ok=True)  # a port of an earlier run would be believed
        self._settings_path.write_text(yaml.safe_dump(self._settings, sort_keys=False), encoding="utf-8")
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                self._command(self._module, "--settings", str(self._settings_path)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment(),
                start_new_session=True,  # Ctrl-C reaches the demo alone, which stops the others in order
            )

    def _command(self, *module: str) -> list[str]:
        """Return the command line that runs a module with its arguments."""
        return [sys.executable, "-m", "hemolink.leash", str(os.getpid()), *module]

    def _environment(self) -> dict[str, str]:
        """Return the process's environment; settings in it would override the demo's own, which is the same everywhere."""
        return {name: value for name, value in os.environ.items() if not name.startswith("HEMOLINK_")}

    def check(self) -> None:
        """Raise if the process has ended by itself.

        Raises:
            ChildDied: With the last lines of its log.
        """
        if self._process is not None and (code := self._process.poll()) is not None:
            raise ChildDied(f"the {self.role} ended by itself with exit code {code}. {self.last_words()}")

    def last_words(self) -> str:
        """Return the last lines of the log, introduced by its path."""
        try:
            lines = self.log_path.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES:]
        except OSError:
            lines = []
        said = "\n".join(f"    {line}" for line in lines) or "    (nothing)"
        return f"The last it said ({self.log_path}):\n{said}"

    def wait_ready(self, *, timeout_s: float, stopping: Callable[[], bool]) -> None:
        """Wait until the daemon's /readyz answers 200, or until ``stopping`` says that nobody waits any more.

        Raises:
            ChildDied: If the process ends.
            NotReady: If it is not ready in time; with the reason that it gave.
        """
        deadline = time.monotonic() + timeout_s
        reason = "it has not said on which port it listens"
        while not stopping():
            self.check()
            try:
                self.get("/readyz", timeout_s=5)
            except Unanswered as error:
                reason = str(error)
            else:
                return
            if time.monotonic() > deadline:
                raise NotReady(
                    f"the {self.role} was not ready within {timeout_s:.0f} s: {reason}. {self.last_words()}"
                )
            time.sleep(_POLL_S)

    def ports(self) -> dict[str, int]:
        """Return the ports that the daemon announced, empty if it has not yet."""
        try:
            announced = json.loads(self._port_path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return {str(name): int(port) for name, port in announced.items() if isinstance(port, int)}

    def get(self, path: str, *, timeout_s: float = 5.0) -> bytes:
        """Fetch one path of the daemon's web or monitor server.

        Raises:
            Unanswered: If it does not answer with 200; with its sentence, if it gave one.
        """
        ports = self.ports()
        port = ports.get("monitor", ports.get("web"))
        if port is None:
            raise Unanswered("it has not said on which port it listens")
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)
        try:
            with _DIRECT.open(request, timeout=timeout_s) as answer:
                body: bytes = answer.read()
                return body
        except urllib.error.HTTPError as error:
            with error:
                said = error.read(2000).decode("utf-8", "replace").strip()
            raise Unanswered(said or f"{path} answered {error.code}") from None
        except (
            OSError,
            http.client.HTTPException,
        ) as error:  # the latter when it dies in the middle of its answer
            raise Unanswered(f"{path} does not answer ({error})") from None

    def get_json(self, path: str) -> dict[str, Any]:
        """Fetch one path that answers with a JSON object.

        Raises:
            Unanswered: If it does not, or answers with something else.
        """
        try:
            content = json.loads(self.get(path))
        except ValueError as error:
            raise Unanswered(f"{path} of the {self.role} is not JSON ({error})") from None
        if not isinstance(content, dict):
            raise Unanswered(f"{path} of the {self.role} is not a JSON object")
        return content

    def stop(self, *, timeout_s: float) -> bool:
        """Ask the process to drain and end; after ``timeout_s`` it is killed.

        Returns:
            Whether it ended by itself.
        """
        if self._process is None or self._process.poll() is not None:
            return True
        self._process.terminate()
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            return False
        return True
