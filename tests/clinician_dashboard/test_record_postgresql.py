"""The record on a PostgreSQL server: the same answers as SQLite, one writer, and a server that goes away and comes back."""

import gc
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from click.testing import CliRunner
from sqlalchemy.exc import DBAPIError, OperationalError

from broker_config.authority import make_certificates
from broker_config.errors import SettingsError
from broker_config.fleet_messages import FleetStops, WorkerState
from broker_config.messages import LARGEST_COUNT, ModelIdentity, Quality
from broker_config.settings import load_settings, parse_settings
from clinician_dashboard.commands import dashboard
from clinician_dashboard.errors import RecordError, RecordInUse
from clinician_dashboard.outbox import enqueue
from clinician_dashboard.record import Record, RecordReader, RecordWriter, engines
from clinician_dashboard.record.faults import is_passing, remedy_of
from clinician_dashboard.record.presence import Heard
from clinician_dashboard.settings import Settings
from hemolink.checks.record import check_record
from tests.clinician_dashboard.desk.maker import WEIGHTS

AT = datetime(2026, 1, 31, 12, tzinfo=UTC)


def history(make, another):
    """Batches with something of everything that the record keeps."""
    elsewhere = another("clinic", "scope-9")
    other = ModelIdentity(name="densenet121", version="1", weights_sha256="b" * 64)
    frames = [make.frame("HL-0001", captured_at=AT + timedelta(seconds=n)) for n in range(4)]
    stat = make.frame("hl-under_core", priority="stat", captured_at=AT)
    twin = elsewhere.frame("HL-0001", quality=Quality(flags=("soft_focus",)), captured_at=AT, simulated=True)
    orphan = make.frame("HL-0003", captured_at=AT)
    late = make.frame("HL-0004", captured_at=AT)
    yield [make.state(next_sequence=0), WorkerState(worker="w1", pool="p", presence="online", birth=1, at=AT)]
    yield [*frames, *(make.diagnosis(frame, diagnosed_at=AT) for frame in frames[:3])]
    yield [make.diagnosis(frames[0], "ALL", model=other, diagnosed_at=AT), frames[1], stat, orphan]
    yield [make.diagnosis(stat, "healthy", decision="refer", reasons=("ood: far — ünlike",), diagnosed_at=AT)]
    yield [twin, elsewhere.diagnosis(twin, "CML", diagnosed_at=AT), make.diagnosis(late, diagnosed_at=AT)]
    letter = make.rejection(orphan, at=AT, attempts=LARGEST_COUNT, payload_bytes=LARGEST_COUNT)
    yield [letter, letter, make.rejection(make.frame(), frame_id=None, case=None, at=AT)]
    yield [Heard(make.state(next_sequence=12, spooled=2, simulated=True, at=AT)), elsewhere.state(at=AT)]
    yield [make.frame(frame_id=frames[0].frame_id), late, make.state(birth=0, presence="offline", at=AT)]


def plain(value):
    """Rows as plain fields, so that two records can be compared."""
    if isinstance(value, list | tuple | set):
        return [plain(one) for one in (sorted(value) if isinstance(value, set) else value)]
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    if hasattr(value, "__table__"):
        return {column.key: plain(getattr(value, column.key)) for column in value.__table__.columns}
    if hasattr(value, "__dataclass_fields__"):
        return {name: plain(getattr(value, name)) for name in value.__dataclass_fields__}
    return value


def answers(reader):
    """Everything that the pages and the API can ask."""
    yield "summary", reader.summary()
    for search in ("", "CLINIC", "hl-0001", "%", "_", "aml", "scope-1", "under%C", "r_C", "rXc"):
        yield f"worklist {search}", reader.worklist(search=search)
    for urgency in ("critical", "refer", "waiting"):
        yield f"worklist of {urgency}", reader.worklist(urgency=urgency, limit=2, offset=1)
    cases = reader.worklist().cases
    yield "latest", reader.latest_frames([case.id for case in cases], each=2)
    for case in cases:
        for state in ("", "report", "refer", "waiting", "refused"):
            yield f"frames {case.code} {state}", reader.frames_of(case.id, state=state, page_size=3)
    yield "case", reader.case("clinic", "HL-0001"), reader.cases_with_code("HL-0001")
    yield "rejections", reader.rejections(), reader.unresolved(), reader.rejected()
    yield "fleet", reader.fleet(), reader.fleet_size(), reader.spooled(), reader.simulated_devices()
    yield "missing", reader.missing(), reader.needing_a_person()
    yield "tallies", reader.tallies()


