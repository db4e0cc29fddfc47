"""Passwords, tries, sessions and tokens without a web server: what holds at any time."""

import threading
from datetime import UTC, datetime, timedelta

import pytest

from clinician_dashboard.access.access import Access
from clinician_dashboard.access.door import local_path
from clinician_dashboard.access.errors import AccessError, NameTaken, PasswordRefused, TooManyTries
from clinician_dashboard.access.passwords import check_choice, hash_password, is_outdated, matches
from clinician_dashboard.access.roles import SYSTEM, Actor
from clinician_dashboard.access.settings import SignInSettings
from clinician_dashboard.access.tables import SessionRow, TokenRow, UserRow
from clinician_dashboard.access.throttle import ACCOUNT, ADDRESS, BOTH, MAX_KEYS, Throttle
from clinician_dashboard.access.users import random_password
from clinician_dashboard.audit.tables import AuditRow
from tests.clinician_dashboard.desk.stores import sqlite_store

PASSWORD = "seven quiet herons wade"


class Clock:
    def __init__(self):
        self.now = datetime(2031, 5, 1, tzinfo=UTC)

    def __call__(self):
        return self.now

    def go(self, **later):
        self.now += timedelta(**later)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def record(tmp_path):
    record = sqlite_store(tmp_path / "desk").record()
    record.start()
    yield record
    record.stop()


@pytest.fixture
def access(record, clock):
    return Access(record, SignInSettings(idle_minutes=30, longest_hours=12), clock=clock)


def rows(record, table):
    with record.session() as session:
        return session.query(table).all()


def made(access, name="ada", role="haematologist", **given):
    return access.users.create(name, full_name="Dr Ada Example", role=role, by=SYSTEM, **given)


# Passwords


@pytest.mark.parametrize(
    "password",
    [
        "short",
        "elevenchars",
        "ada.example1234",
        "password1234",
        "Passwort!!!!!!",
        "aaaaaaaaaaaaaa",
        "123456789012",
        "x" * 201,
    ],
)
def test_a_password_that_is_short_common_or_the_name_is_refused(password):
    with pytest.raises(PasswordRefused):
        check_choice(password, "ada", "Ada Example")


@pytest.mark.parametrize(
    "password",
    [
        PASSWORD,
        "aaaabbbbccccdddd1",
        "\u4e00\u4e8c\u4e09\u56db\u4e94\u516d\u4e03\u516b\u4e5d\u5341\u767e\u5343",
        random_password(),
    ],
)
def test_length_is_enough(password):
    check_choice(password, "ada", "Ada Example")


def test_a_hash_is_argon2id_with_a_salt_of_its_own_and_knows_its_password_however_it_was_typed():
    first, second = hash_password("n\u00e4chtens im moor"), hash_password("na\u0308chtens im moor")
    assert first != second
    assert first.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert matches("na\u0308chtens im moor", first)
    assert not matches("nachtens im moor", first)
    assert not matches("anything", None)
    assert not matches("anything", "no hash")
    assert not is_outdated(first)
    assert is_outdated(first.replace("m=65536", "m=1024"))


# Tries


def test_after_the_free_tries_each_costs_twice_the_wait_of_the_one_before():
    at = [0.0]
    throttle = Throttle(lambda: at[0])
    for _ in range(BOTH.free + 1):
        throttle.begin("ada", "192.0.2.1")
    waits = []
    for _ in range(5):
        with pytest.raises(TooManyTries) as refused:
            throttle.begin("ada", "192.0.2.1")
        waits.append(refused.value.wait_s)
        at[0] += refused.value.wait_s
        throttle.begin("ada", "192.0.2.1")
    assert waits == [1, 2, 4, 8, 16]
    assert BOTH.wait_s(10_000) == BOTH.longest_s
    throttle.succeeded("ada", "192.0.2.1")
    throttle.begin("ada", "192.0.2.1")


def test_an_address_and_an_account_are_counted_too_and_an_ipv6_network_is_one():
    throttle = Throttle(lambda: 0.0)
    for number in range(ADDRESS.free + 1):
        throttle.begin(f"user{number}", f"2001:db8:0:1::{number:x}")
    with pytest.raises(TooManyTries):
        throttle.begin("another", "2001:db8:0:1:ffff::1")
    throttle.begin("another", "2001:db8:0:2::1")
    for number in range(ACCOUNT.free):
        throttle.begin("ada", f"192.0.2.{number}")
    throttle.begin("ada", "198.51.100.1")
    with pytest.raises(TooManyTries):
        throttle.begin("ada", "198.51.100.2")


