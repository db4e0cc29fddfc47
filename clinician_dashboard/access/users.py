"""Users: who may sign in, and as what. Every change is in the audit, and ends the sessions that it concerns."""

import re
import secrets
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final, Protocol

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from broker_config.messages import now
from clinician_dashboard import audit
from clinician_dashboard.access.errors import AccessError, NameTaken, NoSuchOne
from clinician_dashboard.access.passwords import check_choice, hash_password
from clinician_dashboard.access.roles import ROLES, Actor, Role
from clinician_dashboard.access.store import Store
from clinician_dashboard.access.tables import SessionRow, UserRow

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._@+-]{0,78}[a-z0-9]|[a-z0-9]")
RESERVED: Final = frozenset({"system", "nobody", "unknown", "provider"})


class Notice(Protocol):
    """Is told when sessions ended, so that open lines of them end too."""

    def __call__(self) -> None:
        """Take note; quick, from any thread."""


class Users:
    """The table of users.

    Args:
        store: Where they are kept.
        ended: Called when sessions were ended.
        clock: Returns the present time in UTC.
    """

    def __init__(
        self, store: Store, *, ended: Notice = lambda: None, clock: Callable[[], datetime] = now
    ) -> None:
        self._store = store
        self._ended = ended
        self._clock = clock

    def any(self) -> bool:
        """Return whether there is any user."""
        with self._store.session() as session:
            return session.scalar(select(UserRow.id).limit(1)) is not None

    def all(self) -> Sequence[UserRow]:
        """Return every user by name."""
        with self._store.session() as session:
            return session.scalars(select(UserRow).order_by(UserRow.name)).all()

    def get(self, user_id: int) -> UserRow:
        """Return one user.

        Raises:
            NoSuchOne: If there is none.
        """
        with self._store.session() as session:
            return _one(session, user_id)

    def named(self, name: str) -> UserRow | None:
        """Return the user of a login name, none if there is none."""
        with self._store.session() as session:
            return session.scalar(select(UserRow).where(UserRow.name == fold(name)))

    def of_subject(self, subject: str) -> UserRow | None:
        """Return the user whom the identity provider calls so, none if there is none yet."""
        with self._store.session() as session:
            return session.scalar(select(UserRow).where(UserRow.oidc_subject == subject))

    def create(
        self,
        name: str,
        *,
        full_name: str,
        role: Role,
        by: Actor,
        password: str | None = None,
        must_change: bool = True,
        oidc_subject: str | None = None,
    ) -> UserRow:
        """Add a user.

        Args:
            name: The login, taken in lower case.
            full_name: As it is printed under a signature.
            role: What the user may do.
            by: Who adds.
            password: To sign in with; none: only an identity provider lets the user in.
            must_change: Whether the password must be changed at the first sign-in.
            oidc_subject: Who the user is at the identity provider.

        Raises:
            NameTaken: If the name is there already.
            AccessError: If name, role or password cannot be.
        """
        login, printed = check_name(name), check_full_name(full_name)
        check_role(role)
        hashed = None
        if password is not None:
            check_choice(password, login, printed)
            hashed = hash_password(password)
        at = self._clock()
        with self._store.transaction() as session:
            if session.scalar(select(UserRow.id).where(UserRow.name == login)) is not None:
                raise NameTaken(f"There is a user '{login}' already.")
            row = UserRow(
                name=login,
                full_name=printed,
                role=role,
                password_hash=hashed,
                oidc_subject=oidc_subject,
                must_change=password is not None and must_change,
                active=True,
                created_at=at,
                changed_at=at,
            )
            session.add(row)
            session.flush()
            _note(
                session,
                by,
                "user.create",
                row,
                at,
                role=role,
                full_name=printed,
                way="oidc" if oidc_subject else "password",
            )
        return row

    def change(
        self, user_id: int, *, by: Actor, role: Role, full_name: str, active: bool, provider: bool = False
    ) -> UserRow:
        """Change what a user is called and may do; nothing happens where nothing is new.

        Whose role changes, or who is switched off, is signed out everywhere.

        Args:
            user_id: Which user.
            by: Who changes it.
            role: What the user may do from now on.
            full_name: As it is printed under a signature.
            active: Whether the user may sign in.
            provider: The identity provider says so, at a sign-in: then nobody takes their own rights.

        Raises:
            NoSuchOne: If there is no such user.
            AccessError: If it would leave nobody who manages users, or an admin changes their own role.
        """
        printed = check_full_name(full_name)
        check_role(role)
        at = self._clock()
        with self._store.transaction() as session:
            row = _one(session, user_id)
            before = {"role": row.role, "full_name": row.full_name, "active": row.active}
            after = {"role": role, "full_name": printed, "active": active}
            changed = {key: [before[key], after[key]] for key in before if before[key] != after[key]}
            if not changed:
                return row
            if "role" in changed or "active" in changed:
                if by.user_id == user_id and not provider:
                    raise AccessError(
                        "Your own role and access are another admin's to change: ask a second admin."
                    )
                _leave_an_admin(session, row)
            row.role, row.full_name, row.active, row.changed_at = role, printed, active, at
            _note(session, by, "user.change", row, at, **changed)
            if "role" in changed or "active" in changed:
                _end_all(session, user_id)
        self._ended()
        return row

    def set_password(
        self, user_id: int, password: str, *, by: Actor, must_change: bool, keep_sha256: str = ""
    ) -> None:
        """Give a user another password and end their sessions.

        Args:
            user_id: Which user.
            password: The new one.
            by: Who gives it.
            must_change: Whether it must be changed at the next sign-in, as when an admin chose it.
            keep_sha256: A session that goes on: the one in which it was changed.

        Raises:
            NoSuchOne: If there is no such user.
            PasswordRefused: If it may not be chosen.
        """
        known = self.get(user_id)
        check_choice(password, known.name, known.full_name)
        hashed = hash_password(password)
        at = self._clock()
        with self._store.transaction() as session:
            row = _one(session, user_id)
            row.password_hash, row.must_change, row.changed_at = hashed, must_change, at
            _note(session, by, "user.password", row, at, must_change=must_change)
            _end_all(session, user_id, keep_sha256=keep_sha256)
        self._ended()

    def rehash(self, user_id: int, password: str) -> None:
        """Keep a password, which was just right, with today's parameters."""
        hashed = hash_password(password)
        with self._store.transaction() as session:
            _one(session, user_id).password_hash = hashed


