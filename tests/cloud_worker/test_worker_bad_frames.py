"""Whatever arrives, the worker lives: one dead letter with a stable code, one receipt, one acknowledgement."""

import hashlib
import json
import struct
import zlib

import cbor2
import pytest
from click.testing import CliRunner

from broker_config.codec import encode
from cloud_worker.commands import worker as command

pytestmark = pytest.mark.mosquitto

ROUTINE = "hemolink/v1/lab/scope-1/frame/routine"


def bomb():
    """A PNG of a few hundred bytes that would decode to 60000 x 60000 pixels."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(1000)))
        + chunk(b"IEND", b"")
    )


def corpus(fakes):
    """Name, topic, payload, expected code, and whether the edge can be told (its frame id can be read)."""
    good = fakes.make_frame()
    jpeg = fakes.image_of(100, encoding="jpg", width=640, height=480)
    big = {"width": 60000, "height": 60000}

    def with_image(image, **changes):
        return encode(fakes.make_frame(image=image, **changes))

    without_case = {key: value for key, value in cbor2.loads(encode(good)).items() if key != "case"}
    return [
        ("empty payload", ROUTINE, b"", "not_cbor", False),
        ("noise", ROUTINE, b"\xff\x00\x9f" * 50, "not_cbor", False),
        ("JSON", ROUTINE, b'{"frame_id": 1}', "not_cbor", False),
        ("an array", ROUTINE, cbor2.dumps([1, 2, 3]), "not_cbor", False),
        ("a nesting bomb", ROUTINE, b"\x81" * 20_000, "not_cbor", False),
        ("cut off", ROUTINE, encode(good)[:-40], "not_cbor", True),
        ("unknown version", ROUTINE, fakes.unknown_version(good), "unknown_version", True),
        ("a field missing", ROUTINE, cbor2.dumps(without_case), "invalid_field", True),
        ("an id that is none", ROUTINE, cbor2.dumps({"frame_id": "../../etc"}), "invalid_field", False),
        (
            "another device's topic",
            "hemolink/v1/lab/scope-9/frame/routine",
            encode(fakes.make_frame()),
            "topic_mismatch",
            True,
        ),
        (
            "another priority",
            "hemolink/v1/lab/scope-1/frame/stat",
            encode(fakes.make_frame()),
            "topic_mismatch",
            True,
        ),
        (
            "an unknown priority",
            "hemolink/v1/lab/scope-1/frame/soon",
            encode(fakes.make_frame()),
            "wrong_topic",
            False,
        ),
        (
            "the reserved site",
            "hemolink/v1/fleet/scope-1/frame/stat",
            encode(fakes.make_frame()),
            "wrong_topic",
            False,
        ),
        ("a wrong hash", ROUTINE, encode(fakes.make_frame(image_sha256="0" * 64)), "wrong_hash", True),
        ("no image", ROUTINE, with_image(b"plainly not an image"), "not_an_image", True),
        ("a pickle", ROUTINE, with_image(b"\x80\x04K\x01."), "not_an_image", True),
        ("another format", ROUTINE, with_image(jpeg), "wrong_encoding", True),
        ("another size", ROUTINE, with_image(fakes.image_of(9, width=32)), "wrong_size", True),
        ("a header alone", ROUTINE, with_image(fakes.image_of(9)[:14]), "bad_header", True),
        ("a truncated PNG", ROUTINE, with_image(fakes.image_of(9)[:-20]), "corrupt_image", True),
        (
            "a truncated JPEG",
            ROUTINE,
            with_image(jpeg[: len(jpeg) // 2], encoding="jpeg", width=640, height=480),
            "corrupt_image",
            True,
        ),
        ("a decompression bomb", ROUTINE, with_image(bomb(), **big), "image_too_large", True),
        ("a poison frame", ROUTINE, encode(fakes.make_frame(fakes.POISON)), "inference_failed", True),
        (
            "an answer that is none",
            ROUTINE,
            encode(fakes.make_frame(fakes.NOT_A_NUMBER)),
            "invalid_prediction",
            True,
        ),
    ]


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_each_kind_of_bad_frame_becomes_one_dead_letter(
    mosquitto_broker, fakes, start_worker, tmp_path, until, protocol
):
    cases = corpus(fakes)
    with fakes.FarEnd(mosquitto_broker.port, protocol=protocol) as far:
        # A window of two: were one of them not acknowledged, the rest would hardly arrive.
        running = start_worker(mosquitto_broker.port, protocol=protocol, receive_maximum=2)
        for _, topic, payload, _, _ in cases:
            far.send_raw(payload, topic=topic)
        good = far.send(fakes.make_frame(50))
        far.wait(lambda: "diagnosed" in far.statuses(good), 20)
        far.wait(lambda: len(far.rejections) >= len(cases))
        by_payload = {(one.payload_sha256, one.code): one for one in far.rejections}
        for name, topic, payload, code, told in cases:
            rejection = by_payload.get((hashlib.sha256(payload).hexdigest(), code))
            assert rejection is not None, (name, far.heard())
            where = "unknown" if code == "wrong_topic" else topic.split("/")[3]
            assert rejection.device == where, name
            if told:

                def receipts(frame_id=rejection.frame_id):
                    return [one for one in far.receipts if one.frame_id == frame_id]

                far.wait(receipts)  # told after the dead letter
                assert any(one.status == "rejected" and one.reason.startswith(code) for one in receipts()), (
                    name
                )
        assert len(far.rejections) == len(cases)
        until(lambda: running.worker.status()["taken"] == 0)
        assert running.worker.status()["rejected"] == len(cases)
        # The payload is kept, and of the case there is no word.
        folder = tmp_path / "w1" / "dead-letters"
        payloads = {hashlib.sha256(payload).hexdigest(): payload for _, _, payload, _, _ in cases}
        assert {path.stem: path.read_bytes() for path in folder.glob("*.bin")} == payloads
        assert not [path for path in folder.glob("*.json") if "C-1" in path.read_text()]


def test_the_edge_is_told_through_correlation_data_when_the_payload_is_noise(
    mosquitto_broker, fakes, start_worker
):
    with fakes.FarEnd(mosquitto_broker.port) as far:
        start_worker(mosquitto_broker.port)
        far.send_raw(b"noise", frame_id="a" * 32)
        far.wait(lambda: far.receipts)
        assert (far.receipts[0].frame_id, far.receipts[0].status) == ("a" * 32, "rejected")


def test_a_poison_frame_does_not_take_its_batch_with_it(mosquitto_broker, fakes, start_worker, until):
    with fakes.FarEnd(mosquitto_broker.port) as far:
        running = start_worker(mosquitto_broker.port, max_batch_size=4, decoders=1)
        running.model.gate.clear()
        far.send(fakes.make_frame(1))
        assert running.model.entered.wait(10)
        mates = [far.send(fakes.make_frame(20)), far.send(fakes.make_frame(21))]
        poison = far.send(fakes.make_frame(fakes.POISON))
        mates.append(far.send(fakes.make_frame(22)))
        until(lambda: running.worker.status()["queued"] == 4)
        running.model.gate.set()
        far.wait(lambda: len(far.receipts) == 5)
        assert all(far.statuses(frame) == ["diagnosed"] for frame in mates)
        assert far.statuses(poison) == ["rejected"]
        assert (far.rejections[0].code, far.rejections[0].attempts) == ("inference_failed", 3)
        poisoned = [batch for batch in running.model.batches if fakes.POISON in batch]
        # The last mate may come with it or in the batch after: decoding goes on while the model is held up.
        assert poisoned[0] in ([20, 21, fakes.POISON, 22], [20, 21, fakes.POISON])
        assert poisoned[1:] == [[fakes.POISON], [fakes.POISON]]


def test_dead_letters_are_bounded_and_counted(mosquitto_broker, fakes, start_worker, tmp_path, until):
    with fakes.FarEnd(mosquitto_broker.port) as far:
        running = start_worker(mosquitto_broker.port, dead_letters={"max_count": 3, "max_bytes": 1000})
        for number in range(6):
            far.send_raw(b"noise %d" % number)
        far.wait(lambda: len(far.rejections) == 6)
        until(lambda: running.worker.status()["taken"] == 0)  # or the same bytes would join what is in hand
        far.send_raw(b"noise 5")
        far.send_raw(b"x" * 5000)
        far.wait(lambda: len(far.rejections) == 8)
        notes = sorted(
            (json.loads(path.read_text()) for path in (tmp_path / "w1" / "dead-letters").glob("*.json")),
            key=lambda note: note["at"],
        )
        assert [(note["times"], note["kept"]) for note in notes] == [(1, True), (2, True), (1, False)]
        assert len(list((tmp_path / "w1" / "dead-letters").glob("*.bin"))) == 2


def test_dead_letters_can_be_listed_and_replayed_by_their_edge(
    mosquitto_broker, fakes, start_worker, tmp_path
):
    settings = tmp_path / "worker.yaml"
    settings.write_text(
        f"broker: {{port: {mosquitto_broker.port}}}\nworker: w1\ndirectory: {tmp_path / 'w1'}\n"
    )

    def replay(*arguments):
        return CliRunner().invoke(
            command, ["dead-letters", "replay", "--settings", str(settings), "--timeout", "5", *arguments]
        )

    with fakes.FarEnd(mosquitto_broker.port) as far:
        running = start_worker(mosquitto_broker.port)
        frame = far.send(fakes.make_frame(fakes.POISON))
        far.send_raw(b"noise")
        far.wait(lambda: len(far.rejections) == 2)
        listed = CliRunner().invoke(command, ["dead-letters", "list", "--settings", str(settings), "--json"])
        (note,) = (one for one in json.loads(listed.output) if one["frame_id"])
        assert (note["code"], note["topic"]) == ("inference_failed", ROUTINE)
        alone = replay(note["sha256"][:12])
        assert (alone.exit_code, "lab/scope-1 does not answer" in alone.output) == (1, True)
        running.model.infer = lambda batch: [running.model._answer(1) for _ in batch]  # the model is mended
        with fakes.ParkingEdge(mosquitto_broker.port, far, parked=[frame]):
            done = replay("--all")
            assert done.exit_code == 1, done.output  # there is nobody to send noise again
            assert "lab/scope-1 sends it again" in done.output
            far.wait(lambda: far.diagnoses)
            assert far.diagnoses[0].frame_id == frame.frame_id
            left = CliRunner().invoke(
                command, ["dead-letters", "list", "--settings", str(settings), "--json"]
            )
            assert [one["frame_id"] for one in json.loads(left.output)] == [None]
        unknown = replay("abc")
        assert unknown.exit_code == 1
        assert "no dead letter matches abc" in unknown.output