def test_one_readers_mistakes_keep_no_other_from_signing_and_a_right_password_costs_nobody_a_wait(access):
    at = [0.0]
    access.throttle = Throttle(lambda: at[0])
    ada, ben = (
        Actor(name, "haematologist", user_id=made(access, name, password=PASSWORD).id)
        for name in ("ada", "ben")
    )
    for _ in range(ADDRESS.free + 2):
        with pytest.raises(PasswordRefused):
            access.confirm_password(ada, "wrong")
        at[0] += BOTH.longest_s
    access.confirm_password(ben, PASSWORD)

    for number in range(ADDRESS.free + 2):  # of one clinic, which comes from one address
        access.throttle.begin(f"user{number}", "192.0.2.1")
        at[0] += ADDRESS.longest_s / 10
    for login in ("ada", "ben"):
        access.sign_in(login, PASSWORD, address="192.0.2.1", agent="")


def test_many_tries_at_once_are_not_all_free_and_memory_is_bounded():
    throttle = Throttle(lambda: 0.0)
    let = []

    def once():
        try:
            throttle.begin("ada", "192.0.2.1")
        except TooManyTries:
            return
        let.append(1)

    threads = [threading.Thread(target=once) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(let) == BOTH.free + 1
    for number in range(MAX_KEYS):
        throttle.restore(f"user{number}", f"192.0.2.{number}", 1)
    assert len(throttle) == MAX_KEYS


def test_a_restart_gives_no_tries_back_and_the_audit_does_not_grow_with_each(record, access, clock):
    made(access, password=PASSWORD)
    access.throttle = Throttle(lambda: 0.0)
    heard = []
    for _ in range(40):
        with pytest.raises((PasswordRefused, TooManyTries)) as refused:
            access.sign_in("Ada", "wrong", address="192.0.2.1", agent="")
        heard.append(refused.type)
    assert heard == [PasswordRefused] * (BOTH.free + 1) + [TooManyTries] * (39 - BOTH.free)
    told = [row.details["tries"] for row in rows(record, AuditRow) if row.action == "session.refused"]
    assert told == [1, 2, 4]
    again = Access(record, SignInSettings(), clock=clock)
    again.throttle = Throttle(lambda: 0.0)
    again.start()
    try:
        with pytest.raises(TooManyTries):  # the right one tells nothing meanwhile
            again.sign_in("ada", PASSWORD, address="192.0.2.1", agent="")
        again.sign_in(
            "ada", PASSWORD, address="198.51.100.7", agent=""
        )  # who comes from elsewhere is not kept out
    finally:
        again.stop()


def test_a_name_that_nobody_has_is_not_kept_since_it_may_be_a_password(record, access):
    for number in range(3):
        with pytest.raises(PasswordRefused, match="Name or password is wrong"):
            access.sign_in(f"my secret {number}", "x", address="192.0.2.1", agent="")
    said = [(row.subject, row.actor, str(row.details)) for row in rows(record, AuditRow)]
    assert {subject for subject, _, _ in said} == {"user:unknown"}
    assert "secret" not in str(said)


# Sessions


def test_a_session_ends_when_idle_at_its_longest_and_when_its_user_changes(record, access, clock):
    user = made(access, password=PASSWORD)

    def begin():
        return access.sign_in("ada", PASSWORD, address="192.0.2.1", agent="a browser\x00\x1b[31m")

    first = begin()
    assert access.sessions.find(first).actor.full_name == "Dr Ada Example"
    clock.go(minutes=29)
    assert access.sessions.find(first) is not None
    access.notebook.seen(access.sessions.find(first).key)
    clock.go(minutes=29)
    assert access.sessions.find(first) is not None
    clock.go(minutes=2)
    assert access.sessions.find(first) is None
    second = begin()
    for _ in range(25):
        clock.go(minutes=28)
        access.notebook.seen(access.sessions.find(second).key)
    clock.go(minutes=21)
    assert access.sessions.find(second) is None
    third = begin()
    access.users.change(user.id, by=SYSTEM, role="auditor", full_name="Dr Ada Example", active=True)
    assert access.sessions.find(third) is None
    fourth = begin()
    access.users.change(user.id, by=SYSTEM, role="auditor", full_name="Another Name", active=True)
    assert access.sessions.find(fourth).actor.full_name == "Another Name"
    access.users.change(user.id, by=SYSTEM, role="auditor", full_name="Another Name", active=False)
    assert access.sessions.find(fourth) is None
    with pytest.raises(PasswordRefused, match="Name or password is wrong"):
        begin()
    assert all("\x1b" not in row.agent for row in rows(record, SessionRow))


def test_the_record_holds_no_cookie_and_no_token(record, access):
    user = made(access, password=PASSWORD)
    cookie = access.sessions.open(user, method="password", address="192.0.2.1", agent="")
    token = access.tokens.create("lis", role="technician", by=SYSTEM, days=1)
    assert token.startswith("hml_")
    kept = [vars(row) for table in (UserRow, SessionRow, TokenRow, AuditRow) for row in rows(record, table)]
    assert not any(secret in str(kept) for secret in (cookie, token, token[4:], PASSWORD))


def test_a_token_ends_by_its_day_and_when_it_is_revoked(access, clock):
    token = access.tokens.create("lis", role="technician", by=SYSTEM, days=2)
    assert access.tokens.find(token).actor == Actor("lis", "technician", via="api")
    clock.go(days=2)
    assert access.tokens.find(token) is None
    other = access.tokens.create("lis-2", role="auditor", by=SYSTEM, days=None)
    access.tokens.revoke(access.tokens.all()[0].id, by=SYSTEM)
    assert access.tokens.find(other) is None
    with pytest.raises(AccessError):
        access.tokens.revoke(access.tokens.all()[0].id, by=SYSTEM)
    with pytest.raises(NameTaken):
        access.tokens.create("lis", role="technician", by=SYSTEM, days=2)
    assert access.tokens.find("hml_") is None
    assert access.tokens.find("") is None


def test_somebody_who_manages_users_is_left(access):
    boss = made(access, "boss", "admin")
    by = Actor("boss", "admin", user_id=boss.id)
    with pytest.raises(AccessError, match="last admin"):
        access.users.change(boss.id, by=SYSTEM, role="auditor", full_name="B", active=True)
    second = made(access, "second", "admin")
    with pytest.raises(AccessError, match="another admin's to change"):
        access.users.change(boss.id, by=by, role="auditor", full_name="B", active=True)
    access.users.change(second.id, by=by, role="admin", full_name="B", active=False)
    with pytest.raises(AccessError, match="last admin"):
        access.users.change(boss.id, by=SYSTEM, role="admin", full_name="B", active=False)


@pytest.mark.parametrize(
    "name", ["", "a b", "../x", "system", "nobody", "\u00e4da", "-ada", "a" * 81, "ada\n"]
)
def test_a_login_is_plain(access, name):
    with pytest.raises(AccessError) if name != "ada\n" else pytest.raises(NameTaken):
        if name == "ada\n":  # white space around is taken away, so that it cannot be a second ada
            made(access, "ada")
        made(access, name)


def test_who_looked_at_what_is_written_once_a_session_and_case_and_again_after_a_fault(
    record, access, monkeypatch
):
    actor = Actor("ada", "haematologist", user_id=1)
    for _ in range(3):
        access.notebook.looked(actor, "key", subject="case:ward/HL-1", what="case.view")
    access.notebook.looked(actor, "key", subject="case:ward/HL-2", what="case.view")
    access.notebook.looked(actor, "other", subject="case:ward/HL-1", what="case.view")
    with monkeypatch.context() as patch:
        patch.setattr(access.notebook, "_store", None)
        with pytest.raises(AttributeError):
            access.notebook.write()
    access.notebook.write()
    access.notebook.write()
    assert [row.subject for row in rows(record, AuditRow)] == [
        "case:ward/HL-1",
        "case:ward/HL-2",
        "case:ward/HL-1",
    ]


@pytest.mark.parametrize(
    "wanted",
    [
        *(
            "//evil.example",
            "/\\evil.example",
            "https://evil.example",
            "\\\\evil",
            "/%0d%0aSet-Cookie:x\r\n",
            "/\tx",
        ),
        *(
            "javascript:alert(1)",
            "",
            "evil",
            "/sign-in?next=/",
            "/sign-out",
            "/a\\b",
            "/" + "a" * 3000,
            "///evil",
            "/fragments/x",
        ),
    ],
)
def test_one_is_sent_nowhere_else_after_sign_in(wanted):
    assert local_path(wanted, otherwise="/") == "/"


def test_one_is_sent_back_to_the_page_that_one_wanted():
    assert local_path("/cases/ward/HL-1?show=refer", otherwise="/") == "/cases/ward/HL-1?show=refer"
