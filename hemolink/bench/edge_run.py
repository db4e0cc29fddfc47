"""One run of ``hemolink bench edge``: pictures, an agent, a broker that comes late, and somebody who answers."""

import contextlib
import dataclasses
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from broker_config.mosquitto import MosquittoProcess
from hemolink.bench.process_cost import ProcessCost
from hemolink.child import Child
from hemolink.console import Console
from hemolink.errors import NotReady, Unanswered

_KINDS = 16  # different pictures; the rest are links to them
_BYTES_PER_PIXEL = 0.78  # of noise as JPEG at quality 85
_WARM_SHARE = 0.05
_LOOK_S = 0.2
_STALL_S = 60.0
SITE, DEVICE = "bench", "edge"


@dataclass(frozen=True)
class EdgeResult:
    """What a run has shown. Memory is resident memory of the agent's process in MB (10^6 bytes)."""

    frames: int
    frame_kb: float
    captured_per_s: float
    frames_per_s: float
    drain_s: float
    resends: int
    cpu_ms_per_frame: float
    start_mb: float
    base_mb: float
    queueing_mb: float
    draining_mb: float

    @property
    def growth_mb(self) -> float:
        """How far it grew after the libraries were loaded."""
        return max(self.queueing_mb, self.draining_mb) - self.base_mb

    def as_json(self) -> dict[str, Any]:
        """Return the figures, rounded."""
        figures = {**dataclasses.asdict(self), "growth_mb": self.growth_mb}
        return {name: round(value, 2) for name, value in figures.items()}


