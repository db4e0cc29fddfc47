"""People and integrations of a test: one of each role, named like it."""

from functools import cache
from itertools import count
from pathlib import Path

from broker_config.settings import load_settings
from clinician_dashboard.access.access import Access
from clinician_dashboard.access.passwords import hash_password
from clinician_dashboard.access.roles import SYSTEM, Role
from clinician_dashboard.access.settings import SignInSettings
from clinician_dashboard.access.tables import UserRow
from clinician_dashboard.record.beside import open_or_join
from clinician_dashboard.settings import Settings

PASSWORD = "seven quiet herons wade"
_TOKENS = count(1)


@cache
def password_hash() -> str:
    """Computed once for all, since it takes a while by design."""
    return hash_password(PASSWORD)


def person(access: Access, role: Role, *, name: str = "") -> UserRow:
    """Return the user of a role, made if there is none yet; everybody has the same password."""
    login = name or role.replace("_", "-")
    known = access.users.named(login)
    if known is not None:
        return known
    made = access.users.create(
        login, full_name=f"Test {login.replace('-', ' ').title()}", role=role, by=SYSTEM
    )
    with access._store.transaction() as session:
        session.get_one(UserRow, made.id).password_hash = password_hash()
    return access.users.get(made.id)


def session_of(access: Access, role: Role, *, name: str = "") -> str:
    """Return the cookie of a new session."""
    user = person(access, role, name=name)
    return access.sessions.open(user, method="password", address="127.0.0.1", agent="a test")


def token_of(access: Access, role: Role) -> str:
    return access.tokens.create(f"test-{next(_TOKENS)}", role=role, by=SYSTEM, days=None)


def token_beside(settings: Path, role: Role) -> str:
    """Return a token, made beside a daemon that runs."""
    given = load_settings(settings, Settings)
    with open_or_join(
        given.record_url,
        given.directory,
        password=given.read_database_password,
        tls=given.read_database_tls,
    ) as record:
        return token_of(Access(record, SignInSettings()), role)