def fold(name: str) -> str:
    """Return a login as it is kept."""
    return name.strip().lower()


def check_name(name: str) -> str:
    """Return a login as it is kept.

    Raises:
        AccessError: If it cannot be one.
    """
    login = fold(name)
    if _NAME.fullmatch(login) is None or login in RESERVED:
        raise AccessError(
            "A login has up to 80 letters a to z, digits and . _ - + @, and begins and ends with a letter or a digit."
        )
    return login


def check_full_name(full_name: str) -> str:
    """Return a name as it is printed.

    Raises:
        AccessError: If it is empty, too long or not printable.
    """
    printed = " ".join(full_name.split())
    if not printed or len(printed) > 200 or not printed.isprintable():  # noqa: PLR2004 - the column's length
        raise AccessError("The full name is printed under signatures: 1 to 200 printable characters.")
    return printed


def check_role(role: str) -> Role:
    """Return ``role`` as one.

    Raises:
        AccessError: If there is no such role.
    """
    if role not in ROLES:
        raise AccessError(f"There is no such role: choose one of {', '.join(ROLES)}.")
    return role


def random_password() -> str:
    """Return a password that a person can copy: 90 bits, in groups, without look-alikes."""
    letters = "abcdefghjkmnpqrstuvwxyz23456789"
    return "-".join("".join(secrets.choice(letters) for _ in range(6)) for _ in range(3))


def _one(session: Session, user_id: int) -> UserRow:
    row = session.get(UserRow, user_id)
    if row is None:
        raise NoSuchOne("There is no such user.")
    return row


def _leave_an_admin(session: Session, row: UserRow) -> None:
    if row.role != "admin" or not row.active:
        return
    others = session.scalar(
        select(func.count()).where(UserRow.role == "admin", UserRow.active, UserRow.id != row.id)
    )
    if not others:
        raise AccessError("This is the last admin: make another one first.")


def _end_all(session: Session, user_id: int, *, keep_sha256: str = "") -> None:
    session.execute(
        delete(SessionRow).where(SessionRow.user_id == user_id, SessionRow.token_sha256 != keep_sha256)
    )


def _note(session: Session, by: Actor, action: str, row: UserRow, at: datetime, **details: object) -> None:
    audit.append(session, actor=by, action=action, subject=f"user:{row.name}", at=at, **details)
