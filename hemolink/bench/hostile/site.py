"""The site under attack: Mosquitto without access rules, and worker, record and edge as processes of their own."""

import os
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from broker_config.mosquitto import MosquittoProcess
from hemolink.bench.hostile.shot import DEVICE, GOOD_CASE, PAYLOAD_MARK, ROOT, SITE
from hemolink.child import Child
from hemolink.entry import make_token
from hemolink.errors import ChildDied, Unanswered

READY_S = 60.0
STOP_S = 15.0
MAX_DEAD_LETTERS = 300
MAX_DEAD_LETTER_BYTES = 16_000_000
PENDING = 400
TWIN_PICTURES = 5
LOG_BYTES = 2_000_000
LOG_BYTES_A_MESSAGE = 30
_CASE = re.compile(rb"\bcase=[A-Za-z0-9._-]{1,40}(?= |\n)")
_CONTROL = re.compile(rb"[\x00-\x08\x0b-\x1f\x7f]|\xc2[\x80-\x9f]|\xe2\x80[\xa8\xa9\xae]")
"""Control characters but for tab and line feed; C1; line and paragraph separator and the right-to-left override."""


def resident_mb(pid: int) -> float:
    """Return a process's resident memory in MB, 0 where the system does not tell (Linux does)."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def folder_mb(directory: Path) -> float:
    """Return the size of everything in a folder in MB."""
    total = 0
    for parent, _, names in os.walk(directory):
        for name in names:
            try:
                total += (Path(parent) / name).stat().st_size
            except OSError:
                continue  # gone since
    return total / 1e6


class Watched:
    """A daemon, and what is seen of it from outside.

    Args:
        child: The process.
        directory: Its own folder.
    """

    def __init__(self, child: Child, directory: Path) -> None:
        self.child = child
        self.directory = directory
        self._read_to = 0
        self.rss_mb: list[float] = []

    @property
    def pid(self) -> int:
        """The process's id."""
        process = self.child.process
        return process.pid if process is not None else 0

    @property
    def log_bytes(self) -> int:
        """Size of its log."""
        return self.child.log_path.stat().st_size

    def dead(self) -> str:
        """Return why it is no longer there, or nothing."""
        try:
            self.child.check()
        except ChildDied as error:
            return str(error)
        return ""

    def new_log(self) -> bytes:
        """Return what it has logged since the last call, at most 32 MB."""
        with self.child.log_path.open("rb") as file:
            file.seek(self._read_to)
            content = file.read(32_000_000)
            self._read_to = file.tell()
        return content


def faults_in_log(content: bytes) -> list[str]:
    """Return what a log may not hold: raw control characters, text out of payloads, tracebacks."""
    found = []
    if (match := _CONTROL.search(content)) is not None:
        line = content[max(0, match.start() - 60) : match.end() + 60]
        found.append(f"a raw control character: {line!r}")
    # A case code is opaque, of a checked form, and stands in every line about a frame: also one that a stranger chose.
    if (place := _CASE.sub(b"", content).find(PAYLOAD_MARK.encode())) >= 0:
        found.append(f"text out of a payload: {content[max(0, place - 200) : place + 60]!r}")
    if (place := content.find(b"Traceback (most recent call last)")) >= 0:
        found.append(f"a traceback: {content[max(0, place - 300) : place + 1500].decode('utf-8', 'replace')}")
    return found


class Site:
    """Broker and daemons, started and stopped in order.

    Args:
        directory: An empty folder for all their files.
        model: A model package, or none for a stand-in that costs nothing.
    """

    def __init__(self, directory: Path, *, model: str | None = None) -> None:
        self.directory = directory
        self._model = model
        self.broker = MosquittoProcess(directory / "mosquitto")
        self.pictures = directory / "pictures"
        self.daemons: dict[str, Watched] = {}
        self._twins: list[Child] = []
        self.token = ""
        """Lets a reader into the record's pages."""

    def start_broker(self) -> None:
        """Start the broker alone."""
        self.pictures.mkdir(parents=True)
        self.broker.start()

    def start_daemons(self, stopping: Callable[[], bool]) -> None:
        """Start record, worker and edge, and wait until each is ready."""
        for role in ("record", "worker", "edge"):
            self.daemons[role] = Watched(self._child(role), self.directory / role)
            self.daemons[role].child.start()
        for watched in self.daemons.values():
            watched.child.wait_ready(timeout_s=READY_S, stopping=stopping)
        self.token = make_token(self.directory / "record", "fuzz")

    def start_twin(self, role: str) -> Child:
        """Start a second process that calls itself like the first one of a role, with a folder of its own.

        A second edge has some of the first one's pictures, in a case of its own.
        """
        twin = self._child(role, folder=f"twin-{role}")
        pictures = self.directory / f"twin-{role}" / "pictures"
        pictures.mkdir(parents=True)
        for picture in sorted(self.pictures.glob("*.jpeg"))[:TWIN_PICTURES]:
            shutil.copy(picture, pictures)
        self._twins.append(twin)
        twin.start()
        return twin

    def stop(self) -> None:
        """Stop all, the source first."""
        for twin in self._twins:
            twin.stop(timeout_s=STOP_S)
        for role in ("edge", "worker", "record"):
            if role in self.daemons:
                self.daemons[role].child.stop(timeout_s=STOP_S)
        self.broker.stop()

    def metrics(self, role: str) -> str:
        """Return a daemon's metrics; nothing if it does not answer."""
        try:
            return self.daemons[role].child.get("/metrics", timeout_s=20).decode()
        except Unanswered:
            return ""

    def edge_status(self) -> dict[str, Any]:
        """Return what the edge says of its frames."""
        return self.daemons["edge"].child.get_json("/status")

    @property
    def web_port(self) -> int:
        """The port of the record's pages."""
        return self.daemons["record"].child.ports().get("web", 0)

    def _child(self, role: str, *, folder: str = "") -> Child:
        directory = self.directory / (folder or role)
        module, port_role, settings = self._settings(role, directory, twin=bool(folder))
        return Child(
            port_role, module=module, settings=settings, directory=self.directory, name=folder or role
        )

    def _settings(self, role: str, directory: Path, *, twin: bool) -> tuple[str, str, Mapping[str, Any]]:
        broker = {
            "host": "127.0.0.1",
            "port": self.broker.port,
            "protocol": "5",
            "root": ROOT,
            "reconnect_max_s": 2,
        }
        common = {"broker": broker, "directory": str(directory)}
        match role:
            case "worker":
                bounds = {"max_count": MAX_DEAD_LETTERS, "max_bytes": MAX_DEAD_LETTER_BYTES}
                settings = {"worker": "worker-1", "pool": "fuzz", "dead_letters": bounds, "drain_s": 5}
                if self._model is None:
                    return "hemolink.bench.faults.stand_in", "worker", common | settings
                return "cloud_worker", "worker", common | settings | {"model": self._model}
            case "record":
                limits = {"pending_frames": PENDING, "pending_diagnoses": PENDING}
                return "clinician_dashboard", "dashboard", common | {"port": 0, "limits": limits}
        camera = {
            "kind": "folder",
            "path": str(directory / "pictures" if twin else self.pictures),
            "watch": True,
            "case": "TWIN" if twin else GOOD_CASE,
            "settle_s": 0,
        }
        settings = {
            "site": SITE,
            "device": DEVICE,
            "camera": camera,
            "quality": {"enabled": False},
            "read_labels": False,
            "delivery": {"resend_after_s": 5, "resend_max_s": 15},
            "drain_s": 2,
        }
        return "edge_agent", "edge", common | settings
