"""Ways into a record's pages for the demo, the benches and the checks, which run on the machine that keeps it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from hemolink.errors import NotReady

if TYPE_CHECKING:
    from clinician_dashboard.access.access import Access

DAYS = 7


@contextmanager
def access_to(directory: Path) -> "Iterator[Access]":
    """Give the users and tokens of the record in a folder, whether its dashboard runs or not.

    Raises:
        NotReady: If it cannot be used.
    """
    from clinician_dashboard.access.access import Access  # noqa: PLC0415 - the dashboard's extra is optional
    from clinician_dashboard.access.settings import SignInSettings  # noqa: PLC0415
    from clinician_dashboard.errors import DashboardError  # noqa: PLC0415
    from clinician_dashboard.record.beside import open_or_join  # noqa: PLC0415

    try:
        with open_or_join(f"sqlite:///{directory / 'record.sqlite'}", directory) as record:
            yield Access(record, SignInSettings())
    except DashboardError as error:
        raise NotReady(f"nobody can be let into the record: {error}") from None


def make_token(directory: Path, name: str) -> str:
    """Return a token that reads everything of the record in a folder, for some days.

    Args:
        directory: The dashboard's folder.
        name: What the audit calls it.
    """
    from clinician_dashboard.access.roles import SYSTEM  # noqa: PLC0415

    with access_to(directory) as access:
        return access.tokens.create(name, role="lab_lead", by=SYSTEM, days=DAYS)


def make_people(directory: Path) -> tuple[list[str], str]:
    """Make a throw-away user of each role; return their names and the password that they share."""
    from clinician_dashboard.access.roles import ROLES, SYSTEM  # noqa: PLC0415
    from clinician_dashboard.access.users import random_password  # noqa: PLC0415

    password = random_password()
    names = [role.replace("_", "-") for role in ROLES]
    with access_to(directory) as access:
        for name, role in zip(names, ROLES, strict=True):
            full_name = f"Demo {name.replace('-', ' ')}"
            access.users.create(
                name, full_name=full_name, role=role, by=SYSTEM, password=password, must_change=False
            )
    return names, password
