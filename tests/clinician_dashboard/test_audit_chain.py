"""The audit on both databases: what is changed, removed, put in or cut off is found, and the database itself refuses."""

import contextlib
import hashlib
import json
import re
import threading
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa
import yaml
from click.testing import CliRunner

from broker_config.messages import now
from clinician_dashboard import audit
from clinician_dashboard.access.roles import Actor
from clinician_dashboard.audit.anchor import FILE, Anchor, read_anchor, write_anchor
from clinician_dashboard.audit.chain import digest_of
from clinician_dashboard.audit.tables import AuditRow
from clinician_dashboard.audit.verification import verify_audit
from clinician_dashboard.commands import dashboard
from clinician_dashboard.record.beside import open_or_join

DOCTOR = Actor("doctor", "haematologist", full_name="A Doctor", user_id=1)
COLUMNS = "at, actor, role, via, action, subject, details, previous_sha256, sha256"
TRIGGERS = {
    "sqlite": ["drop trigger audit_no_update", "drop trigger audit_no_delete"],
    "postgresql": ["drop trigger audit_no_change on audit"],
}


def add(record, count, *, action="case.sign", start=0):
    for number in range(start, start + count):
        with record.transaction() as session:
            audit.append(
                session,
                actor=DOCTOR,
                action=action,
                subject=f"case:ward/HL-{number}",
                at=now(),
                score=number / 3,
                text="Blasten: 40 % <b>\u00e4</b>",
            )


@pytest.fixture
def filled(store):
    record = store.record()
    record.start()
    add(record, 8)
    yield record
    record.stop()


def check(record, store, **given):
    with record.snapshot() as session:
        return verify_audit(session, store.directory, **given)


def tamper(store, *statements):
    """As who owns the database can."""
    for statement in (*TRIGGERS[store.engine], *statements):
        store.execute(statement)


def test_a_whole_audit_is_whole_and_its_line_can_be_kept(filled, store):
    verdict = check(filled, store)
    assert (verdict.sound, verdict.rows, verdict.note) == (True, 8, "")
    assert verdict.anchor == verdict.head == read_anchor(store.directory)
    add(filled, 3, start=8)
    assert check(filled, store, at=verdict.head).sound
    assert Anchor.parse(str(verdict.head)) == verdict.head


@pytest.mark.parametrize(
    ("act", "said"),
    [
        ("update audit set details = '{}' where number = 4", "row 4 .* was changed"),
        ("update audit set actor = 'other' where number = 8", "row 8 .* was changed"),
        ("update audit set at = '2001-01-01 00:00:00' where number = 2", "row 2 .* was changed"),
        ("update audit set details = 'no json' where number = 3", "row 3 cannot be read"),
        ("delete from audit where number = 5", "row 5 removed"),
        ("delete from audit where number in (1, 2)", "rows 1 to 2 removed"),
        ("delete from audit where number > 6", "the end is cut off: .* row 8, and the last one is 6"),
        ("delete from audit", "the end is cut off: .* row 8, and the last one is 0"),
        (
            f"insert into audit select 9, {COLUMNS} from audit where number = 3",  # noqa: S608 - ours
            "the chain is broken before row 9",
        ),
    ],
)
def test_what_was_done_to_a_row_is_found(filled, store, act, said):
    if "no json" in act and store.engine == "postgresql":
        pytest.skip("PostgreSQL itself refuses what is no JSON")
    tamper(store, act)
    verdict = check(filled, store)
    assert not verdict.sound
    assert any(re.search(said, fault) for fault in verdict.faults), verdict.faults


def test_a_chain_that_is_computed_anew_is_found_by_the_anchor_or_by_a_line_kept_elsewhere(filled, store):
    kept = check(filled, store).head
    tamper(store)
    with filled.transaction() as session:
        previous = ""
        for row in session.scalars(sa.select(AuditRow).order_by(AuditRow.number)):
            if row.number == 3:
                row.subject = "case:ward/forged"
            if row.number >= 3:
                row.previous_sha256 = previous or row.previous_sha256
                row.sha256 = digest_of(row)
            previous = row.sha256
    verdict = check(filled, store)
    assert verdict.faults == [
        "row 8 is another than the anchor beside the record says: the chain was computed anew"
    ]
    forged = verdict.head
    write_anchor(store.directory, forged)  # who can write that file too
    assert check(filled, store).sound
    assert not check(filled, store, at=kept).sound


