"""The API against its own OpenAPI document: whatever is sent, by whomever, no 5xx, and every refusal in one shape."""

import json
from http import HTTPStatus

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings

from clinician_dashboard.access.roles import ROLES

QUIET = settings(
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture
def place(embedded_broker, tmp_path, desk, far_side, make, eventually):
    """A desk with a case, a dead letter and a microscope."""
    with (
        desk(embedded_broker.port, tmp_path / "desk", protocol="3.1.1") as running,
        far_side(embedded_broker.port, protocol="3.1.1") as far,
    ):
        frame = make.frame("HL-1")
        far.send(frame, make.diagnosis(frame, "CLL"), make.state(), make.rejection(make.frame("HL-1")))
        eventually(lambda: running.summary()["recorded"] == 1)
        yield running


def operations(desk):
    """Return every operation of the API but the live feed, which does not end."""
    document = desk.http.get("/api/v1/openapi.json").raise_for_status().json()
    document["paths"].pop("/api/v1/events")
    schema = schemathesis.openapi.from_dict(document)
    schema.config.base_url = desk.url
    schema.config.generation.update(modes=list(schemathesis.GenerationMode))
    return document, [result.ok() for result in schema.get_all_operations()]


def fault_of(answer):
    """Return what is wrong with an answer, or nothing."""
    if answer.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return f"{answer.status_code}"
    kind = "".join(answer.headers.get("content-type", []))
    if answer.status_code >= HTTPStatus.BAD_REQUEST and kind.startswith("application/json"):
        body = json.loads(answer.content)
        return "" if isinstance(body.get("error"), str) and body["error"] else f"no sentence in {body}"
    return ""


def fuzz(desk, role, *, examples):
    faults, sent = [], 0
    headers = {"Authorization": f"Bearer {desk.token(role)}"} if role else {}
    _, found = operations(desk)

    def ask(case):
        nonlocal sent
        sent += 1
        answer = case.call(headers=headers, timeout=20)
        if wrong := fault_of(answer):
            faults.append(f"{role} {case.method} {answer.request.url} {wrong}"[:400])

    for operation in found:
        settings(QUIET, max_examples=examples)(given(case=operation.as_strategy())(ask))()
    return sent, faults


def test_no_role_finds_a_fault_in_the_api(place):
    for role in (*ROLES, None):
        sent, faults = fuzz(place, role, examples=2)
        assert faults == []
        assert sent > 30
    assert place.http.get("/readyz").status_code == HTTPStatus.OK


def test_what_may_be_left_out_may_be_null(place):
    """Scripts write ``null`` for what they do not know; few made requests do."""
    document, _ = operations(place)
    case = "/api/v1/cases/{site}/{code}"
    acts = [
        path
        for path, methods in document["paths"].items()
        if path.startswith(f"{case}/") and "post" in methods
    ]
    assert len(acts) > 10
    for path in acts:
        reference = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
        schema = document["components"]["schemas"][reference["$ref"].rpartition("/")[2]]
        fields = dict.fromkeys(schema["properties"])
        for body in (fields, {"revision": None}):
            answer = place.http.post(path.format(site="ward", code="HL-1"), json=body)
            assert fault_of(answer) == "", path
    assert place.http.post(
        f"{case.format(site='ward', code='HL-1')}/claim", json={"revision": None}
    ).is_success


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_no_role_finds_a_fault_in_the_api_however_long_it_tries(place):
    for role in ROLES:
        _, faults = fuzz(place, role, examples=100)
        assert faults == []


def test_every_operation_says_what_it_answers(place):
    document, found = operations(place)
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert "422" in operation["responses"], (method, path)
            body = operation["responses"]["422"]["content"]["application/json"]["schema"]
            assert body == {"$ref": "#/components/schemas/ErrorOut"}, (method, path)
    assert len(found) > 20
