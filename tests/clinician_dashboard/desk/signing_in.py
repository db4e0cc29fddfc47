"""Signing in as a browser does."""

import re
from typing import Any

import httpx
from sqlalchemy import select

from clinician_dashboard.audit.tables import AuditRow
from tests.clinician_dashboard.desk.people import PASSWORD
from tests.clinician_dashboard.desk.running import Desk

FORM = "/sign-in"


def field(page: httpx.Response, name: str = "csrf") -> str:
    found = re.search(rf'name="{name}" value="([^"]*)"', page.text)
    assert found is not None, page.text
    return found[1]


def sign_in(
    client: httpx.Client, name: str, password: str = PASSWORD, *, following: str = "/", **changes: str
) -> httpx.Response:
    form = client.get(FORM, params={"next": following})
    given = {"name": name, "password": password, "csrf": field(form), "next": field(form, "next")}
    return client.post(FORM, data=given | changes)


def audit_of(running: Desk, action: str) -> list[tuple[str, str, dict[str, Any]]]:
    """Return actor, subject and details of each act of a kind."""
    running.dashboard.access.notebook.write()
    with running.dashboard.access.reading() as session:
        found = session.scalars(select(AuditRow).where(AuditRow.action == action).order_by(AuditRow.number))
        return [(row.actor, row.subject, row.details) for row in found]
