"""Access rules, enforced by a real Mosquitto, with and without TLS; the files of a site; the published contract."""

import json
import queue
import shutil
import subprocess
from contextlib import ExitStack
from pathlib import Path

import jsonschema
import pytest
from click.testing import CliRunner

from broker_config import schema_documents
from broker_config.commands import broker as command
from broker_config.delivery import DELIVERY
from broker_config.errors import BrokerFailed, ConnectionRefused, NotConnected, PublishRefused, TopicError
from broker_config.mosquitto import MosquittoProcess, ServerTls, render_configuration
from broker_config.roles import Member, parse_member, render_acl, rules
from broker_config.session import BrokerSettings, Session
from broker_config.site import SiteFiles, write_site
from broker_config.topics import Topics
from tests.broker_config.session_parts import listening, message, running, settings_for
from tests.broker_config.test_codec import one_of_each

TOPICS = Topics()
MEMBERS = [
    Member("edge", "scope-1", "clinic"),
    Member("edge", "scope-2", "clinic"),
    Member("worker", "w1"),
    Member("dashboard", "board", "clinic"),
    Member("operator", "ops"),
    Member("dashboard", "hall"),
]


def settings_of(
    files: SiteFiles, member: str, port: int, protocol: str = "5", **changes: object
) -> BrokerSettings:
    return settings_for(port, protocol, username=member, password_file=files.secrets[member], **changes)


@pytest.fixture
def site(tmp_path: Path):
    files = write_site(tmp_path / "site", MEMBERS, host="127.0.0.1")
    with MosquittoProcess(tmp_path / "m", password_file=files.passwords, acl_file=files.acl) as server:
        yield files, server.port


ALLOWED = [
    ("edge.clinic.scope-1", TOPICS.frame("clinic", "scope-1", "stat")),
    ("edge.clinic.scope-1", TOPICS.state("clinic", "scope-1")),
    ("edge.clinic.scope-1", TOPICS.response("clinic", "scope-1", "pause")),
    ("edge.clinic.scope-1", TOPICS.rejected("clinic", "scope-1")),
    ("worker.w1", TOPICS.diagnosis("clinic", "scope-1")),
    ("worker.w1", TOPICS.receipt("clinic", "scope-1")),
    ("worker.w1", TOPICS.rejected("clinic", "scope-1")),
    ("worker.w1", TOPICS.worker_state("w1")),
    ("dashboard.clinic.board", TOPICS.receipt("clinic", "scope-1")),
    ("dashboard.clinic.board", TOPICS.command("clinic", "scope-2", "pause")),
    ("dashboard.hall", TOPICS.fleet_stops()),
    ("operator.ops", TOPICS.fleet_model()),
    ("operator.ops", TOPICS.command("clinic", "scope-1", "capture")),
    ("operator.ops", TOPICS.command("clinic", "scope-1", "retry")),
]
DENIED = [
    ("edge.clinic.scope-1", TOPICS.frame("clinic", "scope-2", "stat")),
    ("edge.clinic.scope-1", TOPICS.diagnosis("clinic", "scope-1")),
    ("edge.clinic.scope-1", TOPICS.receipt("clinic", "scope-1")),
    ("edge.clinic.scope-1", TOPICS.command("clinic", "scope-1", "pause")),
    ("edge.clinic.scope-1", TOPICS.rejected("clinic", "scope-2")),
    ("edge.clinic.scope-1", TOPICS.state("clinic", "scope-2")),
    ("edge.clinic.scope-1", TOPICS.worker_state("w1")),
    ("edge.clinic.scope-1", TOPICS.fleet_model()),
    ("worker.w1", TOPICS.frame("clinic", "scope-1", "stat")),
    ("worker.w1", TOPICS.worker_state("w2")),
    ("worker.w1", TOPICS.state("clinic", "scope-1")),
    ("worker.w1", TOPICS.command("clinic", "scope-1", "pause")),
    ("worker.w1", TOPICS.fleet_stops()),
    ("operator.ops", TOPICS.fleet_stops()),
    ("dashboard.clinic.board", TOPICS.fleet_stops()),
    ("dashboard.clinic.board", TOPICS.diagnosis("clinic", "scope-1")),
    ("dashboard.clinic.board", TOPICS.command("other", "scope-1", "pause")),
    ("operator.ops", TOPICS.diagnosis("clinic", "scope-1")),
    ("operator.ops", "somewhere/else"),
]


