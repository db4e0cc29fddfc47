"""Tokens of integrations: a role without a person, shown once, kept as a hash."""

import secrets
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final, cast

from sqlalchemy import select

from broker_config.messages import now
from clinician_dashboard import audit
from clinician_dashboard.access.errors import AccessError, NameTaken, NoSuchOne
from clinician_dashboard.access.notebook import Notebook
from clinician_dashboard.access.roles import Actor, Role
from clinician_dashboard.access.sessions import Identity, hash_of
from clinician_dashboard.access.store import Store
from clinician_dashboard.access.tables import TokenRow
from clinician_dashboard.access.users import check_name, check_role

PREFIX: Final = "hml_"
"""So that a token in a log or a repository is known for what it is."""
LONGEST_DAYS: Final = 3650


class Tokens:
    """The table of tokens.

    Args:
        store: Where they are kept.
        notebook: Keeps when each was last used.
        clock: Returns the present time in UTC.
    """

    def __init__(self, store: Store, *, notebook: Notebook, clock: Callable[[], datetime] = now) -> None:
        self._store = store
        self._notebook = notebook
        self._clock = clock

    def all(self) -> Sequence[TokenRow]:
        """Return every token that was ever made, the latest first."""
        with self._store.session() as session:
            rows = session.scalars(select(TokenRow).order_by(TokenRow.id.desc())).all()
        for row in rows:
            row.used_at = self._notebook.seen_at(f"token:{row.id}") or row.used_at
        return rows

    def create(self, name: str, *, role: Role, by: Actor, days: int | None) -> str:
        """Make a token and return it; it is never shown again.

        Args:
            name: What it is for.
            role: What it may do.
            by: Who makes it.
            days: It ends after so many days; none: it does not end by itself.

        Raises:
            NameTaken: If there was a token of that name.
            AccessError: If name, role or days cannot be.
        """
        label = check_name(name)
        check_role(role)
        if days is not None and not 1 <= days <= LONGEST_DAYS:
            raise AccessError(f"A token ends after 1 to {LONGEST_DAYS} days.")
        token = PREFIX + secrets.token_urlsafe(32)
        at = self._clock()
        with self._store.transaction() as session:
            if session.scalar(select(TokenRow.id).where(TokenRow.name == label)) is not None:
                raise NameTaken(
                    f"There was a token '{label}' already: the audit names tokens, so each has its own name."
                )
            session.add(
                TokenRow(
                    name=label,
                    role=role,
                    token_sha256=hash_of(token),
                    created_by=by.name,
                    created_at=at,
                    expires_at=at + timedelta(days=days) if days is not None else None,
                )
            )
            audit.append(
                session,
                actor=by,
                action="token.create",
                subject=f"token:{label}",
                at=at,
                role=role,
                days=days,
            )
        return token

    def revoke(self, token_id: int, *, by: Actor) -> None:
        """End a token now.

        Raises:
            NoSuchOne: If there is none of that id, or it was revoked before.
        """
        at = self._clock()
        with self._store.transaction() as session:
            row = session.get(TokenRow, token_id)
            if row is None or row.revoked_at is not None:
                raise NoSuchOne("There is no such token that is still good.")
            row.revoked_at = at
            audit.append(session, actor=by, action="token.revoke", subject=f"token:{row.name}", at=at)

    def find(self, token: str) -> Identity | None:
        """Return what a token stands for, none where it is unknown, revoked or over."""
        if not token.startswith(PREFIX):
            return None
        with self._store.session() as session:
            row = session.scalar(select(TokenRow).where(TokenRow.token_sha256 == hash_of(token)))
        return self._identity(row)

    def get(self, token_id: int) -> Identity | None:
        """Return what the token of an id stands for, likewise."""
        with self._store.session() as session:
            return self._identity(session.get(TokenRow, token_id))

    def _identity(self, row: TokenRow | None) -> Identity | None:
        if row is None or not is_good(row, self._clock()):
            return None
        return Identity(
            Actor(row.name, cast("Role", row.role), via="api"), f"token:{row.id}", ends_at=row.expires_at
        )


def is_good(row: TokenRow, at: datetime) -> bool:
    """Return whether a token may be used at a moment."""
    return row.revoked_at is None and (row.expires_at is None or at < row.expires_at)
