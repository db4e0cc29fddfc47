"""Tells the edges that their frames are in the record; outside the write path, so that a slow broker delays no commit."""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Protocol

from broker_config.delivery import Publication, publication
from broker_config.errors import PayloadTooLarge, PublishRefused, SessionError
from broker_config.messages import Receipt, now
from broker_config.topics import Topics
from clinician_dashboard.metrics import Metrics

logger = logging.getLogger(__name__)

WINDOW = 16
MAX_WAITING = 100_000
ACKNOWLEDGED_WITHIN_S = 10.0


class Publisher(Protocol):
    """The part of the session that receipts need."""

    def publish_soon(self, publication: Publication) -> Future[Any]:
        """Publish, and return the future acknowledgement."""
        ...

    def publish_until_acknowledged(self, publication: Publication, *, stop: threading.Event) -> Any:
        """Publish, through outages, until acknowledged or stopped."""
        ...


class Receipts:
    """Publishes ``recorded`` receipts, each until the broker acknowledges it.

    A receipt that is lost when the process ends costs one resend: the frame comes again, and is answered again.

    Args:
        topics: The topic names in use.
        name: Who says so.
        publisher: The session; called from this class' own thread.
        metrics: Where it counts.
    """

    def __init__(
        self, *, topics: Topics, name: str, publisher: Callable[[], Publisher], metrics: Metrics
    ) -> None:
        self._topics = topics
        self._name = name
        self._publisher = publisher
        self._metrics = metrics
        self._waiting: dict[str, tuple[str, str]] = {}  # frame id -> (site, device); a frame waits once
        self._changed = threading.Condition()
        self._draining = False
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def waiting(self) -> int:
        """Receipts not yet acknowledged."""
        return len(self._waiting)

    def start(self) -> None:
        """Start the publishing thread."""
        self._thread = threading.Thread(target=self._run, name="receipts", daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float = 3.0) -> None:
        """Publish what waits, as far as the time allows, and end."""
        with self._changed:
            self._draining = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(timeout_s)
            self._stop.set()
            with self._changed:
                self._changed.notify_all()
            self._thread.join(1.0)

    def send(self, recorded: list[tuple[str, str, str]]) -> None:
        """Queue receipts for frames, given as (site, device, frame id). Never blocks."""
        with self._changed:
            for site, device, frame_id in recorded:
                if len(self._waiting) >= MAX_WAITING:
                    self._metrics.receipts.labels("dropped").inc()
                    continue
                self._waiting[frame_id] = (site, device)
            self._changed.notify_all()

    def _run(self) -> None:
        while not self._stop.is_set():
            with self._changed:
                while not self._waiting and not self._draining:
                    self._changed.wait()
                window = list(self._waiting.items())[:WINDOW]
            if not window:
                return
            for frame_id, publication_, future in [
                (frame_id, message, self._soon(message))
                for frame_id, (site, device) in window
                if (message := self._receipt(site, device, frame_id)) is not None
            ]:
                self._settle(frame_id, publication_, future)
            with self._changed:
                for frame_id, _where in window:
                    self._waiting.pop(frame_id, None)

    def _receipt(self, site: str, device: str, frame_id: str) -> Publication:
        receipt = Receipt(frame_id=frame_id, status="recorded", by=self._name, at=now())
        return publication(self._topics.receipt(site, device), receipt)

    def _soon(self, message: Publication) -> Future[Any] | None:
        try:
            return self._publisher().publish_soon(message)
        except SessionError:
            return None

    def _settle(self, frame_id: str, message: Publication, future: Future[Any] | None) -> None:
        try:
            if future is not None:
                try:
                    future.result(ACKNOWLEDGED_WITHIN_S)
                except PayloadTooLarge:
                    raise
                except (SessionError, TimeoutError):
                    future.cancel()
                    future = None
            if future is None:
                self._publisher().publish_until_acknowledged(message, stop=self._stop)
        except (PayloadTooLarge, PublishRefused) as error:
            self._metrics.receipts.labels("refused").inc()
            # The sentence says it all; the traceback of a refused publish says nothing.
            say = logger.error
            say(
                "the broker refuses receipts (%s): the edge will send for ever",
                error,
                extra={"frame_id": frame_id},
            )
        except Exception:
            self._metrics.receipts.labels("failed").inc()
            if not self._stop.is_set():
                logger.exception(
                    "a receipt was not sent; the frame comes again", extra={"frame_id": frame_id}
                )
        else:
            self._metrics.receipts.labels("acknowledged").inc()
