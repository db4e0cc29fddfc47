"""The demo: a whole Hemolink on one machine, for a newcomer to watch and for a test to count.

The embedded broker runs in this process, or Mosquitto as a child of it; dashboard, worker and edge run as processes of
their own, from settings files, exactly as they would on three machines.
"""

import socket
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

from hemolink.child import Child
from hemolink.console import Console
from hemolink.demo_settings import (
    DemoOptions,
    broker_settings,
    dashboard_settings,
    edge_settings,
    worker_settings,
)
from hemolink.entry import make_people, make_token
from hemolink.errors import ChildDied, NotReady, Unanswered
from hemolink.tally import Tally

READY_TIMEOUT_S = 120.0
STALL_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 8.0
_WATCH_INTERVAL_S = 0.25


class Broker(Protocol):
    """A broker that the demo starts before all others and stops after them."""

    port: int

    @property
    def running(self) -> bool:
        """Whether it serves."""

    def start(self) -> None:
        """Return when it listens; raise if it cannot."""

    def stop(self) -> None:
        """Return when it is gone."""


class Demo:
    """Broker, dashboard, worker and edge, started, watched and stopped in order.

    Args:
        options: What the user asked for.
        directory: An empty folder for settings, logs, spool and record.
        console: Where progress is told.
        stopping: Set from outside (Ctrl-C) to end the demo.
        stall_timeout_s: With ``once``: how long nothing may move before the run is given up.
    """

    def __init__(
        self,
        options: DemoOptions,
        *,
        directory: Path,
        console: Console,
        stopping: threading.Event,
        stall_timeout_s: float = STALL_TIMEOUT_S,
    ) -> None:
        self._options = options
        self._directory = directory
        self._console = console
        self._stopping = stopping
        self._stall_timeout_s = stall_timeout_s
        self._cleanup = ExitStack()
        self._children: list[Child] = []
        self._broker: Broker | None = None
        self.address = ""
        self.people: list[str] = []
        """Who may sign in; all with `password`."""
        self.password = ""
        self.tally = Tally()

    def start(self) -> None:
        """Start everything and return when the first frame may come.

        Raises:
            ChildDied: If a process ends while it starts.
            NotReady: If one is not ready in time.
            ContractError: If the broker cannot start.
        """
        broker = self._broker = self._start_broker()
        shared = broker_settings(self._options, port=broker.port)
        dashboard = self._child("dashboard", "clinician_dashboard", dashboard_settings, shared)
        worker = self._child("worker", "cloud_worker", worker_settings, shared)
        edge = self._child("edge", "edge_agent", edge_settings, shared)
        # The first two start side by side; the edge comes last, so that its first frame finds both.
        dashboard.start()
        worker.start()
        self._await(dashboard, "the clinicians' page and the record")
        self._let_in(dashboard)
        self.address = f"http://127.0.0.1:{dashboard.ports().get('web', 0)}/"
        self._await(worker, f"the worker with {self._options.model} (it compiles the model: some seconds)")
        if self._stopping.is_set():
            return
        edge.start()
        self._await(edge, "the microscope" if self._options.images else "the simulated microscope")

    def run(self) -> Tally:
        """Watch until the user stops the demo or, with ``once``, until every frame is answered.

        Returns:
            The last figures.

        Raises:
            ChildDied: If a process ends by itself.
            NotReady: With ``once``, if nothing moves for too long; the message says what is known of the cause.
        """
        if self._stopping.is_set():  # told to stop while it started
            return self.tally
        self._welcome()
        moved_at, told_finished = time.monotonic(), False
        while not self._stopping.wait(_WATCH_INTERVAL_S):
            self._check()
            before, now = self.tally, self._count()
            self._console.live(now.line())
            if (now.frames, now.answered, now.settled) != (before.frames, before.answered, before.settled):
                moved_at = time.monotonic()
            if self._options.once:
                if now.complete:
                    break
                if time.monotonic() - moved_at > self._stall_timeout_s:
                    raise NotReady(self._stalled(now))
            elif now.complete and not told_finished:
                told_finished = True
                self._console.say("Every frame is answered. The page stays open; Ctrl-C stops all.")
        return self._count()

    def stop(self) -> None:
        """Stop all, the source first: edge, worker, dashboard, broker. Safe to call at any time."""
        self._cleanup.close()

    # Starting

    def _start_broker(self) -> Broker:
        broker = make_broker(self._options, self._directory)
        broker.start()
        self._cleanup.callback(self._stop_part, "broker", broker.stop)
        kind = "embedded, MQTT 3.1.1" if self._options.broker == "embedded" else "Mosquitto, MQTT 5"
        self._console.say(f"  ✓ the broker ({kind})")
        return broker

    def _child(
        self, role: str, module: str, settings: Callable[..., dict[str, object]], shared: object
    ) -> Child:
        content = settings(self._options, directory=self._directory, broker=shared)
        child = Child(role, module=module, settings=content, directory=self._directory)
        self._children.append(child)
        # The stack unwinds from the last to the first: edge, worker, dashboard, then the broker.
        self._cleanup.callback(self._stop_part, role, lambda: self._stop_child(child))
        return child

    def _let_in(self, dashboard: Child) -> None:
        """Make a token for the demo's own counting, and users for whoever watches; both live in the record alone."""
        if self._stopping.is_set():
            return
        directory = self._directory / "dashboard"
        dashboard.token = make_token(directory, "demo")
        if not self._options.once:
            self.people, self.password = make_people(directory)

    def _await(self, child: Child, what: str) -> None:
        started = time.monotonic()
        self._console.live(f"  … {what}")
        child.wait_ready(timeout_s=READY_TIMEOUT_S, stopping=self._stopping.is_set)
        if not self._stopping.is_set():
            self._console.say(f"  ✓ {what}, after {time.monotonic() - started:.1f} s")

    def _welcome(self) -> None:
        if self._options.images is None:
            source = "SIMULATED patients: no person, no slide."
        else:
            source = f"Frames from {self._options.images}."
        people = (
            [f"Sign in as {', '.join(self.people)}", f"Password    {self.password}"] if self.people else []
        )
        self._console.box(
            f"Open  {self.address}", *people, "", source, "Decision support, not a medical device."
        )
        self._console.say("The run ends by itself." if self._options.once else "Ctrl-C stops everything.")

    # Watching

    def _check(self) -> None:
        for child in self._children:
            child.check()
        if self._broker is not None and not self._broker.running:
            raise ChildDied("the broker ended by itself; run with --keep DIR to find its log there")

    def _count(self) -> Tally:
        dashboard, _worker, edge = self._children
        try:
            status = edge.get_json("/status")
            self.tally = Tally.of(status, dashboard.get_json("/api/v1/summary"))
        except Unanswered:
            self._check()  # a process that ended says why; one that is only busy is asked again
        return self.tally

    def _stalled(self, now: Tally) -> str:
        cause = now.alarm or "no process reports a fault"
        return (
            f"nothing moved for {self._stall_timeout_s:.0f} s: of {now.frames} frames {now.waiting} wait in the "
            f"spool and {now.lost} are lost ({cause}). "
            f"{self._children[1].last_words()}\n{self._children[2].last_words()}"
        )

    # Stopping

    def _stop_child(self, child: Child) -> None:
        if not child.stop(timeout_s=STOP_TIMEOUT_S):
            self._console.say(f"  the {child.role} did not end within {STOP_TIMEOUT_S:.0f} s and was killed")

    def _stop_part(self, name: str, stop: Callable[[], object]) -> None:
        self._console.live(f"Stopping the {name}")
        stop()


def make_broker(options: DemoOptions, directory: Path) -> Broker:
    """Return the broker of the demo, not started."""
    if options.broker == "mosquitto":
        from broker_config.mosquitto import MosquittoProcess  # noqa: PLC0415 - one of the two is needed

        return MosquittoProcess(directory / "mosquitto")
    from broker_config.embedded import EmbeddedBroker  # noqa: PLC0415

    return EmbeddedBroker()


def port_is_free(port: int) -> bool:
    """Tell whether a server could listen on this loopback port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