@pytest.mark.mosquitto
def test_mosquitto_enforces_who_may_publish(site: tuple[SiteFiles, int]) -> None:
    files, port = site
    with ExitStack() as stack:
        sessions = {
            name: stack.enter_context(running(settings_of(files, name, port), name)) for name in files.secrets
        }
        for name, topic in ALLOWED:
            assert sessions[name].publish(message(topic)).reason_code in (0, 0x10), (name, topic)
        for name, topic in DENIED:
            with pytest.raises(
                PublishRefused, match=r"not authorized \(0x87\): allow it in the broker's access"
            ) as caught:
                sessions[name].publish(message(topic))
            assert caught.value.reason_code == 0x87
        assert all(session.connections == 1 for session in sessions.values())


@pytest.mark.mosquitto
def test_mosquitto_enforces_who_may_receive(site: tuple[SiteFiles, int]) -> None:
    files, port = site
    with (
        listening(settings_of(files, "edge.clinic.scope-2", port), "hemolink/#", client_id="spy") as spied,
        listening(
            settings_of(files, "dashboard.clinic.board", port), "hemolink/#", client_id="board"
        ) as board,
        listening(
            settings_of(files, "worker.w1", port), TOPICS.shared_frames("pool"), client_id="w"
        ) as worker,
        running(settings_of(files, "edge.clinic.scope-1", port), "s1") as edge,
        running(settings_of(files, "worker.w1", port), "w2") as publisher,
    ):
        edge.publish(message(TOPICS.frame("clinic", "scope-1", "stat"), b"frame"))
        publisher.publish(message(TOPICS.receipt("clinic", "scope-1"), b"not yours"))
        publisher.publish(message(TOPICS.receipt("clinic", "scope-2"), b"yours"))
        assert worker.get(timeout=5).payload == b"frame"
        assert board.get(timeout=5).payload == b"frame"
        assert spied.get(timeout=5).payload == b"yours"
        with pytest.raises(queue.Empty):
            spied.get(timeout=0.2)


@pytest.mark.mosquitto
def test_an_edge_reads_the_fleets_states_and_its_own_and_no_other_devices(
    site: tuple[SiteFiles, int],
) -> None:
    files, port = site
    with (
        listening(settings_of(files, "edge.clinic.scope-1", port), "hemolink/#", client_id="spy") as spied,
        running(settings_of(files, "worker.w1", port), "w") as worker,
        running(settings_of(files, "edge.clinic.scope-1", port), "s1") as own,
        running(settings_of(files, "edge.clinic.scope-2", port), "s2") as other,
    ):
        other.publish(message(TOPICS.state("clinic", "scope-2"), b"another device"))
        other.publish(message(TOPICS.rejected("clinic", "scope-2"), b"another device"))
        worker.publish(message(TOPICS.worker_state("w1"), b"worker"))
        own.publish(message(TOPICS.state("clinic", "scope-1"), b"own"))
        assert [spied.get(timeout=5).payload for _ in range(2)] == [b"worker", b"own"]
        with pytest.raises(queue.Empty):
            spied.get(timeout=0.2)


@pytest.mark.mosquitto
def test_strangers_are_refused(site: tuple[SiteFiles, int]) -> None:
    _, port = site
    for protocol in ("5", "3.1.1"):
        with pytest.raises(ConnectionRefused, match="refused"):
            Session(settings_for(port, protocol), client_id="stranger").connect(5)


def certificate(directory: Path, name: str, authority: str | None = None) -> None:
    key, request, made = (directory / f"{name}.{ending}" for ending in ("key", "csr", "crt"))
    run = [
        "openssl",
        "req",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-keyout",
        str(key),
        "-subj",
        f"/CN={name}",
    ]
    if authority is None:
        run += ["-x509", "-days", "2", "-out", str(made)]
        subprocess.run(run, check=True, capture_output=True)
        return
    subprocess.run([*run, "-out", str(request)], check=True, capture_output=True)
    (directory / "san").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    subprocess.run(
        ["openssl", "x509", "-req", "-in", str(request), "-CA", str(directory / f"{authority}.crt"), "-CAkey",
         str(directory / f"{authority}.key"), "-CAcreateserial", "-days", "2", "-out", str(made), "-extfile",
         str(directory / "san")],
        check=True,
        capture_output=True,
    )  # fmt: skip


