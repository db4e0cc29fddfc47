"""Sign-in through an identity provider that signs with real keys: what is accepted, and everything that is not."""

import time

import httpx
import pytest
from pydantic import ValidationError

from broker_config.embedded import EmbeddedBroker
from clinician_dashboard.access.door import COOKIE
from clinician_dashboard.access.roles import Actor
from clinician_dashboard.access.settings import SignInSettings
from clinician_dashboard.audit.tables import AuditRow
from tests.clinician_dashboard.desk.identity_provider import run_provider
from tests.clinician_dashboard.desk.people import person
from tests.clinician_dashboard.desk.running import run_desk


@pytest.fixture
def provider():
    with run_provider() as provider:
        yield provider


@pytest.fixture
def place(embedded_broker, tmp_path, desk, provider):
    settings = SignInSettings(oidc=provider.settings())
    with desk(embedded_broker.port, tmp_path / "desk", protocol="3.1.1", sign_in=settings) as running:
        yield running


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """One provider and one dashboard for what leaves nothing behind."""
    broker = EmbeddedBroker()
    broker.start()
    try:
        with run_provider() as provider:
            settings = SignInSettings(oidc=provider.settings())
            folder = tmp_path_factory.mktemp("desk")
            with run_desk(broker.port, folder, protocol="3.1.1", sign_in=settings) as running:
                yield provider, running
    finally:
        broker.stop()


def sign_in(place, *, client=None, following="/"):
    """Go the whole way as a browser does; return the client and the dashboard's last answer."""
    client = client or place.stranger()
    left = client.get("/sign-in/provider", params={"next": following})
    if left.status_code != 303:
        return client, left
    back = httpx.get(left.headers["location"], verify=False)  # noqa: S501 - plain HTTP
    return client, client.get(back.headers["location"])


@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
def test_a_person_of_the_organisation_comes_in_and_is_made_a_user(place, provider, algorithm):
    provider.algorithm = algorithm
    assert "Sign in with your organisation" in place.stranger().get("/sign-in").text
    client, answer = sign_in(place, following="/fleet")
    assert (answer.status_code, answer.headers["location"]) == (303, "/fleet")
    assert client.get("/session").json()["role"] == "haematologist"
    (user,) = [one for one in place.dashboard.access.users.all() if one.oidc_subject]
    assert (user.name, user.full_name, user.password_hash) == ("ada", "Dr Ada Example", None)
    # The next time it is the same user; a new role at the provider ends the sessions of the old one.
    provider.claims |= {"groups": ["heads"], "preferred_username": "renamed"}
    again, answer = sign_in(place)
    assert answer.status_code == 303
    assert again.get("/session").json() | {"csrf": ""} == {"name": "ada", "role": "lab_lead", "csrf": ""}
    assert client.get("/session").status_code == 401
    assert provider.faults == []


def test_who_comes_by_the_provider_has_no_way_in_by_password_and_chooses_one_to_sign_with(place):
    client, _ = sign_in(place)
    access = place.dashboard.access
    page = client.get("/account").text
    assert "Choose a password for signing" in page
    csrf = client.get("/session").json()["csrf"]
    chosen = {"password": "nine blue kettles", "again": "nine blue kettles"}
    assert client.post("/account/password", data=chosen, headers={"X-CSRF-Token": csrf}).status_code == 200
    actor = access.sessions.find(client.cookies[COOKIE]).actor
    access.confirm_password(actor, "nine blue kettles")
    with pytest.raises(Exception, match="Name or password is wrong"):
        access.sign_in("ada", "nine blue kettles", address="127.0.0.1", agent="")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"nonce": "another"}, "wrong nonce"),
        ({"nonce": None}, "wrong nonce"),
        ({"aud": "another"}, "wrong audience"),
        ({"aud": ["hemolink", "another"]}, "wrong audience"),
        ({"azp": "another"}, "wrong audience"),
        ({"iss": "https://another.example"}, "wrong issuer"),
        ({"exp": time.time() - 3600}, "wrong expiry"),
        ({"exp": "tomorrow"}, "wrong expiry"),
        ({"exp": None}, "wrong expiry"),
        ({"iat": time.time() + 3600}, "wrong time of issue"),
        ({"nbf": time.time() + 3600}, "wrong not before"),
        ({"sub": ""}, "wrong subject"),
        ({"sub": 7}, "wrong subject"),
        ({"groups": ["staff"]}, "gives you no role here"),
        ({"groups": None}, "gives you no role here"),
        ({"groups": {"blood": 1}}, "gives you no role here"),
        ({"preferred_username": "<script>"}, "A login has up to 80 letters"),
    ],
)
def test_an_answer_that_is_not_as_it_must_be_lets_nobody_in(shared, wrong, said):
    provider, place = shared
    provider.change = lambda claims: claims.update(wrong)
    client, answer = sign_in(place)
    assert answer.status_code == 403
    assert said in answer.text
    assert client.get("/session").status_code == 401
    with place.dashboard.access.reading() as session:
        last = session.query(AuditRow).order_by(AuditRow.number.desc()).first()
        assert (last.action, last.details["method"]) == ("session.refused", "oidc")


