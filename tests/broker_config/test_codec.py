"""The codec: what goes in comes out, and nothing but a DecodeError comes out of anything else."""

import json
import time
import tracemalloc
from datetime import UTC, datetime, timedelta, timezone

import cbor2
import pytest

from broker_config.cbor_profile import check
from broker_config.codec import MAX_JSON_BYTES, decode, encode
from broker_config.delivery import DELIVERY, publication
from broker_config.desk_messages import Alert, CaseUpdate, Review
from broker_config.device_messages import Command, CommandResponse, DeviceState
from broker_config.errors import DecodeError, UnknownVersion
from broker_config.fleet_messages import FleetModel, FleetStops, ModelStop, WorkerState
from broker_config.messages import (
    CLASSES,
    Diagnosis,
    Frame,
    Message,
    ModelIdentity,
    Quality,
    Receipt,
    Rejection,
    new_frame_id,
    now,
)

SHA = "0" * 64
GRID = tuple((0.5,) * 7 for _ in range(7))


def frame(**changes: object) -> Frame:
    fields = {
        "frame_id": new_frame_id(),
        "case": "A-1",
        "site": "clinic",
        "device": "scope-1",
        "captured_at": now(),
        "encoding": "jpeg",
        "width": 4,
        "height": 4,
        "image_sha256": SHA,
        "image": b"\xff\xd8",
    }
    return Frame.model_validate({**fields, **changes})


def diagnosis(**changes: object) -> Diagnosis:
    fields = {
        "frame_id": new_frame_id(),
        "case": "A-1",
        "site": "clinic",
        "device": "scope-1",
        "captured_at": now(),
        "diagnosed_at": now(),
        "worker": "w1",
        "model": ModelIdentity(name="resnet34", version="1", weights_sha256=SHA),
        "probabilities": dict.fromkeys(CLASSES, 0.2),
        "prediction": "ALL",
        "prediction_set": ("ALL", "AML"),
        "decision": "refer",
        "ood_score": 1.0,
        "ood_threshold": 2.0,
        "activation": GRID,
        "image_sha256": SHA,
    }
    return Diagnosis.model_validate({**fields, **changes})


def one_of_each() -> list[Message]:
    state = DeviceState(site="clinic", device="d", presence="online", birth=3, at=now())
    return [
        frame(quality=Quality(focus=1.5, flags=("soft_focus",)), stage_x_um=-3.25),
        diagnosis(reasons=("ood: unlike anything in training",)),
        Receipt(frame_id=new_frame_id(), status="recorded", by="record", at=now()),
        Rejection(
            site="clinic", device="d", code="not_cbor", reason="é", payload_sha256=SHA, by="w1", at=now()
        ),
        Review(
            case="A-1",
            site="clinic",
            device="d",
            version=2,
            status="amended",
            conclusion="AML",
            agrees=True,
            content_sha256=SHA,
            signed_at=now(),
            by="desk",
        ),
        Alert(
            case="A-1",
            site="clinic",
            device="d",
            state="open",
            opened_at=now(),
            due_at=now(),
            by="desk",
            at=now(),
        ),
        state,
        Command(
            request_id=new_frame_id(),
            verb="settings",
            settings={"a": True, "b": 1, "c": 0.5, "d": "x"},
            at=now(),
        ),
        CommandResponse(request_id=new_frame_id(), verb="status", ok=True, state=state, at=now()),
        WorkerState(worker="w1", pool="p", presence="draining", birth=0, at=now(), frames_per_s=1.25),
        FleetModel(name="resnet34", version="1", weights_sha256=SHA, at=now()),
        FleetStops(
            stops=(
                ModelStop(weights_sha256=SHA, name="resnet34", version="1", reason="drift", stopped_at=now()),
            ),
            at=now(),
            by="desk",
        ),
        CaseUpdate(
            case="A-1",
            site="clinic",
            device="d",
            revision=3,
            decision="refer",
            urgency="high",
            counted=4,
            referred=1,
            by="desk",
            opened_at=now(),
            changed_at=now(),
        ),
        diagnosis(
            prediction="AML",
            finer={
                "label": "AML/M3",
                "level": 2,
                "probabilities": {"AML/M3": 0.19, "AML/not-M3": 0.01},
                "alert": "APL suspected",
                "alert_threshold": 0.3,
            },
        ),
    ]