class EdgeRun:
    """Makes everything, runs it and ends it.

    Args:
        frames: How many frames to queue.
        kb: Size of a picture in kB.
        seed: Seed of the pictures.
        directory: An empty folder.
        console: Where progress is told.
    """

    def __init__(self, frames: int, *, kb: int, seed: int, directory: Path, console: Console) -> None:
        self._frames = frames
        self._kb = kb
        self._seed = seed
        self._directory = directory
        self._console = console
        self._broker = MosquittoProcess(directory / "mosquitto")
        self._answering: subprocess.Popen[bytes] | None = None
        self._agent: Child | None = None

    def run(self) -> EdgeResult:
        """Queue, drain, and return the figures.

        Raises:
            BrokerFailed: If Mosquitto is missing or does not start.
            ChildDied: If the agent ends by itself.
            NotReady: If nothing moves for a minute.
        """
        try:
            return self._run()
        finally:
            if self._agent is not None:
                self._agent.stop(timeout_s=10)
            if self._answering is not None:
                self._answering.terminate()
                self._answering.wait(10)
            self._broker.stop()

    def _run(self) -> EdgeResult:
        frame_kb = self._make_pictures(self._directory / "pictures")
        self._broker.start()  # for a port of its own
        self._broker.stop()
        agent = self._agent = Child(
            "edge", module="edge_agent", settings=self._settings(), directory=self._directory
        )
        agent.start()
        cost = ProcessCost(_pid(agent))

        status = self._wait(lambda one: one["captured"] >= 1, "the first frame")
        start_mb = cost.resident_mb
        queue_from, queue_began = status["captured"], time.monotonic()
        warm = max(1, int(self._frames * _WARM_SHARE))
        self._wait(lambda one: one["spooled"] >= warm, "the first frames in the spool")
        base_mb = cost.resident_mb
        queueing_mb = base_mb

        def look(status: dict[str, Any]) -> bool:
            nonlocal queueing_mb
            queueing_mb = max(queueing_mb, cost.resident_mb)
            return bool(status["finished"])

        status = self._wait(look, "queueing, the broker is away", total=self._frames, of="spooled")
        captured_per_s = (status["captured"] - queue_from) / max(time.monotonic() - queue_began, 1e-9)
        if status["spooled"] != self._frames:
            raise NotReady(
                f"{status['spooled']} of {self._frames} frames are in the spool: {status['alarm']}"
            )

        self._answer()
        draining_mb = cost.resident_mb
        cpu_before = cost.cpu_s
        began = time.monotonic()

        def drained(status: dict[str, Any]) -> bool:
            nonlocal draining_mb, began
            draining_mb = max(draining_mb, cost.resident_mb)
            if not status["settled"]:  # not before broker and answering process are there
                began = time.monotonic()
            return not status["spooled"]

        status = self._wait(drained, "draining", total=self._frames, of="settled")
        drain_s = time.monotonic() - began
        return EdgeResult(
            frames=self._frames,
            frame_kb=frame_kb,
            captured_per_s=captured_per_s,
            frames_per_s=status["settled"] / max(drain_s, 1e-9),
            drain_s=drain_s,
            resends=self._resends(agent),
            cpu_ms_per_frame=(cost.cpu_s - cpu_before) * 1000 / max(status["settled"], 1),
            start_mb=start_mb,
            base_mb=base_mb,
            queueing_mb=queueing_mb,
            draining_mb=draining_mb,
        )

    def _settings(self) -> dict[str, Any]:
        return {
            "site": SITE,
            "device": DEVICE,
            "directory": str(self._directory / "edge"),
            "broker": {"host": "127.0.0.1", "port": self._broker.port, "reconnect_max_s": 0.5},
            "camera": {"kind": "folder", "path": str(self._directory / "pictures"), "settle_s": 0},
            # The gate measures as ever; only its verdict is set aside, for the pictures are noise.
            "quality": {"enabled": False},
            "read_labels": False,
            "spool": {"max_bytes": max(2_000_000_000, 2 * self._frames * self._kb * 1000)},
            "log": {"level": "WARNING"},
        }

    def _make_pictures(self, folder: Path) -> float:
        """Fill the folder with JPEGs of about the size asked for; return their mean size in kB."""
        import cv2  # noqa: PLC0415 - loaded on first use
        import numpy as np  # noqa: PLC0415

        folder.mkdir(parents=True)
        rng = np.random.default_rng(self._seed)
        sizes = []
        side = max(64, int((self._kb * 1000 / _BYTES_PER_PIXEL) ** 0.5))
        for kind in range(min(_KINDS, self._frames)):
            picture = rng.integers(0, 256, (side * 3 // 4, side * 4 // 3, 3), dtype=np.uint8)
            path = folder / f"{kind:07}.jpg"
            cv2.imwrite(str(path), picture, [cv2.IMWRITE_JPEG_QUALITY, 85])
            sizes.append(path.stat().st_size)
        for number in range(len(sizes), self._frames):
            os.link(folder / f"{number % len(sizes):07}.jpg", folder / f"{number:07}.jpg")
        return sum(sizes) / len(sizes) / 1000

    def _answer(self) -> None:
        """Start the process that answers, let it subscribe, and only then is the broker of any use to the agent."""
        self._broker.start()
        self._answering = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            [sys.executable, "-m", "hemolink.bench.answering", str(self._broker.port), SITE, DEVICE],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )

    def _wait(
        self, done: Callable[[dict[str, Any]], bool], what: str, *, total: int = 0, of: str = "captured"
    ) -> dict[str, Any]:
        """Ask the agent for its status until ``done`` says that it is as it should be."""
        agent = self._agent
        assert agent is not None  # noqa: S101 - the one that calls has made it
        seen, moved_at = -1, time.monotonic()
        while True:
            agent.check()
            with contextlib.suppress(Unanswered):  # it is starting, or busy
                status = agent.get_json("/status")
                if done(status):
                    return status
                if status[of] != seen:
                    seen, moved_at = status[of], time.monotonic()
                if total:
                    self._console.live(f"  {what}: {status[of]:,} of {total:,}")
            if time.monotonic() - moved_at > _STALL_S:
                raise NotReady(f"{what}: nothing moved for {_STALL_S:.0f} s. {agent.last_words()}")
            time.sleep(_LOOK_S)

    @staticmethod
    def _resends(agent: Child) -> int:
        for line in agent.get("/metrics").decode().splitlines():
            if line.startswith('hemolink_edge_published_total{kind="resend"}'):
                return int(float(line.rsplit(" ", 1)[1]))
        return 0


def _pid(child: Child) -> int:
    assert child.process is not None  # noqa: S101 - it was just started
    return child.process.pid
