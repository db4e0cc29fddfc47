"""What a page is not kept waiting for: when a session or token was last used, and who looked at which case.

One thread writes it, a moment later and many at once. A process that is killed loses the last moment of it; a database
that refuses gets it again, up to a bound.
"""

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import update
from sqlalchemy.exc import SQLAlchemyError

from broker_config.messages import now
from clinician_dashboard import audit
from clinician_dashboard.access.roles import Actor
from clinician_dashboard.access.store import Store
from clinician_dashboard.access.tables import SessionRow, TokenRow
from clinician_dashboard.errors import RecordError

logger = logging.getLogger(__name__)

EVERY_S: Final = 0.5
SEEN_EVERY_S: Final = 30.0
MAX_KNOWN: Final = 100_000
MAX_WAITING: Final = 10_000
_STOPPED_WITHIN_S: Final = 5.0


@dataclass(frozen=True)
class _Look:
    actor: Actor
    subject: str
    what: str
    at: datetime


class Notebook:
    """Gathers and writes.

    Args:
        store: Where to write.
        clock: Returns the present time in UTC.
    """

    def __init__(self, store: Store, *, clock: Callable[[], datetime] = now) -> None:
        self._store = store
        self._clock = clock
        self._lock = threading.Lock()
        self._seen: dict[str, datetime] = {}
        self._written: dict[str, datetime] = {}
        self._known: OrderedDict[tuple[str, str, str], None] = OrderedDict()
        self._looks: list[_Look] = []
        self._lost = 0
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Write from now on."""
        self._thread = threading.Thread(target=self._run, name="notebook", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Write what is left, and end."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(_STOPPED_WITHIN_S)

    def seen(self, key: str) -> None:
        """Note that a session, by its hash, or a token, as ``token:`` and its id, was used now."""
        with self._lock:
            self._seen[key] = self._clock()
            if len(self._seen) > MAX_KNOWN:
                self._seen.pop(next(iter(self._seen)))

    def seen_at(self, key: str) -> datetime | None:
        """Return when it was last used, as far as this process knows."""
        with self._lock:
            return self._seen.get(key)

    def looked(self, actor: Actor, key: str, *, subject: str, what: str) -> None:
        """Note that somebody saw something; once a session, subject and kind."""
        with self._lock:
            known = (key, subject, what)
            if known in self._known:
                self._known.move_to_end(known)
                return
            self._known[known] = None
            if len(self._known) > MAX_KNOWN:
                self._known.popitem(last=False)
            if len(self._looks) >= MAX_WAITING:
                self._lost += 1
                return
            self._looks.append(_Look(actor, subject, what, self._clock()))

    def write(self) -> None:
        """Write what was gathered.

        Raises:
            SQLAlchemyError: If the database refuses; it is kept for the next time.
            RecordInUse: If another has the writer's lock; likewise.
        """
        with self._lock:
            looks, lost = self._looks[:], self._lost
            due = {
                key: at
                for key, at in self._seen.items()
                if self._stopping.is_set()
                or key not in self._written
                or (at - self._written[key]).total_seconds() >= SEEN_EVERY_S
            }
            due = {key: at for key, at in due.items() if self._written.get(key) != at}
        if not looks and not due:
            return
        with self._store.transaction() as session:
            for look in looks:
                audit.append(session, actor=look.actor, action=look.what, subject=look.subject, at=look.at)
            if lost:
                audit.append(
                    session,
                    actor=Actor("system", "system", via="daemon"),
                    action="audit.gap",
                    subject="audit",
                    at=self._clock(),
                    looks_not_written=lost,
                )
            for key, at in due.items():
                kind, _, number = key.partition(":")
                if kind == "token":
                    session.execute(update(TokenRow).where(TokenRow.id == int(number)).values(used_at=at))
                else:
                    session.execute(
                        update(SessionRow).where(SessionRow.token_sha256 == key).values(seen_at=at)
                    )
        with self._lock:
            del self._looks[: len(looks)]
            self._lost -= lost
            self._written |= due
            if len(self._written) > MAX_KNOWN:
                self._written = {key: at for key, at in self._written.items() if key in self._seen}

    def _run(self) -> None:
        while not self._stopping.wait(EVERY_S):
            self._try()
        self._try()

    def _try(self) -> None:
        try:
            self.write()
        except (SQLAlchemyError, RecordError) as error:  # another may have the writer's lock for a while
            logger.warning("who looked at what is written later: %s", error)