def test_both_databases_give_the_same_answers_to_everything(both_stores, make, another):
    clock = iter(AT + timedelta(minutes=n) for n in range(10_000))
    moments = [next(clock) for _ in range(50)]
    batches = list(history(make, another))
    told = []
    for store in both_stores:
        record = store.record()
        record.start()
        step = iter(moments)
        now = AT

        def present():
            return now  # noqa: B023 - the batch's own moment

        writer = RecordWriter(record, pending_frames=2, pending_diagnoses=2, clock=present)
        applied = []
        for batch in batches:
            now = next(step)
            applied.append(plain(writer.apply(batch)))
        told.append((applied, [plain(answer) for answer in answers(RecordReader(record))]))
        record.stop()
    (applied_here, here), (applied_there, there) = told
    assert applied_there == applied_here
    for one, other in zip(here, there, strict=True):
        assert other == one, one[0]
    assert here[0][1]["recorded"] == 6


def test_one_writer_a_database_whatever_its_folder(shared_postgres, tmp_path, make, request):
    store = request.getfixturevalue("both_stores")[1]
    first = store.record()
    second = store.record(directory=tmp_path / "another machine")
    first.start()
    with pytest.raises(RecordInUse, match="in use by another running dashboard"):
        second.start()
    frames = [make.frame() for _ in range(3)]
    writer = RecordWriter(first)
    writer.apply([frames[0], make.diagnosis(frames[0])])
    # The writer loses its connection, and another dashboard is quicker: the first cannot write any more.
    store.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'hemolink%'"
    )
    second.start()
    RecordWriter(second).apply([frames[1], make.diagnosis(frames[1])])
    for _ in range(2):
        with pytest.raises((RecordInUse, DBAPIError)) as caught:
            writer.apply([frames[2], make.diagnosis(frames[2])])
        assert is_passing(caught.value)
    assert isinstance(caught.value, RecordInUse)
    assert RecordReader(first).summary()["recorded"] == 2  # it may read
    second.stop()
    assert writer.apply([frames[2], make.diagnosis(frames[2])]).newly_recorded == 1
    assert RecordReader(first).missing() == []  # its ledger was read anew
    first.stop()


def test_while_another_has_the_writers_lock_nothing_of_a_dashboard_dies_and_afterwards_all_goes_out(
    both_stores, mosquitto_broker, tmp_path, desk, far_side, make, eventually, caplog
):
    store = both_stores[1]
    with (
        desk(mosquitto_broker.port, store.directory, protocol="5", **store.settings()) as running,
        far_side(mosquitto_broker.port, protocol="5") as far,
    ):
        reader, frame = running.integration("auditor"), make.frame()
        far.send(frame, make.diagnosis(frame))
        eventually(lambda: far.recorded() == [frame.frame_id])
        eventually(lambda: running.dashboard._outbox.waiting() == 0)
        other = store.record(directory=tmp_path / "another machine")

        def taken():
            store.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'hemolink%'"
            )
            try:
                other.start()
            except RecordInUse:
                return False
            return True

        eventually(taken, what="another is quicker to take the lock")
        with other.transaction() as session:
            enqueue(session, FleetStops(stops=(), at=AT, by="another"), site="", device="", key="fleet-stops")
        running.dashboard._outbox.ring()
        running.dashboard._models.connected()
        address = f"/cases/{frame.site}/{frame.case}"
        assert reader.get(address).status_code == 200
        refused = running.http.post(f"/api/v1{address}/claim", json={})
        assert (refused.status_code, "in use by another" in refused.json()["error"]) == (503, True)
        for met in ("the outbox could not be", "could not follow a stopped model", "who looked at what is"):
            eventually(lambda met=met: met in caplog.text, what=f"'{met}' is logged")
        other.stop()
        eventually(lambda: running.dashboard._outbox.waiting() == 0, what="the outbox is emptied")
        running.http.post(f"/api/v1{address}/claim", json={}).raise_for_status()
        running.http.post(f"/api/v1/models/{WEIGHTS}/stop", params={"reason": "no longer trusted"})
        eventually(
            lambda: running.http.get(f"/api/v1/cases/{frame.case}").json()["urgency"] == "refer",
            what="the case follows its stopped model",
        )

        def looked():  # kept while it could not be written
            rows = running.http.get("/api/v1/audit", params={"what": "case.view", "limit": 200}).json()[
                "rows"
            ]
            return {row["role"] for row in rows}

        eventually(lambda: "auditor" in looked(), what="who looked is in the audit")


