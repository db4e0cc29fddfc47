"""Who may come in: users, sessions, tokens and tries, behind one door."""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from broker_config.messages import now
from clinician_dashboard import audit
from clinician_dashboard.access.errors import PasswordRefused, SignInFailed
from clinician_dashboard.access.notebook import Notebook
from clinician_dashboard.access.oidc import Person, Provider
from clinician_dashboard.access.passwords import is_outdated, matches
from clinician_dashboard.access.roles import Actor
from clinician_dashboard.access.sessions import Identity, Sessions
from clinician_dashboard.access.settings import SignInSettings
from clinician_dashboard.access.store import Store
from clinician_dashboard.access.tables import UserRow
from clinician_dashboard.access.throttle import CONFIRMING, FORGOTTEN_AFTER_S, Throttle
from clinician_dashboard.access.tokens import Tokens
from clinician_dashboard.access.users import Users, fold
from clinician_dashboard.audit.tables import AuditRow

WRONG: Final = "Name or password is wrong."
_STRANGER: Final = Actor("nobody", "system", via="page")
_STRANGERS_AN_HOUR: Final = 200
"""Failed sign-ins under names that nobody has are in the audit up to so often an hour; the rest is counted."""


class Access:
    """Users, sessions and tokens of one record.

    Args:
        store: The record.
        settings: How long sessions last.
        clock: Returns the present time in UTC.
    """

    def __init__(
        self, store: Store, settings: SignInSettings, *, clock: Callable[[], datetime] = now
    ) -> None:
        self._store = store
        self._clock = clock
        self.settings = settings
        self.throttle = Throttle()
        self.notebook = Notebook(store, clock=clock)
        self.sessions = Sessions(
            store,
            notebook=self.notebook,
            idle=timedelta(minutes=settings.idle_minutes),
            longest=timedelta(hours=settings.longest_hours),
            clock=clock,
        )
        self.users = Users(store, ended=self.sessions.note_endings, clock=clock)
        self.tokens = Tokens(store, notebook=self.notebook, clock=clock)
        self.provider = Provider(settings.oidc) if settings.oidc is not None else None
        self._strangers = _Hourly(_STRANGERS_AN_HOUR)
        self._known_users = False

    def start(self) -> None:
        """Remember the wrong passwords of the last hour, and begin to write."""
        self._remember()
        self.notebook.start()

    def stop(self) -> None:
        """Write what is left."""
        self.notebook.stop()

    def reading(self) -> Session:
        """Return a session that reads the record; the caller closes it."""
        return self._store.session()

    def writing(self) -> AbstractContextManager[Session]:
        """Give a transaction of the record."""
        return self._store.transaction()

    @property
    def provider_label(self) -> str:
        """What the button of the identity provider says, empty where there is none."""
        return self.provider.label if self.provider is not None else ""

    @property
    def has_users(self) -> bool:
        """Whether anybody could sign in."""
        self._known_users = self._known_users or self.provider is not None or self.users.any()
        return self._known_users

    def sign_in(self, name: str, password: str, *, address: str, agent: str, old: str = "") -> str:
        """Return the cookie of a new session.

        Args:
            name: The login.
            password: As it was typed.
            address: Of the client.
            agent: What the browser calls itself.
            old: The cookie that the browser had, whose session ends.

        Raises:
            PasswordRefused: If one of the two is wrong, or the user may not sign in so; it does not say which.
            TooManyTries: If it was tried too often.
        """
        login = fold(name)[:80]
        failures = self.throttle.begin(login, address)
        user = self.users.named(login)
        usable = user is not None and user.active and user.oidc_subject is None and self.settings.passwords
        hashed = user.password_hash if user is not None and usable else None
        if not matches(password, hashed) or user is None:
            self._note_failure(user, address, failures)
            raise PasswordRefused(WRONG)
        self.throttle.succeeded(login, address)
        if hashed is not None and is_outdated(hashed):
            self.users.rehash(user.id, password)
        return self.begin(user, method="password", address=address, agent=agent, old=old)

    def let_in(self, person: Person, *, address: str, agent: str, old: str = "") -> str:
        """Return the cookie of a new session for somebody whom the identity provider named; made a user if new.

        Raises:
            AccessError: If the user is switched off here, or the name belongs to somebody else.
        """
        user = self.users.of_subject(person.subject)
        by = Actor("provider", "system", via="page")
        if user is None:
            user = self.users.create(
                person.login, full_name=person.full_name, role=person.role, by=by, oidc_subject=person.subject
            )
        elif not user.active:
            raise SignInFailed("You are switched off on this dashboard: ask an admin of it.")
        else:
            user = self.users.change(
                user.id, by=by, role=person.role, full_name=person.full_name, active=True, provider=True
            )
        return self.begin(user, method="oidc", address=address, agent=agent, old=old)

    def refused_by_provider(self, why: str, *, address: str) -> None:
        """Keep in the audit that a sign-in through the provider was not accepted."""
        taken, unwritten = self._strangers.take(self._clock())
        if taken:
            with self._store.transaction() as session:
                audit.append(
                    session,
                    actor=_STRANGER,
                    action="session.refused",
                    subject="user:unknown",
                    at=self._clock(),
                    address=address[:64],
                    method="oidc",
                    why=why[:200],
                    **({"before_unwritten": unwritten} if unwritten else {}),
                )

    def begin(self, user: UserRow, *, method: str, address: str, agent: str, old: str = "") -> str:
        """Return the cookie of a new session for somebody who has shown who they are; the old one of the browser ends."""
        if old and (before := self.sessions.find(old)) is not None and before.actor.user_id is not None:
            self.sessions.end(before.actor.user_id, by=before.actor, keys=[before.key])
        return self.sessions.open(user, method=method, address=address, agent=agent)

    def goes_on(self, identity: Identity) -> bool:
        """Return whether a session or token is still good, with the same role."""
        if identity.is_person:
            found = self.sessions.get(identity.key)
        else:
            found = self.tokens.get(int(identity.key.removeprefix("token:")))
        return found is not None and found.actor == identity.actor

    def sign_out(self, identity: Identity) -> None:
        """End one session."""
        if identity.actor.user_id is not None:
            self.sessions.end(identity.actor.user_id, by=identity.actor, keys=[identity.key])

    def confirm_password(self, actor: Actor, password: str) -> None:
        """Ask once more, before something is signed.

        Raises:
            PasswordRefused: If it is wrong, or whoever acts has none.
            TooManyTries: If it was tried too often.
        """
        if actor.user_id is None:
            raise PasswordRefused("This needs a person with a password: an integration's token cannot sign.")
        failures = self.throttle.begin(actor.name, CONFIRMING)
        user = self.users.get(actor.user_id)
        if user.password_hash is None:
            raise PasswordRefused(
                "Signing asks for a password, and you have none yet: choose one on the page 'Your account'."
            )
        if not user.active or not matches(password, user.password_hash):
            self._note_failure(user, CONFIRMING, failures, by=actor)
            raise PasswordRefused("The password is wrong.")
        self.throttle.succeeded(actor.name, CONFIRMING)

    def _note_failure(
        self, user: UserRow | None, address: str, failures: int, *, by: Actor = _STRANGER
    ) -> None:
        """Keep the first, the second, the fourth and so on, so that a flood of tries does not fill the audit."""
        if failures & (failures - 1):
            return
        unwritten = 0
        if user is None:
            taken, unwritten = self._strangers.take(self._clock())
            if not taken:
                return
        # A name that nobody has is not kept: it may be a password in the wrong field.
        with self._store.transaction() as session:
            audit.append(
                session,
                actor=by,
                action="session.refused",
                subject=f"user:{user.name}" if user is not None else "user:unknown",
                at=self._clock(),
                address=address[:64],
                tries=failures,
                **({"before_unwritten": unwritten} if unwritten else {}),
            )

    def _remember(self) -> None:
        since = self._clock() - timedelta(seconds=FORGOTTEN_AFTER_S)
        latest: dict[tuple[str, str], int] = {}
        with self._store.session() as session:
            rows = session.scalars(
                select(AuditRow)
                .where(AuditRow.action.in_(("session.refused", "session.begin")), AuditRow.at >= since)
                .order_by(AuditRow.number.desc())
                .limit(5000)
            ).all()
        for row in reversed(rows):
            key = (row.subject.removeprefix("user:"), str(row.details.get("address", "")))
            latest[key] = int(row.details.get("tries", 0)) if row.action == "session.refused" else 0
        for (login, address), tries in latest.items():
            if tries:  # the first, the second, the fourth are kept: there may have been almost twice as many
                self.throttle.restore(login, address, 2 * tries - 1)


class _Hourly:
    """Lets so many through an hour, and counts the rest."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._began: datetime | None = None
        self._taken = 0
        self._left = 0

    def take(self, at: datetime) -> tuple[bool, int]:
        """Return whether this one goes through, and if so how many did not since the last that did."""
        with self._lock:
            if self._began is None or at - self._began >= timedelta(hours=1):
                self._began, self._taken = at, 0
            if self._taken >= self._most:
                self._left += 1
                return False, 0
            self._taken += 1
            left, self._left = self._left, 0
            return True, left