def test_unsigned_and_wrongly_signed_tokens_let_nobody_in_and_new_keys_are_fetched(place, provider):
    provider.unsigned = True
    assert "ID token is not accepted" in sign_in(place)[1].text
    provider.unsigned, provider.stranger_signs = False, True
    assert "ID token is not accepted" in sign_in(place)[1].text
    provider.stranger_signs = False
    assert sign_in(place)[1].status_code == 303
    provider.roll_keys()
    place.dashboard.access.provider._known.keys_at -= 31  # it has not just been asked
    assert sign_in(place)[1].status_code == 303


def test_an_answer_is_good_once_and_in_the_browser_that_asked(place):
    client = place.stranger()
    left = client.get("/sign-in/provider")
    back = httpx.get(left.headers["location"], verify=False).headers["location"]  # noqa: S501 - plain HTTP
    assert "begun in another browser" in place.stranger().get(back).text
    assert client.get(back).status_code == 303
    assert client.get(back).status_code == 403
    assert client.get("/sign-in/answer", params={"error": "access_denied"}).status_code == 403
    elsewhere = place.stranger().get("/sign-in/provider", params={"next": "//evil.example/"})
    assert "evil" not in elsewhere.headers["location"]


def test_a_name_that_is_taken_and_a_user_who_is_switched_off_do_not_come_in(place, provider):
    access = place.dashboard.access
    admin = person(access, "admin")
    provider.claims["preferred_username"] = "lab-lead"  # who is here by password
    assert "There is a user &#39;lab-lead&#39; already" in sign_in(place)[1].text
    provider.claims["preferred_username"] = "ada"
    client, _ = sign_in(place)
    ada = access.users.named("ada")
    by = Actor(admin.name, "admin", user_id=admin.id)
    access.users.change(ada.id, by=by, role="haematologist", full_name="A", active=False)
    assert client.get("/session").status_code == 401
    assert "switched off on this dashboard" in sign_in(place)[1].text


def test_a_provider_that_calls_itself_otherwise_or_is_away_is_said(place, provider):
    provider.issuer_says = "https://another.example"
    answer = place.stranger().get("/sign-in/provider")
    assert (answer.status_code, "calls itself otherwise" in answer.text) == (503, True)
    provider.issuer_says = ""
    place.dashboard.access.provider._settings = place.dashboard.access.provider._settings.model_copy(
        update={"issuer": "http://127.0.0.1:1"}
    )
    answer = place.stranger().get("/sign-in/provider")
    assert (answer.status_code, "does not answer" in answer.text) == (503, True)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"issuer": "http://idp.example"}, "https address"),
        ({"roles": {}}, "at least 1"),
        ({"roles": {"a": "boss"}}, "Input should be"),
        ({"scopes": ["profile"]}, "'openid' must be among them"),
    ],
)
def test_settings_that_cannot_be_right_are_refused(shared, wrong, said):
    provider, _ = shared
    with pytest.raises(ValidationError, match=said):
        SignInSettings(oidc=provider.settings(**wrong))


def test_nobody_is_locked_out_by_a_setting():
    with pytest.raises(ValidationError, match="lets nobody in"):
        SignInSettings(passwords=False)