def test_a_server_that_crashes_is_waited_for_and_nothing_is_told_too_early(
    own_postgres, own_postgres_store, mosquitto_broker, desk, far_side, make, eventually
):
    store = own_postgres_store
    with (
        desk(mosquitto_broker.port, store.directory, protocol="5", **store.settings()) as running,
        far_side(mosquitto_broker.port, protocol="5") as far,
    ):
        first = make.frame()
        far.send(first, make.diagnosis(first))
        eventually(lambda: far.recorded() == [first.frame_id])
        own_postgres.crash()
        frames = [make.frame() for _ in range(20)]
        far.send(*frames, *map(make.diagnosis, frames))
        eventually(lambda: running.dashboard._ingest.state.fault)
        ready = running.http.get("/readyz")
        assert (ready.status_code, "see to the database server" in ready.text) == (503, True)
        assert running.http.get("/").status_code == 503
        assert far.recorded() == [first.frame_id]
        own_postgres.start()
        eventually(lambda: len(far.recorded()) == 21, within_s=30)
        assert running.summary()["recorded"] == 21
        assert running.summary()["duplicates"] == running.summary()["malformed"] == 0
        assert running.http.get("/readyz").status_code == 200
        assert running.http.get(f"/api/v1/frames/{frames[3].frame_id}/image").content == frames[3].image


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_server_that_no_longer_answers_is_given_up_and_asked_anew(
    own_postgres, own_postgres_store, make, monkeypatch, eventually
):
    monkeypatch.setattr(engines, "ANSWER_WITHIN_S", 2.0)
    record = own_postgres_store.record()
    record.start()
    writer, frame = RecordWriter(record), make.frame()
    own_postgres.freeze(frozen=True)
    try:
        with pytest.raises(DBAPIError) as caught:
            writer.apply([frame, make.diagnosis(frame)])
        assert is_passing(caught.value)
    finally:
        own_postgres.freeze(frozen=False)

    def written():
        try:
            return writer.apply([frame, make.diagnosis(frame)]).newly_recorded == 1
        except (RecordInUse, DBAPIError) as error:
            if not is_passing(error):
                raise
            return False

    eventually(written, within_s=40, what="the lost connection's lock is let go of")
    record.stop()
    del caught
    gc.collect()  # the driver leaves a socket to it whose server said nothing at the very first


@pytest.mark.parametrize(
    ("state", "passing", "remedy"),
    [
        ("53100", True, "make room on the disk of the database server"),
        ("25006", True, "this one is a standby"),
        ("57P03", True, "see to the database server"),
        ("28P01", True, "database_password_file"),
        ("42501", True, "grant the user"),
        ("XX001", True, "pg_restore"),
        ("40P01", True, ""),
        ("22003", False, ""),  # the message's own fault: it is counted, and stops no other
        ("23505", False, ""),
    ],
)
def test_what_a_server_says_is_told_from_what_a_message_is(state, passing, remedy):
    import pg8000.exceptions  # noqa: PLC0415

    original = pg8000.exceptions.DatabaseError({"S": "ERROR", "C": state, "M": "said"})
    error = sa.exc.DatabaseError("insert", {}, original)
    assert is_passing(error) is passing
    assert remedy in remedy_of(error)


def test_what_cannot_be_opened_is_told_with_its_remedy(both_stores, tmp_path, free_port):
    store = both_stores[1]
    for record, sentence in (
        (Record(store.url, tmp_path / "a", password=lambda: "wrong"), "database_password_file"),
        (
            Record(store.url, tmp_path / "e"),
            "asks for a password, and there is none: name database_password_file",
        ),
        (
            Record(f"postgresql://u@127.0.0.1:{free_port()}/d", tmp_path / "b"),
            "see to the database server",
        ),
        (
            Record(
                store.url.rpartition("/")[0] + "/nowhere",
                tmp_path / "c",
                password=lambda: store.server.PASSWORD,
            ),
            "create the database",
        ),
        (
            Record(store.url, tmp_path / "d", password=(tmp_path / "none").read_text),
            "none cannot be read",
        ),
    ):
        with pytest.raises(RecordError, match=sentence) as caught:
            record.start()
        assert store.server.PASSWORD not in str(caught.value)
    with pytest.raises(RecordError, match="cannot live in mysql"):
        Record("mysql://u@h/d", tmp_path)