@pytest.mark.parametrize("message", one_of_each(), ids=lambda message: message.kind)
def test_every_message_survives_the_wire(message: Message) -> None:
    assert decode(encode(message), type(message)) == message


def test_every_kind_of_the_delivery_table_is_tried_above() -> None:
    assert {type(message) for message in one_of_each()} == {row.message for row in DELIVERY.values()}


HOSTILE_CBOR = {
    "nesting bomb of arrays": b"\x81" * 100_000 + b"\x00",
    "nesting bomb of maps": b"\xa1\x61a" * 100_000 + b"\x00",
    "text of 2**60 bytes": b"\xa1\x61a\x7b" + (2**60).to_bytes(8, "big"),
    "bytes of 2**64 - 1": b"\xa1\x61a\x5b" + b"\xff" * 8,
    "array of 2**40 items": b"\xa1\x61a\x9b" + (2**40).to_bytes(8, "big"),
    "map of 2**60 pairs": b"\xbb" + (2**60).to_bytes(8, "big"),
    "indefinite map": b"\xbf\x61a\x01\xff",
    "indefinite bytes": b"\xa1\x61a\x5f\x41x\x41y\xff",
    "datetime tag": cbor2.dumps({"captured_at": datetime(2026, 1, 1, tzinfo=UTC)}),
    "bignum of 100 kB": b"\xa1\x61a\xc2\x5a" + (100_000).to_bytes(4, "big") + b"\xff" * 100_000,
    "bigfloat with a huge exponent": b"\xa1\x61a\xc5\x82\x1b" + b"\x7f" + b"\xff" * 7 + b"\x01",
    "decimal fraction with a huge exponent": b"\xa1\x61a\xc4\x82\x1b" + b"\x7f" + b"\xff" * 7 + b"\x01",
    "reference to itself": b"\xd8\x1c\xa1\x61a\xd8\x1d\x00",
    "regular expression tag": cbor2.dumps({"a": cbor2.CBORTag(35, "(a+)+$")}),
    "key that is a list": b"\xa1\x81\x01\x01",
    "key that is a number": b"\xa1\x01\x01",
    "one key twice": b"\xa2\x61a\x01\x61a\x02",
    "bytes after the end": encode(frame()) + b"\x00",
    "two frames in one": encode(frame()) * 2,
    "undefined": b"\xa1\x61a\xf7",
    "many items": b"\xa1\x61a\x9a" + (50_000).to_bytes(4, "big") + b"\x00" * 50_000,
    "text that is not UTF-8": b"\xa1\x61a\x61\xff",
    "not a map": cbor2.dumps([1, 2]),
    "empty": b"",
}


@pytest.mark.parametrize("payload", HOSTILE_CBOR.values(), ids=HOSTILE_CBOR.keys())
def test_hostile_cbor_ends_in_a_decode_error_at_once(payload: bytes) -> None:
    tracemalloc.start()
    began = time.perf_counter()
    try:
        with pytest.raises(DecodeError) as caught:
            decode(payload, Frame)
        elapsed, peak = time.perf_counter() - began, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert elapsed < 0.5
    assert peak < 2_000_000
    assert len(str(caught.value)) < 500


HOSTILE_JSON = {
    "nesting bomb": b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}",
    "NaN": b'{"ood_score": NaN}',
    "Infinity": b'{"ood_score": Infinity}',
    "huge whole number": b'{"schema_version": ' + b"9" * 100_000 + b"}",
    "one name twice": b'{"verb": "pause", "verb": "resume"}',
    "UTF-16": '{"verb": "pause"}'.encode("utf-16"),
    "lone surrogate": b'{"schema_version": 1, "verb": "\\ud800"}',
    "nested version": b'{"schema_version": ' + b"[" * 900 + b"]" * 900 + b"}",
    "not an object": b"[]",
    "a string": b'"pause"',
    "empty": b"",
    "too large": b" " * (MAX_JSON_BYTES + 1),
}