def test_a_cut_that_is_written_over_is_still_known(filled, store, caplog):
    tamper(store, "delete from audit where number > 5")
    add(filled, 6, start=50)
    assert "no longer has row 8 as it was written" in caplog.text
    verdict = check(filled, store)
    assert verdict.faults == [
        "row 8 is another than the anchor beside the record says: the chain was computed anew"
    ]


def test_the_database_refuses_to_change_the_audit(filled, store):
    for act in ("update audit set actor = 'x'", "delete from audit where number = 8", "delete from audit"):
        with pytest.raises(sa.exc.DBAPIError, match="append-only"):
            store.execute(act)
    if store.engine == "postgresql":
        with pytest.raises(sa.exc.DBAPIError, match="append-only"):
            store.execute("truncate audit")
    assert check(filled, store).sound


def test_what_is_rolled_back_is_in_neither_chain_nor_anchor(filled, store):
    before = read_anchor(store.directory)
    with contextlib.suppress(KeyError), filled.transaction() as session:
        audit.append(session, actor=DOCTOR, action="case.sign", subject="case:ward/no", at=now())
        raise KeyError
    assert read_anchor(store.directory) == before
    add(filled, 1, start=90)
    assert check(filled, store).sound


def test_writers_in_and_beside_the_dashboard_make_one_chain(filled, store):
    password = store.server.PASSWORD if store.server else None
    faults = []

    def write(start):
        try:
            with open_or_join(store.url, store.directory, password=lambda: password) as beside:
                assert beside is not filled
                add(beside, 10, start=start)
        except BaseException as error:  # noqa: BLE001 - told to the test's own thread
            faults.append(error)

    threads = [threading.Thread(target=write, args=(100 * number,)) for number in (1, 2)]
    for thread in threads:
        thread.start()
    add(filled, 10, start=1000)
    for thread in threads:
        thread.join()
    assert faults == []
    verdict = check(filled, store)
    assert (verdict.faults, verdict.rows) == ([], 38)


def test_a_lost_anchor_is_said_and_a_damaged_one_is_a_fault(filled, store):
    (store.directory / FILE).unlink()
    verdict = check(filled, store)
    assert verdict.sound
    assert "whether the end was cut off is not known" in verdict.note
    (store.directory / FILE).write_text("{}")
    assert "cannot be used" in check(filled, store).faults[0]


def test_the_hash_is_the_documented_one():
    row = AuditRow(
        number=1,
        at=datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC),
        actor="a",
        role="admin",
        via="page",
        action="user.create",
        subject="user:b",
        details={"z": 1, "\u00e4": None},
        previous_sha256="0" * 64,
        sha256="",
    )
    fields = (
        rb'{"action":"user.create","actor":"a","at":"2026-01-02T03:04:05.000006+00:00","details":{"z":1,"\u00e4":null},'
        rb'"number":1,"previous_sha256":"' + b"0" * 64 + rb'","role":"admin","subject":"user:b","via":"page"}'
    )
    assert digest_of(row) == hashlib.sha256(fields).hexdigest()


def test_the_command_says_it_and_answers_with_its_status(filled, store, tmp_path):
    settings = tmp_path / "dashboard.yaml"
    given = {"directory": str(store.directory)} | {key: str(value) for key, value in store.settings().items()}
    settings.write_text(yaml.safe_dump(given))

    def run(*arguments):
        done = CliRunner().invoke(dashboard, ["verify-audit", "--settings", str(settings), *arguments])
        return done.exit_code, done.stdout

    status, said = run("--json")  # while it is in use
    told = json.loads(said)
    assert (status, told["sound"], told["rows"]) == (0, True, 8)
    assert run("--at", told["head"])[0] == 0
    assert run("--at", "1:" + "0" * 64)[0] == 1
    tamper(store, "update audit set actor = 'x' where number = 3")
    status, said = run()
    assert status == 1
    assert "FAULT  row 3" in said
    assert said.splitlines()[-1] == "The audit is NOT whole."
    assert run("--at", "nonsense")[0] == 1