def test_no_password_stands_in_the_settings_file(tmp_path):
    text = f"directory: {tmp_path}\n"
    for line, sentence in (
        ("database_url: postgresql://u:secret@h/d", "database_password_file"),
        ("database_url: postgresql://u@h/d?password=secret", "database_password_file"),
        ("database_password: secret", "is a secret and may not stand in a settings file"),
        ("database_password_file: /x", "name it in database_url"),
        ("database_url: oracle://h", "lives in PostgreSQL or in SQLite"),
    ):
        with pytest.raises(SettingsError, match=sentence) as caught:
            parse_settings(text + line, Settings)
        assert "secret@" not in str(caught.value)
    found = parse_settings(
        text,
        Settings,
        environment={"HEMOLINK_DATABASE_URL": "postgresql://u@h/d", "HEMOLINK_DATABASE_PASSWORD": "s3cret"},
    )
    assert (found.read_database_password(), "s3cret" in repr(found)) == ("s3cret", False)


def test_a_lost_sqlite_is_passing_and_a_broken_rule_is_not(tmp_path):
    import sqlite3  # noqa: PLC0415

    assert is_passing(OperationalError("x", {}, sqlite3.OperationalError("database is locked")))
    assert not is_passing(sa.exc.IntegrityError("x", {}, sqlite3.IntegrityError("NOT NULL")))
    with closing(sqlite3.connect(":memory:")) as connection, pytest.raises(sqlite3.OperationalError):
        connection.execute("select * from nowhere")


def test_the_way_to_a_server_is_secured_when_it_is_asked_for(own_postgres, own_postgres_store, tmp_path):
    made = make_certificates(tmp_path / "ours", ["127.0.0.1"])
    stranger = make_certificates(tmp_path / "strange", ["127.0.0.1"])

    def opened(ca_file):
        settings = Settings(
            directory=tmp_path / "desk",
            database_tls={"ca_file": ca_file},
            **own_postgres_store.settings(),
        )
        record = Record(
            settings.record_url,
            settings.directory,
            password=settings.read_database_password,
            tls=settings.read_database_tls,
        )
        record.start()
        with record.session() as session:
            (told,) = session.execute(
                sa.text("select ssl from pg_stat_ssl where pid = pg_backend_pid()")
            ).one()
        record.stop()
        return told

    with pytest.raises(RecordError, match="Server refuses SSL"):  # never in plain text instead
        opened(made.authority)
    own_postgres.secure(made.certificate, made.key)
    assert opened(made.authority) is True
    with pytest.raises(RecordError, match="certificate verify failed"):
        opened(stranger.authority)


def test_backup_restore_and_verify_see_to_the_images_and_name_the_servers_tools(both_stores, make, tmp_path):
    store = both_stores[1]
    record = store.record()
    record.start()
    frames = [make.frame() for _ in range(3)]
    RecordWriter(record).apply([*frames, *map(make.diagnosis, frames)])
    settings = tmp_path / "dashboard.yaml"
    lines = {"directory": store.directory, **store.settings()}
    settings.write_text("".join(f"{name}: {value}\n" for name, value in lines.items()))

    def command(*words):
        answer = CliRunner().invoke(dashboard, [str(word) for word in words], catch_exceptions=False)
        assert store.server.PASSWORD not in answer.output
        return answer.exit_code, answer.output

    code, said = command("verify", "--settings", settings)
    assert (code, "pg_amcheck" in said, "3 recorded; 3 images" in said) == (0, True, True), said
    code, said = command("backup", "--settings", settings, tmp_path / "backup")
    assert (code, f"pg_dump --format=custom --file={tmp_path / 'backup'}.dump {store.url}" in said) == (
        0,
        True,
    )
    image = record.images.path(frames[0].image_sha256)
    image.unlink()
    code, said = command("verify", "--settings", settings)
    assert (code, frames[0].frame_id in said) == (1, True)
    code, said = command("backup", "--settings", settings, tmp_path / "other")
    assert (code, "of a recorded frame is missing" in said) == (1, True)
    record.stop()
    code, said = command("restore", "--settings", settings, tmp_path / "backup")
    assert (code, "pg_restore" in said, image.read_bytes()) == (0, True, frames[0].image), said
    (tmp_path / "plain.yaml").write_text(f"directory: {tmp_path / 'plain'}\n")
    code, said = command("restore", "--settings", tmp_path / "plain.yaml", tmp_path / "backup")
    assert (code, "it is of a record on a server" in said) == (1, True)
    (found,) = [one for one in check_record(load_settings(settings, Settings)) if "answers" in one.said]
    assert store.url.rpartition("/")[2] in found.said
