"""One process of the plant, supervised as ``Restart=always`` would, and the ways to hurt it."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from hemolink.child import Child
from hemolink.errors import Unanswered

RESTART_S = 0.5
_PROBE_EVERY_S = 0.4
_ORDERLY_S = 5.0
_ABORT_S = 3.0
_PROBE_TIMEOUT_S = 1.5


class Part(Protocol):
    """What can be started as one process and says whether it is ready."""

    @property
    def process(self) -> subprocess.Popen[bytes] | None:
        """The process last started, if any."""

    def start(self) -> None:
        """Start the process without waiting for it."""

    def fault(self) -> str:
        """Return why it is not ready, or nothing if it is; may wait a second."""


class Daemon(Child):
    """A daemon of ours on a tether; see `hemolink.child.Child`.

    Args:
        role: As in its port file.
        name: What the plant calls it.
        module: The package to run.
        settings: Its settings.
        directory: Where its settings and log files go.
        environment: Added to its environment.
    """

    def __init__(
        self,
        role: str,
        *,
        name: str,
        module: str,
        settings: Mapping[str, Any],
        directory: Path,
        environment: Mapping[str, str],
    ) -> None:
        super().__init__(role, module=module, settings=settings, directory=directory, name=name)
        self._added = dict(environment)

    def _command(self, *module: str) -> list[str]:
        return [*tethered(sys.executable), "-m", *module]

    def _environment(self) -> dict[str, str]:
        return super()._environment() | {"PYTHONFAULTHANDLER": "1"} | self._added

    def fault(self) -> str:
        """Return why it is not ready, or nothing if it is."""
        try:
            self.get("/readyz", timeout_s=_PROBE_TIMEOUT_S)
        except Unanswered as error:
            return str(error)
        return ""


def tethered(program: str) -> list[str]:
    """Return the beginning of a command line that runs ``program`` on a tether to this process."""
    return [sys.executable, "-m", "hemolink.bench.faults.tether", str(os.getpid()), program]


class Member:
    """A part of the plant: kept alive, unless a fault holds it down.

    `tend` must be called often, and `start` and `tend` from one thread that lives as long as the plant: the kernel ends a
    process when the thread that started it ends. A thread of its own asks the part whether it is ready.

    Args:
        name: What reports call it.
        part: What runs.
        clock: Monotonic seconds.
    """

    def __init__(self, name: str, part: Part) -> None:
        self.name = name
        self.part = part
        self.starts = 0
        self.deaths: list[int] = []
        self.fault = "not started"
        self.ready_since: float | None = None
        self._held = False
        self._frozen = False
        self._died_at: float | None = None
        self._touched_at = 0.0
        self._ending = threading.Event()
        self._watch: threading.Thread | None = None

    @property
    def pid(self) -> int | None:
        """Its process id while it lives."""
        process = self.part.process
        return process.pid if process is not None and process.poll() is None else None

    @property
    def ready(self) -> bool:
        """Whether it has been ready since it was last touched."""
        return self.ready_since is not None

    @property
    def frozen(self) -> bool:
        """Whether SIGSTOP holds it."""
        return self._frozen

    def start(self) -> None:
        """Start the process, and the watch if there is none yet."""
        self._touch("starting")
        self._died_at = None
        self._frozen = False
        self.part.start()
        self.starts += 1
        if self._watch is None:
            self._watch = threading.Thread(target=self._look, name=f"watch-{self.name}", daemon=True)
            self._watch.start()

    def tend(self) -> None:
        """Start it again if it has ended by itself and nothing holds it down."""
        process = self.part.process
        if process is None or (code := process.poll()) is None:
            return
        now = time.monotonic()
        if self._died_at is None:
            self._died_at = now
            _sweep(process)
            self.deaths.append(code)
            self._touch(f"ended with code {code}")
        if not self._held and not self._ending.is_set() and now - self._died_at >= RESTART_S:
            self.start()

    def stop(self, timeout_s: float) -> bool:
        """End it in order, within a time; afterwards it is aborted, so that its log tells where it hung.

        Returns:
            Whether it ended by itself.
        """
        self._ending.set()
        process = self.part.process
        if process is None or process.poll() is not None:
            return True
        self.thaw()
        process.terminate()
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGABRT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_ABORT_S)
            process.kill()
            process.wait()
            _sweep(process)
            return False
        _sweep(process)
        return True

    # Faults

    def kill(self) -> None:
        """End it as a power cut would."""
        self._signal(signal.SIGKILL)
        self._touch("killed")

    def freeze(self) -> None:
        """Stop it where it stands (SIGSTOP)."""
        self._signal(signal.SIGSTOP)
        self._frozen = True
        self._touch("frozen")

    def thaw(self) -> None:
        """Let it go on (SIGCONT)."""
        self._signal(signal.SIGCONT)
        self._frozen = False
        self._touch("thawed")

    def hang_up(self) -> None:
        """Send SIGHUP: Mosquitto then reads its users and rules again."""
        self._signal(signal.SIGHUP)

    def hold(self, *, orderly: bool = False) -> None:
        """End it, and keep it down until `release`; returns when it is gone.

        Args:
            orderly: Ask it first, and kill it only if it takes too long.
        """
        self._held = True
        self.thaw()
        process = self.part.process
        if orderly and process is not None:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_ORDERLY_S)
        self.kill()
        if process is not None:
            process.wait()
            _sweep(process)

    def release(self) -> None:
        """Let it be started again."""
        self._held = False

    def distrust(self) -> None:
        """Forget that it was ready: it must show it anew."""
        self._touch("to be seen")

    # Inside

    def _signal(self, number: signal.Signals) -> None:
        process = self.part.process
        if process is not None and process.poll() is None:
            process.send_signal(number)

    def _touch(self, why: str) -> None:
        self._touched_at = time.monotonic()
        self.ready_since = None
        self.fault = why

    def _look(self) -> None:
        while not self._ending.wait(_PROBE_EVERY_S):
            if self.pid is None or self._frozen:
                continue
            began = time.monotonic()
            fault = self.part.fault()
            if began < self._touched_at or self.pid is None:
                continue  # an answer about another time
            self.fault = fault
            if fault:
                self.ready_since = None
            elif self.ready_since is None:
                self.ready_since = time.monotonic()


def _sweep(process: subprocess.Popen[bytes]) -> None:
    """End whatever a process that has ended left in its group: a child that it had forked is on no tether."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
