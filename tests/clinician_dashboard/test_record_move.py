"""A record that moves from its folder to a PostgreSQL server takes everything with it, or stays where it is."""

import json

import pytest
from click.testing import CliRunner

from clinician_dashboard.commands import dashboard
from tests.clinician_dashboard.desk.people import PASSWORD
from tests.clinician_dashboard.desk.stores import postgres_store
from tests.clinician_dashboard.test_record_postgresql import history

CASE = "/api/v1/cases/ward/HL-0001"


@pytest.fixture
def server(shared_postgres, tmp_path):
    """An empty database, with the settings of a dashboard that is to live there."""
    store = postgres_store(shared_postgres, tmp_path / "desk")
    given = store.settings()
    (tmp_path / "dashboard.yaml").write_text(
        f"directory: {store.directory}\nport: 0\ndatabase_url: {given['database_url']}\n"
        f"database_password_file: {given['database_password_file']}\n"
    )
    return store


@pytest.fixture
def command(tmp_path):
    def run(*words):
        return CliRunner().invoke(
            dashboard, [*words, "--settings", str(tmp_path / "dashboard.yaml")], catch_exceptions=False
        )

    return run


def tables_of(server):
    return server.execute("select tablename from pg_tables where schemaname = 'public'")


def test_a_record_goes_on_at_the_server_where_it_stopped_in_its_folder(
    server, command, embedded_broker, desk, far_side, make, another, eventually
):
    reached = {"base_url": "http://127.0.0.1:9/fhir", "send": ("preliminary", "final")}  # nobody is there
    place = (embedded_broker.port, server.directory)

    def looked_at(running, reader):
        pages = [f"/api/v1/{what}" for what in ("cases", "fleet", "rejections", "deliveries", "quality")]
        pages += ["/api/v1/cases/HL-0001?site=ward", f"{CASE}/review", f"{CASE}/versions"]
        answers = {page: reader.get(page).raise_for_status().json() for page in pages}
        return json.loads(json.dumps(answers).replace(running.url, ""))

    with (
        desk(*place, protocol="3.1.1", fhir_push=reached) as running,
        far_side(embedded_broker.port, protocol="3.1.1") as far,
    ):
        for batch in history(make, another):
            far.send(*(one for one in batch if hasattr(one, "topic") or hasattr(one, "model_dump")))
        eventually(lambda: running.summary()["recorded"] >= 5)
        reader, second = (running.sign_in("haematologist", name=name) for name in ("anna", "ben"))
        frames = [one["frame_id"] for one in reader.get("/api/v1/cases/HL-0001?site=ward").json()["frames"]]
        said = {
            "conclusion": "CLL",
            "reason": "lineage",
            "comment": 'Tab\there, \\ and "quotes"; 甲\nnext line',
        }
        reader.post(f"{CASE}/claim", json={}).raise_for_status()
        for one in (reader, second):
            one.post(f"{CASE}/view", json={"frames": frames}).raise_for_status()
            one.post(f"{CASE}/conclude", json=said).raise_for_status()
        reader.post(f"{CASE}/close-alert", json={"reason": "a test"})
        reader.post(f"{CASE}/sign", json={"password": PASSWORD, "warned": True}).raise_for_status()
        in_use = command("move")
        assert in_use.exit_code == 1
        assert "is in use by a running dashboard" in in_use.output
        before = looked_at(running, reader)
    assert tables_of(server) == []

    done = command("move", "--json")
    assert done.exit_code == 0, done.output
    rows = json.loads(done.output)["rows"]
    assert rows["signed_versions"] == 1
    assert rows["deliveries"] > 0
    assert not list(server.directory.glob("record.sqlite"))
    assert (server.directory / "record.sqlite.moved").exists()

    checked = command("verify-audit")
    assert checked.exit_code == 0, checked.output
    assert f"rows   {rows['audit']}," in checked.output
    assert command("verify").exit_code == 0
    with (
        desk(*place, protocol="3.1.1", fhir_push=reached, **server.settings()) as running,
        far_side(embedded_broker.port, protocol="3.1.1") as far,
    ):
        after = looked_at(running, running.sign_in("haematologist", name="anna"))
        assert after["/api/v1/cases/HL-0001?site=ward"] == before["/api/v1/cases/HL-0001?site=ward"]
        for page in (f"{CASE}/review", f"{CASE}/versions", "/api/v1/cases", "/api/v1/rejections"):
            assert after[page] == before[page], page
        frame = make.frame("HL-0009")  # a new case takes a number that no row has
        far.send(frame, make.diagnosis(frame))
        eventually(lambda: running.http.get("/api/v1/cases/HL-0009").status_code == 200)

    again = command("move")
    assert again.exit_code == 1
    assert "there is nothing to move" in again.output


def test_a_move_that_breaks_off_leaves_both_as_they_were(server, command, make):
    from clinician_dashboard.record import RecordWriter  # noqa: PLC0415
    from tests.clinician_dashboard.desk.stores import sqlite_store  # noqa: PLC0415

    store = sqlite_store(server.directory)
    record = store.record()
    record.start()
    frame = make.frame("HL-0001")
    RecordWriter(record).apply([make.state(), frame, make.diagnosis(frame)])
    record.stop()
    store.execute(
        "update cases set devices = char(0) || 'scope'"
    )  # which no message can, and PostgreSQL refuses
    before = store.execute("select * from cases")

    done = command("move")
    assert done.exit_code == 1
    assert "the server refuses rows of the table 'cases'" in done.output
    assert "Nothing was moved" in done.output
    assert tables_of(server) == []
    assert store.execute("select * from cases") == before

    store.execute("update cases set devices = 'scope'")
    server.execute("create table of_another_program (id integer)")
    done = command("move")
    assert done.exit_code == 1
    assert "holds tables already (of_another_program)" in done.output
    server.execute("drop table of_another_program")
    done = command("move")
    assert done.exit_code == 0, done.output
    assert "Next: hemolink dashboard verify-audit" in done.output
