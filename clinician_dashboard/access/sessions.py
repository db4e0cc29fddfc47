"""Sessions of signed-in browsers: a random cookie, of which the record has the hash."""

import hashlib
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import cast

from sqlalchemy import delete, select

from broker_config.messages import now
from clinician_dashboard import audit
from clinician_dashboard.access.errors import NoSuchOne
from clinician_dashboard.access.notebook import Notebook
from clinician_dashboard.access.roles import Actor, Role
from clinician_dashboard.access.store import Store
from clinician_dashboard.access.tables import SessionRow, UserRow

MAX_SESSIONS = 20
"""Of one user; the oldest ends when another begins."""


@dataclass(frozen=True)
class Identity:
    """Who sends a request.

    Attributes:
        actor: For the audit and for what is signed.
        key: Of the session or of the token.
        csrf: What an unsafe request of this session must carry; empty for a token, which needs none.
        must_change: Whether the password must be changed before anything else.
        ends_at: When the session ends, whatever happens.
        idle_s: After how long without its user it ends.
        began_at: When it was signed in.
    """

    actor: Actor
    key: str
    csrf: str = ""
    must_change: bool = False
    ends_at: datetime | None = None
    idle_s: float = 0.0
    began_at: datetime | None = None

    @property
    def is_person(self) -> bool:
        """Whether a signed-in person sends it, and no integration."""
        return self.actor.user_id is not None


def hash_of(secret: str) -> str:
    """Return what the record keeps of a random secret."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


class Sessions:
    """The table of sessions.

    Args:
        store: Where they are kept.
        notebook: Keeps when each was last used.
        idle: A session ends after so long without its user.
        longest: A session ends so long after the sign-in, whatever its user does.
        clock: Returns the present time in UTC.
    """

    def __init__(
        self,
        store: Store,
        *,
        notebook: Notebook,
        idle: timedelta,
        longest: timedelta,
        clock: Callable[[], datetime] = now,
    ) -> None:
        self._store = store
        self._notebook = notebook
        self._idle = idle
        self._longest = longest
        self._clock = clock
        self.endings = 0
        """Rises when sessions were ended here; who holds a line open looks again."""

    def note_endings(self) -> None:
        """Let every open line look whether its session is still there."""
        self.endings += 1

    def open(self, user: UserRow, *, method: str, address: str, agent: str) -> str:
        """Begin a session and return its cookie, which nothing keeps.

        Raises:
            NoSuchOne: If the user was switched off meanwhile.
        """
        token = secrets.token_urlsafe(32)
        at = self._clock()
        with self._store.transaction() as session:
            row = session.get(UserRow, user.id)
            if row is None or not row.active:
                raise NoSuchOne("This user may not sign in any more: ask an admin.")
            session.execute(delete(SessionRow).where(SessionRow.expires_at <= at))
            mine = session.scalars(
                select(SessionRow).where(SessionRow.user_id == row.id).order_by(SessionRow.created_at.desc())
            ).all()
            for old in mine[MAX_SESSIONS - 1 :]:
                session.delete(old)
            session.add(
                SessionRow(
                    token_sha256=hash_of(token),
                    user_id=row.id,
                    csrf=secrets.token_urlsafe(32),
                    method=method,
                    address=address[:64],
                    agent="".join(letter for letter in agent if letter.isprintable())[:200],
                    created_at=at,
                    seen_at=at,
                    expires_at=at + self._longest,
                )
            )
            audit.append(
                session,
                actor=_actor(row),
                action="session.begin",
                subject=f"user:{row.name}",
                at=at,
                method=method,
                address=address[:64],
            )
        return token

    def find(self, token: str) -> Identity | None:
        """Return who a cookie belongs to, none where its session has ended."""
        return self.get(hash_of(token))

    def get(self, key: str) -> Identity | None:
        """Return who the session of a hash belongs to, none where it has ended."""
        with self._store.session() as session:
            found = session.execute(
                select(SessionRow, UserRow)
                .join(UserRow, UserRow.id == SessionRow.user_id)
                .where(SessionRow.token_sha256 == key)
            ).first()
        if found is None:
            return None
        row, user = found
        at = self._clock()
        seen = max(row.seen_at, self._notebook.seen_at(key) or row.seen_at)
        if not user.active or at >= row.expires_at or at - seen >= self._idle:
            return None
        return Identity(
            _actor(user),
            key,
            csrf=row.csrf,
            must_change=user.must_change,
            ends_at=row.expires_at,
            idle_s=self._idle.total_seconds(),
            began_at=row.created_at,
        )

    def of(self, user_id: int) -> Sequence[SessionRow]:
        """Return a user's sessions that have not ended, the latest first."""
        at = self._clock()
        with self._store.session() as session:
            rows = session.scalars(
                select(SessionRow)
                .where(SessionRow.user_id == user_id, SessionRow.expires_at > at)
                .order_by(SessionRow.created_at.desc())
            ).all()
        for row in rows:
            row.seen_at = max(row.seen_at, self._notebook.seen_at(row.token_sha256) or row.seen_at)
        return [row for row in rows if at - row.seen_at < self._idle]

    def end(self, user_id: int, *, by: Actor, keys: Sequence[str] | None = None, keep: str = "") -> int:
        """End sessions of a user and return how many.

        Args:
            user_id: Whose.
            by: Who ends them.
            keys: Which; all of them if none. A key may be the first 16 letters of it.
            keep: One that goes on.
        """
        at = self._clock()
        with self._store.transaction() as session:
            user = session.get(UserRow, user_id)
            rows = session.scalars(select(SessionRow).where(SessionRow.user_id == user_id)).all()
            ended = [
                row
                for row in rows
                if row.token_sha256 != keep
                and (keys is None or any(len(key) >= 16 and row.token_sha256.startswith(key) for key in keys))  # noqa: PLR2004
            ]
            for row in ended:
                session.delete(row)
            if ended and user is not None:
                audit.append(
                    session,
                    actor=by,
                    action="session.end",
                    subject=f"user:{user.name}",
                    at=at,
                    sessions=len(ended),
                )
        if ended:
            self.note_endings()
        return len(ended)


def _actor(user: UserRow) -> Actor:
    return Actor(user.name, cast("Role", user.role), full_name=user.full_name, user_id=user.id, via="page")
