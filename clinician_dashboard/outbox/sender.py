"""Sends what is in the outbox, in order, each until the broker has acknowledged it.

A row is deleted after the acknowledgement, so a crash in between sends it twice, and one whose acknowledgement was lost comes
again after later ones: subscribers must take a message twice, as everywhere in this system, and look at its time. Nothing is sent that was not committed, and nothing that was committed is forgotten.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Protocol

from sqlalchemy import delete, func, select
from sqlalchemy.exc import SQLAlchemyError

from broker_config.delivery import DELIVERY, Publication, publication
from broker_config.errors import PayloadTooLarge, PublishRefused, SessionError, TopicError
from broker_config.topics import Topics
from clinician_dashboard.errors import RecordError
from clinician_dashboard.outbox.tables import OutboxRow
from clinician_dashboard.record.database import Record

logger = logging.getLogger(__name__)

WINDOW = 32
ACKNOWLEDGED_WITHIN_S = 10.0
LOOK_EVERY_S = 5.0
PAUSE_S = 1.0
APART_S = 1.0
"""Two messages of one key and of a kind in `RESTING` are at least so far apart; those in between are never sent."""
RESTING = frozenset({"case"})
LOOKED_AT = 500


class Publisher(Protocol):
    """The part of the session that the outbox needs."""

    @property
    def connected(self) -> bool:
        """Whether the broker is there."""
        ...

    def publish_soon(self, publication: Publication) -> Future[Any]:
        """Publish, and return the future acknowledgement."""
        ...


class OutboxSender:
    """One thread that empties the outbox.

    Args:
        record: The open record.
        topics: The topic names in use.
        publisher: Returns the session; called from this class' own thread.
    """

    def __init__(self, record: Record, *, topics: Topics, publisher: Callable[[], Publisher]) -> None:
        self._record = record
        self._topics = topics
        self._publisher = publisher
        self._rung = threading.Event()
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._told = False
        self._sent_at: dict[str, float] = {}

    def start(self) -> None:
        """Start sending."""
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float = 3.0) -> None:
        """End; what has not gone out stays in the record for the next start."""
        self._stopping = True
        self._rung.set()
        if self._thread is not None:
            self._thread.join(timeout_s)

    def ring(self) -> None:
        """Say that there is something to send. Never blocks."""
        self._rung.set()

    def waiting(self) -> int:
        """Return how many messages have not gone out."""
        with self._record.session() as session:
            return session.scalar(select(func.count()).select_from(OutboxRow)) or 0

    def _run(self) -> None:
        pause = 0.0
        while not self._stopping:
            self._rung.wait(pause or LOOK_EVERY_S)
            self._rung.clear()
            if self._stopping:
                return
            pause = 0.0 if self._empty() else PAUSE_S

    def _empty(self) -> bool:
        """Send what there is; return whether all of it went out."""
        try:
            while not self._stopping:
                if not self._publisher().connected:
                    return True  # the next look asks again
                with self._record.session() as session:
                    waiting = session.scalars(select(OutboxRow).order_by(OutboxRow.id).limit(LOOKED_AT)).all()
                rows = [row for row in waiting if not self._rests(row)][:WINDOW]
                if not rows:
                    return not waiting
                sent = self._send(rows)
                if sent:
                    with self._record.transaction() as session:
                        for row in sent:
                            # SQLite gives a number again: a later word of the same key may bear that of the one just sent.
                            session.execute(
                                delete(OutboxRow).where(
                                    OutboxRow.id == row.id, OutboxRow.payload == row.payload
                                )
                            )
                if len(sent) < len(rows):
                    return False
        except (SQLAlchemyError, RecordError) as error:  # another may have the writer's lock for a while
            logger.warning("the outbox could not be read or emptied, trying again: %s", error)
            return False
        return True

    def _rests(self, row: OutboxRow) -> bool:
        """Return whether a message of that key has just gone out."""
        at = time.monotonic()
        if len(self._sent_at) > LOOKED_AT:
            self._sent_at = {key: sent for key, sent in self._sent_at.items() if at - sent < APART_S}
        return row.kind in RESTING and at - self._sent_at.get(row.key, -APART_S) < APART_S

    def _send(self, rows: Sequence[OutboxRow]) -> list[OutboxRow]:
        """Publish ``rows``; return those that are done with."""
        done: list[OutboxRow] = []
        self._sent_at |= {row.key: time.monotonic() for row in rows if row.kind in RESTING}
        futures = [(row, self._soon(row)) for row in rows]
        for row, future in futures:
            if future is None:
                continue
            try:
                future.result(ACKNOWLEDGED_WITHIN_S)
            except (PayloadTooLarge, PublishRefused) as error:
                # It would stand before everything else for ever. A broker whose rules are older than this message says so.
                if not self._told:
                    logger.error("the broker refuses a %s, it is not sent: %s", row.kind, error)  # noqa: TRY400
                self._told = True
            except (SessionError, TimeoutError):
                future.cancel()
                continue
            done.append(row)
        return done

    def _topic(self, row: OutboxRow) -> str:
        if row.kind == "fleet-stops":
            return self._topics.fleet_stops()
        topic: str = getattr(self._topics, row.kind)(row.site, row.device)
        return topic

    def _soon(self, row: OutboxRow) -> Future[Any] | None:
        try:
            delivery = DELIVERY[row.kind]  # type: ignore[index]
            message = delivery.message.model_validate_json(row.payload)
            return self._publisher().publish_soon(publication(self._topic(row), message))
        except (KeyError, ValueError, AttributeError, TopicError):
            logger.exception("a message in the outbox cannot be sent by this release, it is dropped")
            failed: Future[Any] = Future()
            failed.set_result(None)
            return failed
        except SessionError:
            return None
