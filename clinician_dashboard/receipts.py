"""Tells the edges that their frames are in the record, or never can be; outside the write path, so that a slow broker delays no commit."""

import itertools
import logging
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import Any, NamedTuple, Protocol

from broker_config.delivery import Publication, publication
from broker_config.errors import PayloadTooLarge, PublishRefused, SessionError
from broker_config.messages import Receipt, now
from broker_config.topics import Topics
from clinician_dashboard.metrics import Metrics

logger = logging.getLogger(__name__)

WINDOW = 16
MAX_WAITING = 100_000
MAX_REASON = 2000
ACKNOWLEDGED_WITHIN_S = 10.0


class _Word(NamedTuple):
    """What an edge is to be told of a frame: recorded, or refused and why."""

    site: str
    device: str
    frame_id: str
    refusal: str = ""


class Publisher(Protocol):
    """The part of the session that receipts need."""

    def publish_soon(self, publication: Publication) -> Future[Any]:
        """Publish, and return the future acknowledgement."""
        ...

    def publish_until_acknowledged(self, publication: Publication, *, stop: threading.Event) -> Any:
        """Publish, through outages, until acknowledged or stopped."""
        ...


class Receipts:
    """Publishes ``recorded`` and ``rejected`` receipts, each until the broker acknowledges it.

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
        self._waiting: dict[_Word, None] = {}  # in order; each waits once
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
        """Queue receipts for recorded frames, given as (site, device, frame id). Never blocks."""
        self._queue(_Word(*where) for where in recorded)

    def refuse(self, refused: list[tuple[str, str, str, str]]) -> None:
        """Queue receipts for frames that can never be recorded, as (site, device, frame id, reason). Never blocks."""
        self._queue(_Word(*where) for where in refused)

    def _queue(self, words: Iterable["_Word"]) -> None:
        with self._changed:
            for word in words:
                if len(self._waiting) >= MAX_WAITING:
                    self._metrics.receipts.labels("dropped").inc()
                    continue
                self._waiting[word] = None
            self._changed.notify_all()

    def _run(self) -> None:
        while not self._stop.is_set():
            with self._changed:
                while not self._waiting and not self._draining:
                    self._changed.wait()
                window = list(itertools.islice(self._waiting, WINDOW))
            if not window:
                return
            messages = [self._receipt(word) for word in window]
            futures = [self._soon(message) for message in messages]
            for word, message, future in zip(window, messages, futures, strict=True):
                self._settle(word.frame_id, message, future)
            with self._changed:
                for word in window:
                    self._waiting.pop(word, None)

    def _receipt(self, word: "_Word") -> Publication:
        receipt = Receipt(
            frame_id=word.frame_id,
            status="rejected" if word.refusal else "recorded",
            reason=word.refusal[:MAX_REASON],
            by=self._name,
            at=now(),
        )
        return publication(self._topics.receipt(word.site, word.device), receipt)

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