@pytest.mark.parametrize("payload", HOSTILE_JSON.values(), ids=HOSTILE_JSON.keys())
def test_hostile_json_ends_in_a_decode_error_at_once(payload: bytes) -> None:
    began = time.perf_counter()
    with pytest.raises(DecodeError) as caught:
        decode(payload, Command)
    assert time.perf_counter() - began < 0.5
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("version", [0, 2, -1, 2**63, True, "1", None, 1.5, [[[1]]]])
def test_another_schema_version_is_named(version: object) -> None:
    payload = json.dumps({**json.loads(encode(one_of_each()[2])), "schema_version": version}).encode()
    with pytest.raises(UnknownVersion, match="upgrade the receiver first"):
        decode(payload, Receipt)


@pytest.mark.parametrize(
    ("changes", "message_type"),
    [
        ({"at": "0001-01-01T00:00:00+14:00"}, Receipt),
        ({"at": "2026-01-31T12:00:00"}, Receipt),
        ({"reason": "a\x00b"}, Receipt),
        ({"frame_id": "0" * 32 + "\n"}, Receipt),
        ({"status": "lost"}, Receipt),
        ({"activation": [[0.5] * 7] * 6}, Diagnosis),
        ({"activation": [[0.5] * 6] * 7}, Diagnosis),
        ({"probabilities": {"healthy": 1.0}}, Diagnosis),
        ({"probabilities": dict.fromkeys(CLASSES, 0.3)}, Diagnosis),
        ({"ood_score": 1e999}, Diagnosis),
    ],
)
def test_a_field_out_of_bounds_is_named(changes: dict[str, object], message_type: type[Message]) -> None:
    message = next(one for one in one_of_each() if type(one) is message_type)
    payload = json.dumps({**json.loads(encode(message)), **changes}).encode()
    with pytest.raises(DecodeError) as caught:
        decode(payload, message_type)
    assert caught.value.code in ("invalid_field", "not_json")
    assert next(iter(changes)) in str(caught.value) or caught.value.code == "not_json"


def test_a_field_of_a_newer_peer_is_ignored() -> None:
    message = one_of_each()[2]
    payload = json.dumps({**json.loads(encode(message)), "added_later": {"a": 1}}).encode()
    assert decode(payload, Receipt) == message


def test_times_are_kept_in_utc() -> None:
    east = datetime(2026, 1, 31, 13, 0, tzinfo=timezone(timedelta(hours=1)))
    assert decode(encode(frame(captured_at=east)), Frame).captured_at == datetime(
        2026, 1, 31, 12, 0, tzinfo=UTC
    )


def test_what_we_encode_is_within_the_profile() -> None:
    check(encode(frame(quality=Quality(flags=("a", "b")), priority="stat", exposure_ms=1.5)))


def test_a_publication_carries_its_row() -> None:
    message = frame()
    made = publication("hemolink/v1/clinic/scope-1/frame/routine", message)
    assert (made.qos, made.retain, made.content_type) == (1, False, "application/cbor")
    assert made.correlation_data == message.frame_id.encode()
    command = publication(
        "t", next(one for one in one_of_each() if one.kind == "command"), response_topic="r"
    )
    assert (command.expiry_s, command.retain, command.response_topic) == (30, False, "r")


def test_no_text_of_a_payload_stands_in_an_error() -> None:
    name = "MUELLER ANNA"
    fields = json.loads(encode(one_of_each()[5]))
    for changes in ({"schema_version": name}, {"settings": {name: [1]}}, {"verb": name}, {"at": name}):
        with pytest.raises(DecodeError) as caught:
            decode(json.dumps({**fields, **changes}).encode(), Command)
        assert name not in str(caught.value)


def test_a_retry_names_its_frames() -> None:
    order = Command(request_id=new_frame_id(), verb="retry", frame_ids=(new_frame_id(),), at=now())
    assert decode(encode(order), Command) == order