@pytest.mark.mosquitto
@pytest.mark.skipif(
    shutil.which("openssl") is None, reason="openssl makes the certificates: apt-get install openssl"
)
def test_a_site_over_tls(tmp_path: Path) -> None:
    for name, authority in (("site", None), ("broker", "site"), ("stranger", None)):
        certificate(tmp_path, name, authority)
    tls = ServerTls(tmp_path / "site.crt", tmp_path / "broker.crt", tmp_path / "broker.key")
    files = write_site(tmp_path / "files", MEMBERS, host="0.0.0.0", port=8883, tls=tls)
    assert "listener 8883 0.0.0.0" in files.configuration.read_text()
    with MosquittoProcess(
        tmp_path / "m", password_file=files.passwords, acl_file=files.acl, tls=tls
    ) as server:
        trusted = {"ca_file": tmp_path / "site.crt"}
        good = settings_of(files, "edge.clinic.scope-1", server.port, tls=trusted)
        frame = message(TOPICS.frame("clinic", "scope-1", "stat"), b"x" * 500_000)
        worker = settings_of(files, "worker.w1", server.port, tls=trusted)
        with listening(worker, TOPICS.all_frames(), manual_ack=True) as inbox, running(good, "s1") as session:
            assert session.publish(frame).reason_code == 0
            got = inbox.get(timeout=10)
            assert len(got.payload) == 500_000
            assert got.acknowledge()
        with pytest.raises(NotConnected, match=r"is not trusted .*set broker\.tls\.ca_file"):
            Session(good.model_copy(update={"tls": _tls(tmp_path / "stranger.crt")}), client_id="x").connect(
                0.7
            )
        with pytest.raises(NotConnected, match=r"none\.crt cannot be used"):
            Session(good.model_copy(update={"tls": _tls(tmp_path / "none.crt")}), client_id="x").connect(0.7)
        with pytest.raises(NotConnected, match="without TLS"):
            Session(good.model_copy(update={"tls": None}), client_id="x").connect(0.7)


def _tls(ca_file: Path) -> object:
    return BrokerSettings.model_validate({"tls": {"ca_file": ca_file}}).tls


def test_rules_follow_the_delivery_table() -> None:
    for kind, row in DELIVERY.items():
        for member in MEMBERS:
            granted = rules(member)
            writes = any(_carries(rule.topic_filter, kind) for rule in granted if rule.access == "write")
            reads = any(_carries(rule.topic_filter, kind) for rule in granted if rule.access == "read")
            for_all = kind != "fleet-stops" or not member.site  # no site stops a model for the others
            assert writes == (member.role in row.publishers and for_all), (kind, member)
            assert reads == (member.role in row.subscribers), (kind, member)


def _carries(topic_filter: str, kind: str) -> bool:
    levels = topic_filter.split("/")[2:]
    if kind == "worker-state":
        return levels[0] == "fleet" and levels[-1] == "state"
    if kind in ("fleet-model", "fleet-stops"):
        return levels == ["fleet", kind.removeprefix("fleet-")]
    if kind == "command":
        return levels[2:] == ["command", "+"]
    return levels[0] != "fleet" and (levels[2] == kind or levels[-1] == kind)


def test_members_are_unambiguous() -> None:
    names = {Member("edge", "b-c", "a").username, Member("edge", "c", "a-b").username}
    assert len(names) == 2
    for role, text, fault in [
        ("edge", "scope-1", "has no site"),
        ("edge", "a/b/c", "is not SITE/NAME"),
        ("worker", "clinic/w", "serves every site"),
        ("operator", "Müller", "cannot stand in a topic"),
        ("edge", "fleet/x", "reserved"),
    ]:
        with pytest.raises(TopicError, match=fault):
            parse_member(role, text)
    with pytest.raises(TopicError, match="stands twice"):
        render_acl([MEMBERS[0], MEMBERS[0]])


