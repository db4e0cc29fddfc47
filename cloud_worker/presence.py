"""What the worker tells the fleet of itself: birth, heartbeat and will, retained."""

import logging
import threading
import time
from collections.abc import Callable
from importlib import metadata

from broker_config.delivery import Publication, publication
from broker_config.fleet_messages import WorkerState
from broker_config.messages import ModelIdentity, Presence, now
from broker_config.topics import Topics

logger = logging.getLogger(__name__)

NO_POOL = "none"
"""What a worker without a pool states as its pool."""


def software() -> str:
    """Return name and version of the installed distribution."""
    try:
        return f"hemolink {metadata.version('hemolink')}"
    except metadata.PackageNotFoundError:
        return "hemolink (not installed)"


class Herald:
    """Makes the worker's states and publishes one every so often.

    Args:
        topics: Topic names.
        worker: This worker's name.
        pool: Its pool, if any.
        birth: This start's number; a late will of an earlier life is known by it.
        counts: Returns how many frames were diagnosed and rejected since the start and how many are queued.
        heartbeat_s: Pause between two states.
        stopped: Returns why every frame is referred; empty if that is not so.
    """

    def __init__(
        self,
        topics: Topics,
        *,
        worker: str,
        pool: str | None,
        birth: int,
        counts: Callable[[], tuple[int, int, int]],
        heartbeat_s: float,
        stopped: Callable[[], str],
    ) -> None:
        self._topic = topics.worker_state(worker)
        self._worker = worker
        self._pool = pool or NO_POOL
        self._birth = birth
        self._counts = counts
        self._heartbeat_s = heartbeat_s
        self._stopped = stopped
        self._software = software()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._rate = 0.0
        self._presence: Presence = "online"
        self.model: ModelIdentity | None = None

    def state(self, presence: Presence | None = None) -> Publication:
        """Return the present state, ready to publish.

        Args:
            presence: What to say; what was last set, unless given.
        """
        diagnosed, rejected, queued = self._counts()
        state = WorkerState(
            worker=self._worker,
            pool=self._pool,
            presence=presence or self._presence,
            birth=self._birth,
            at=now(),
            software=self._software,
            model=self.model,
            diagnosed=diagnosed,
            rejected=rejected,
            queued=queued,
            frames_per_s=round(self._rate, 2),
            stopped=self._stopped(),
        )
        return publication(self._topic, state)

    def start(self, publish: Callable[[Publication], object]) -> None:
        """Publish the state from now on, every heartbeat.

        Args:
            publish: Publishes without waiting.
        """
        self._thread = threading.Thread(target=self._beat, args=(publish,), name="heartbeat", daemon=True)
        self._thread.start()

    def drain(self) -> Publication:
        """Say ``draining`` from now on, and return that state."""
        self._presence = "draining"
        return self.state()

    def stop(self) -> None:
        """Stop the heartbeat."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(5)

    def _beat(self, publish: Callable[[Publication], object]) -> None:
        seen, at = self._counts()[0], time.monotonic()
        while not self._stop.wait(self._heartbeat_s):
            count, moment = self._counts()[0], time.monotonic()
            self._rate = (count - seen) / (moment - at)
            seen, at = count, moment
            publish(self.state())
