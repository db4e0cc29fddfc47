"""Every route with every role, with a token of every role, and with nobody: what docs/roles.md says is what happens."""

import re
from pathlib import Path

import pytest
from fastapi import APIRouter, Depends, FastAPI

from broker_config.embedded import EmbeddedBroker
from clinician_dashboard.access.roles import MATRIX, PERMISSIONS, ROLES
from clinician_dashboard.access.web import anybody, check_routes, needs
from tests.clinician_dashboard.desk.roles_table import application, render, rows
from tests.clinician_dashboard.desk.running import run_desk

DOCS = Path(__file__).parents[2] / "docs" / "roles.md"
REFUSED = re.compile(r"who may not|needs a signed-in person")
FILLED = {"frame_id": "0" * 32, "site": "ward", "code": "HL-0001", "user_id": "999999", "token_id": "999999"}


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    broker = EmbeddedBroker()
    broker.start()
    try:
        with run_desk(broker.port, tmp_path_factory.mktemp("desk"), protocol="3.1.1") as running:
            yield running
    finally:
        broker.stop()


def address(row):
    return re.sub(r"\{(\w+)[^}]*\}", lambda match: FILLED.get(match[1], "1"), row.path)


def ask(client, row):
    with client.stream(row.method, address(row)) as answer:  # the live feed would not end
        refused = answer.status_code in (401, 403) and bool(REFUSED.search(answer.read().decode()))
        return answer.status_code, answer.headers, refused


def test_the_table_in_the_documentation_is_what_the_routes_say(running):
    told = "python -m tests.clinician_dashboard.desk.roles_table > docs/roles.md"
    assert DOCS.read_text() == render(application(running.dashboard)), told


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("door", ["page", "token"])
def test_every_route_lets_a_role_in_as_the_matrix_says(running, role, door):
    client = None
    for row in rows(application(running.dashboard)):
        if client is None:
            client = running.sign_in(role) if door == "page" else running.integration(role)
        status, _, refused = ask(client, row)
        wanted = row.open or (row.allows(role) and not (row.person and door == "token"))
        assert refused != wanted, (row, status)
        assert status < 500 or status == 501, (row, status)  # 501: a part of a report that is not installed
        if not wanted:
            assert status == 403, (row, status)
        if row.path in ("/sign-out", "/account/sessions"):
            client = None  # its session has ended


def test_nobody_gets_anything_but_what_is_open(running):
    stranger = running.stranger()
    for row in rows(application(running.dashboard)):
        status, headers, _ = ask(stranger, row)
        if row.open:
            assert status < 500, (row, status)
            continue
        page = row.method == "GET" and not row.path.startswith(("/api/", "/fragments/", "/session"))
        assert status == (303 if page else 401), (row, status)
        if page:
            assert headers["location"].startswith("/sign-in?next=%2F"), row
    open_ones = {row.path for row in rows(application(running.dashboard)) if row.open}
    assert {one for one in open_ones if not one.startswith("/sign-in")} == {"/healthz", "/readyz", "/metrics"}


@pytest.mark.parametrize(
    "path", ["/nothing", "/api/v1/openapi.json", "/docs", "//", "/static", "/healthz/", "/%2e%2e/"]
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH", "TRACE"])
def test_nobody_learns_what_is_there_by_any_method(running, method, path):
    answer = running.stranger().request(method, path)
    assert answer.status_code in (303, 401)
    assert "Allow" not in answer.headers


def test_each_permission_is_somebodys(running):
    used = {row.permission for row in rows(application(running.dashboard))} - {None}
    assert used <= set(PERMISSIONS)
    assert set().union(*MATRIX.values()) == set(PERMISSIONS)


def test_a_route_that_does_not_say_who_may_use_it_stops_the_dashboard():
    def route():
        """Nothing."""

    silent, twice, wide = FastAPI(openapi_url=None), FastAPI(openapi_url=None), FastAPI(openapi_url=None)
    for app in (silent, twice, wide):
        app.router.routes.clear()
    router = APIRouter()
    router.get("/forgotten")(route)
    silent.include_router(router)
    with pytest.raises(ValueError, match="/forgotten does not say who may use it"):
        check_routes(silent)
    twice.get("/both", dependencies=[Depends(needs("cases.read")), Depends(anybody)])(route)
    with pytest.raises(ValueError, match="says twice"):
        check_routes(twice)
    wide.get("/open/{anything}", dependencies=[Depends(anybody)])(route)
    with pytest.raises(ValueError, match="must be fixed"):
        check_routes(wide)
    with pytest.raises(ValueError, match=r"no permission 'cases\.raed'"):
        needs("cases.raed")