def test_making_a_site_again_keeps_the_passwords(tmp_path: Path) -> None:
    first = write_site(tmp_path, MEMBERS[:2])
    before = {name: path.read_text() for name, path in first.secrets.items()}
    again = write_site(tmp_path, MEMBERS)
    assert {name: again.secrets[name].read_text() for name in before} == before
    assert len({path.read_text() for path in again.secrets.values()}) == len(MEMBERS)
    assert all(path.stat().st_mode & 0o077 == 0 for path in again.secrets.values())
    assert not any(text.strip() in again.passwords.read_text() for text in before.values())


def test_an_open_or_eavesdropped_broker_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BrokerFailed, match="open to anyone"):
        render_configuration(directory=tmp_path, host="0.0.0.0")
    with pytest.raises(BrokerFailed, match="in clear"):
        write_site(tmp_path, MEMBERS, host="0.0.0.0")
    with pytest.raises(BrokerFailed, match="cannot stand in"):
        render_configuration(directory=tmp_path / "a\nallow_anonymous true")


@pytest.mark.mosquitto
def test_a_mosquitto_that_cannot_start_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with MosquittoProcess(tmp_path / "first") as first:
        assert first.running
    with pytest.raises(BrokerFailed, match="ended with code"):
        MosquittoProcess(tmp_path / "second", password_file=tmp_path / "none").start()
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    with pytest.raises(BrokerFailed, match="apt-get install mosquitto"):
        MosquittoProcess(tmp_path / "third").start()


def test_the_published_contract_is_not_stale() -> None:
    assert schema_documents.stale() == [], "run python -m broker_config.schema_documents --write"


def test_staleness_is_seen_and_mended(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--directory", str(tmp_path / "contract")]
    assert schema_documents.main(["--check", *arguments]) == 1
    assert schema_documents.main(["--write", *arguments]) == 0
    assert schema_documents.main(["--check", *arguments]) == 0
    (tmp_path / "contract" / "gone.schema.json").write_text("{}")
    assert schema_documents.main(["--check", *arguments]) == 1
    assert "gone.schema.json" in capsys.readouterr().err


def test_messages_satisfy_their_published_schemas() -> None:
    by_type = {row.message: row for row in DELIVERY.values()}
    for one in one_of_each():
        schema = schema_documents.json_schema(by_type[type(one)])
        jsonschema.Draft202012Validator.check_schema(schema)
        if one.kind != "frame":
            jsonschema.validate(json.loads(one.model_dump_json()), schema)
            with pytest.raises(jsonschema.ValidationError):
                jsonschema.validate({}, schema)


def test_every_reference_of_the_asyncapi_document_leads_somewhere() -> None:
    document, files = schema_documents.asyncapi(), schema_documents.documents()
    references = set(_references(document))
    assert references
    for reference in references:
        if reference.startswith("./"):
            assert reference[2:] in files
            continue
        here = document
        for part in reference.removeprefix("#/").split("/"):
            here = here[part]
    assert {row.split("-sends-")[0] for row in document["operations"] if "-sends-" in row} == {
        "edge", "worker", "dashboard", "operator"
    }  # fmt: skip


def _references(node: object):
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "$ref":
                yield value
            yield from _references(value)
    elif isinstance(node, list):
        for value in node:
            yield from _references(value)


def test_the_commands(tmp_path: Path) -> None:
    runner = CliRunner()
    done = runner.invoke(command, ["acl", "--edge", "clinic/scope-1", "--worker", "w1"])
    assert done.exit_code == 0
    assert "user edge.clinic.scope-1\ntopic write hemolink/v1/clinic/scope-1/frame/+" in done.output
    done = runner.invoke(command, ["acl", "--worker", "w1", "--json"])
    assert {"access": "write", "topic": "hemolink/v1/fleet/w1/state"} in json.loads(done.output)["worker.w1"]
    done = runner.invoke(command, ["config", str(tmp_path / "site"), "--edge", "clinic/scope-1"])
    assert done.exit_code == 0
    assert (tmp_path / "site" / "secrets" / "edge.clinic.scope-1.password").exists()
    done = runner.invoke(command, ["config", str(tmp_path / "x"), "--edge", "scope-1"])
    assert (done.exit_code, done.output.strip()) == (
        1,
        "Error: edge 'scope-1' has no site: give it as SITE/DEVICE",
    )
    assert runner.invoke(command, ["schemas", "--check"]).exit_code == 0
    assert runner.invoke(command, ["schemas", "--write", "--directory", str(tmp_path / "s")]).exit_code == 0
