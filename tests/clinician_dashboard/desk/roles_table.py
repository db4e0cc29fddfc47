"""The table of docs/roles.md, from the routes themselves: ``python -m tests.clinician_dashboard.desk.roles_table > docs/roles.md``."""

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from fastapi import FastAPI
from fastapi.routing import APIRoute

from clinician_dashboard.access.roles import MATRIX, PERMISSIONS, ROLES, Permission
from clinician_dashboard.access.web import PERMISSION_WORDS, ROLE_WORDS, Needs, declared, each_route
from clinician_dashboard.dashboard import Dashboard
from clinician_dashboard.settings import Settings
from clinician_dashboard.web.guard import Guard

TRIED = (
    "This page is compared with the routes themselves, and every cell of it is tried out, by "
    "`tests/clinician_dashboard/test_access_matrix.py`."
)
WHY = (
    "An admin gives the keys and sees no case; an auditor sees and changes nothing. Nobody who is not signed in gets anything "
    "but health, metrics, static files and the sign-in page. A token of an integration has a role like a person; what only a "
    "person may do has no entry under *token*."
)


@dataclass(frozen=True)
class Row:
    method: str
    path: str
    open: bool
    permission: Permission | None
    person: bool

    def allows(self, role: str) -> bool:
        return self.permission is None or self.permission in MATRIX[role]


def application(dashboard: Dashboard) -> FastAPI:
    guard = dashboard._web._app
    assert isinstance(guard, Guard)
    app = guard._app._app
    assert isinstance(app, FastAPI)
    return app


def rows(app: FastAPI) -> list[Row]:
    found = []
    for route in each_route(app.routes):
        if isinstance(route, APIRoute):
            says = declared(route)
            needs = says if isinstance(says, Needs) else None
            found += [
                Row(
                    method,
                    route.path,
                    needs is None,
                    needs.permission if needs else None,
                    bool(needs and needs.person),
                )
                for method in sorted(route.methods)
            ]
    return sorted(found, key=lambda row: (row.path.startswith("/api/"), row.path, row.method))


def _table(head: Iterable[str], lines: Iterable[Iterable[str]]) -> list[str]:
    head = list(head)
    return [
        f"| {' | '.join(head)} |",
        f"| {' | '.join('---' for _ in head)} |",
        *(f"| {' | '.join(line)} |" for line in lines),
    ]


def render(app: FastAPI) -> str:
    words = [ROLE_WORDS[role] for role in ROLES]
    may = [
        [f"{PERMISSION_WORDS[one]} (`{one}`)", *("yes" if one in MATRIX[role] else "" for role in ROLES)]
        for one in PERMISSIONS
    ]
    routes = []
    for row in rows(app):
        asks = "anybody" if row.open else f"`{row.permission}`" if row.permission else "signed in"
        cells = ["yes" if row.open or row.allows(role) else "" for role in ROLES]
        token = "" if row.person else "yes"
        routes.append([f"`{row.method} {row.path}`", asks, *cells, token])
    return "\n".join(
        [
            "# Who may do what",
            "",
            TRIED,
            "",
            WHY,
            "",
            *_table(["May", *words], may),
            "",
            "## Every route",
            "",
            *_table(["Route", "Asks for", *words, "token"], routes),
            "",
        ]
    )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        print(render(application(Dashboard(Settings(directory=Path(folder), port=0)))), end="")
