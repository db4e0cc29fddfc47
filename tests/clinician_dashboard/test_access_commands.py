"""What is done at the machine: the first admin, tokens; with the dashboard running and without, on both databases. And https."""

import json
import shutil
import ssl

import httpx
import pytest
import yaml
from click.testing import CliRunner

from broker_config.authority import make_certificates
from clinician_dashboard.access.access import Access
from clinician_dashboard.access.roles import SYSTEM
from clinician_dashboard.access.settings import SignInSettings, WebTlsSettings
from clinician_dashboard.audit.anchor import read_anchor
from clinician_dashboard.audit.verification import verify_audit
from clinician_dashboard.backup import make_backup
from clinician_dashboard.commands import dashboard
from clinician_dashboard.dashboard import Dashboard
from clinician_dashboard.errors import DashboardError
from clinician_dashboard.restore import restore
from clinician_dashboard.settings import Settings
from tests.clinician_dashboard.desk.signing_in import field
from tests.clinician_dashboard.desk.stores import sqlite_store

PASSWORD = "seven quiet herons wade"


@pytest.fixture
def run(store, tmp_path):
    """Run a command against a store's record."""
    settings = tmp_path / "dashboard.yaml"
    given = {"directory": str(store.directory)} | {key: str(value) for key, value in store.settings().items()}
    settings.write_text(yaml.safe_dump(given))
    secret = tmp_path / "password"
    secret.write_text(f"{PASSWORD}\n")

    def command(*words, said=None):
        group = words[:2] if words[0] == "token" else words[:1]
        rest = words[len(group) :]
        done = CliRunner().invoke(dashboard, [*group, "--settings", str(settings), *rest], input=said)
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done.exit_code, done.output

    command.secret = str(secret)
    return command


def test_the_first_admin_is_made_without_and_beside_the_dashboard(store, run):
    ada = ("create-admin", "--name", "Ada", "--full-name", "Ada Example", "--password-file", run.secret)
    status, said = run(*ada)  # the record itself is new
    assert (status, "ada may sign in now, as an admin" in said) == (0, True), said
    assert run(*ada)[1] == "Error: There is a user 'ada' already.\n"
    record = store.record()
    record.start()
    try:
        bert = ("create-admin", "--name", "bert", "--full-name", "Bert")
        status, said = run(*bert, said=f"{PASSWORD}\n{PASSWORD}\n")
        assert status == 0, said
        assert PASSWORD not in said
        access = Access(record, SignInSettings())
        users = {user.name: user for user in access.users.all()}
        assert {user.role for user in users.values()} == {"admin"}
        assert (users["ada"].must_change, users["bert"].must_change) == (True, False)
        assert access.sign_in("bert", PASSWORD, address="192.0.2.1", agent="")
    finally:
        record.stop()


def test_what_cannot_be_is_one_sentence(run, tmp_path):
    for words, said, told in (
        (("--name", "a b", "--full-name", "A"), None, "A login has up to 80 letters"),
        (("--name", "ada", "--full-name", " ", "--password-file", run.secret), None, "1 to 200 printable"),
        (("--name", "ada", "--full-name", "A"), "short\nshort\n", "too short: 12 characters"),
        (
            ("--name", "ada", "--full-name", "A", "--password-file", str(tmp_path / "none")),
            None,
            "cannot be read",
        ),
    ):
        status, output = run("create-admin", *words, said=said)
        assert (status, told in output) == (1, True), output


def test_a_token_is_made_listed_and_revoked_beside_the_dashboard(store, run):
    record = store.record()
    record.start()
    try:
        status, said = run("token", "create", "lis", "--role", "technician", "--days", "30", "--json")
        assert status == 0, said
        token = json.loads(said.splitlines()[-1])["token"]
        access = Access(record, SignInSettings())
        assert access.tokens.find(token).actor.role == "technician"
        listed = run("token", "list")[1]
        assert "lis" in listed
        assert token not in listed
        assert run("token", "revoke", "lis")[0] == 0
        assert access.tokens.find(token) is None
        assert run("token", "revoke", "lis") == (1, "Error: There is no such token that is still good.\n")
        assert "There is no token 'x'" in run("token", "revoke", "x")[1]
    finally:
        record.stop()


def test_a_restore_signs_everybody_out_and_keeps_the_audits_anchor(tmp_path):
    directory, backup, again = tmp_path / "desk", tmp_path / "backup", tmp_path / "again"

    def quiet(_done, _whole):
        pass

    record = sqlite_store(directory).record()
    record.start()
    access = Access(record, SignInSettings())
    user = access.users.create("ada", full_name="Ada", role="admin", by=SYSTEM)
    cookie = access.sessions.open(user, method="password", address="", agent="")
    assert access.sessions.find(cookie) is not None
    make_backup(directory, backup, progress=quiet)
    record.stop()
    assert json.loads((backup / "manifest.json").read_text())["audit"] == str(read_anchor(directory))
    restore(backup, again, progress=quiet)
    record = sqlite_store(again).record()
    record.start()
    access = Access(record, SignInSettings())
    assert access.users.named("ada") is not None
    assert access.sessions.find(cookie) is None
    with record.snapshot() as session:
        verdict = verify_audit(session, again)
    assert (verdict.sound, verdict.rows, verdict.note) == (True, 2, "")
    record.stop()


@pytest.mark.skipif(
    shutil.which("openssl") is None, reason="openssl makes the certificates: apt-get install openssl"
)
def test_the_pages_speak_https_where_a_certificate_is_named(embedded_broker, tmp_path):
    made = make_certificates(tmp_path / "made", ["127.0.0.1"])
    tls = WebTlsSettings(cert_file=made.certificate, key_file=made.key)
    running = Dashboard(
        Settings(
            broker={"port": embedded_broker.port, "protocol": "3.1.1"},
            directory=tmp_path / "desk",
            port=0,
            tls=tls,
        )
    )
    running.start()
    try:
        trust = ssl.create_default_context(cafile=str(made.authority))
        with httpx.Client(base_url=f"https://127.0.0.1:{running.port}", verify=trust, timeout=20) as client:
            assert client.get("/healthz").status_code == 200
            running.access.users.create(
                "ada", full_name="Ada", role="admin", by=SYSTEM, password=PASSWORD, must_change=False
            )
            given = {"name": "ada", "password": PASSWORD, "csrf": field(client.get("/sign-in")), "next": "/"}
            answer = client.post("/sign-in", data=given)
            assert answer.headers["set-cookie"].startswith("__Host-hemolink=")
            assert client.get("/session").json()["name"] == "ada"
    finally:
        running.stop()
    wrong = WebTlsSettings(cert_file=made.key, key_file=made.certificate)
    broken = Dashboard(Settings(directory=tmp_path / "other", port=0, tls=wrong))
    with pytest.raises(DashboardError, match=r"cannot be used .* name a certificate and its key"):
        broken.start()
