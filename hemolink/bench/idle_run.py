"""One run of ``hemolink bench idle``."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from broker_config.mosquitto import MosquittoProcess
from hemolink.bench.process_cost import ProcessCost
from hemolink.child import Child
from hemolink.console import Console
from hemolink.errors import ChildDied

_READY_S = 60.0
_SETTLE_S = 3.0  # libraries are loaded, the first state is told
_LOOK_S = 5.0


@dataclass(frozen=True)
class IdleResult:
    """What a run has shown.

    Attributes:
        seconds: How long it was watched.
        cpu_s: CPU time in that time, all threads, user and system.
        wakeups_per_s: Voluntary context switches of all threads, each second.
        begin_mb: Resident memory at the beginning, MB.
        end_mb: And at the end.
    """

    HOUR_S: ClassVar[float] = 3600.0

    seconds: float
    cpu_s: float
    wakeups_per_s: float
    begin_mb: float
    end_mb: float

    @property
    def percent(self) -> float:
        """Share of one core, in percent."""
        return 100 * self.cpu_s / self.seconds

    @property
    def cpu_s_per_hour(self) -> float:
        """CPU time of an hour like this."""
        return self.HOUR_S * self.cpu_s / self.seconds

    def as_json(self) -> dict[str, Any]:
        """Return the figures, rounded."""
        return {
            "seconds": round(self.seconds, 2),
            "cpu_s": round(self.cpu_s, 2),
            "percent_of_a_core": round(self.percent, 4),
            "cpu_s_per_hour": round(self.cpu_s_per_hour, 2),
            "extrapolated": self.seconds < self.HOUR_S,
            "wakeups_per_s": round(self.wakeups_per_s, 2),
            "begin_mb": round(self.begin_mb, 1),
            "end_mb": round(self.end_mb, 1),
        }


class IdleRun:
    """Makes a broker and an agent, watches, and ends them.

    Args:
        seconds: How long to watch.
        directory: An empty folder.
        console: Where progress is told.
    """

    def __init__(self, seconds: float, *, directory: Path, console: Console) -> None:
        self._seconds = seconds
        self._directory = directory
        self._console = console

    def run(self) -> IdleResult:
        """Watch, and return the figures.

        Raises:
            BrokerFailed: If Mosquitto is missing or does not start.
            ChildDied: If the agent ends by itself.
            NotReady: If it does not connect.
        """
        (self._directory / "pictures").mkdir()
        with MosquittoProcess(self._directory / "mosquitto") as broker:
            agent = Child(
                "edge", module="edge_agent", settings=self._settings(broker.port), directory=self._directory
            )
            agent.start()
            try:
                agent.wait_ready(timeout_s=_READY_S, stopping=lambda: False)
                time.sleep(_SETTLE_S)
                return self._watch(agent)
            finally:
                agent.stop(timeout_s=10)

    def _watch(self, agent: Child) -> IdleResult:
        process = agent.process
        if process is None:
            raise ChildDied("the agent was not started")
        cost = ProcessCost(process.pid)
        began, cpu_s, wakeups, begin_mb = time.monotonic(), cost.cpu_s, cost.wakeups, cost.resident_mb
        while (left := began + self._seconds - time.monotonic()) > 0:
            time.sleep(min(_LOOK_S, left))
            agent.check()
            passed = time.monotonic() - began
            self._console.live(
                f"  {passed:,.0f} of {self._seconds:,.0f} s, {cost.cpu_s - cpu_s:.2f} s of CPU time"
            )
        seconds = time.monotonic() - began
        return IdleResult(
            seconds=seconds,
            cpu_s=cost.cpu_s - cpu_s,
            wakeups_per_s=(cost.wakeups - wakeups) / seconds,
            begin_mb=begin_mb,
            end_mb=cost.resident_mb,
        )

    def _settings(self, port: int) -> dict[str, Any]:
        return {
            "site": "bench",
            "device": "idle",
            "directory": str(self._directory / "edge"),
            "broker": {"host": "127.0.0.1", "port": port},
            "camera": {"kind": "folder", "path": str(self._directory / "pictures"), "watch": True},
            "log": {"level": "WARNING"},
        }
