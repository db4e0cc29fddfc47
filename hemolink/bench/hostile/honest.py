"""Honest messages of every type of the contract: what the generators start from."""

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from random import Random
from typing import Any

import cbor2

from broker_config import device_messages, fleet_messages, messages
from broker_config.topics import Topics
from hemolink.bench.hostile.shot import DEVICE, ROOT, SITE, hexadecimal

KINDS = (
    "frame",
    "diagnosis",
    "receipt",
    "rejected",
    "state",
    "worker-state",
    "fleet-model",
    "fleet-stops",
    "command",
    "response",
)
TYPES: Mapping[str, type[messages.Message]] = {
    "frame": messages.Frame,
    "diagnosis": messages.Diagnosis,
    "receipt": messages.Receipt,
    "rejected": messages.Rejection,
    "state": device_messages.DeviceState,
    "worker-state": fleet_messages.WorkerState,
    "fleet-model": fleet_messages.FleetModel,
    "fleet-stops": fleet_messages.FleetStops,
    "command": device_messages.Command,
    "response": device_messages.CommandResponse,
}
_TOPICS = Topics(ROOT)
_WEIGHTS = (30, 14, 16, 8, 8, 8, 3, 3, 13, 1)
MODEL = {
    "name": "hostile",
    "version": "1",
    "weights_sha256": "f" * 64,
    "engine": "none",
    "training_data": "none",
    "simulated": True,
}


def kind_of(random: Random) -> str:
    """Return a kind of message; those that reach more daemons come more often."""
    return random.choices(KINDS, _WEIGHTS)[0]


def tiny_image(random: Random) -> bytes:
    """Return a valid PNG of 8 x 8 pixels with random grey values, made without an image library."""
    import struct  # noqa: PLC0415 - here alone
    import zlib  # noqa: PLC0415

    def chunk(name: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        )

    rows = b"".join(b"\0" + random.randbytes(24) for _ in range(8))
    header = struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def moment() -> str:
    """Return the present time as messages write it."""
    return datetime.now(UTC).isoformat()


def fields(  # noqa: PLR0911 - one return a type, as the contract has one class a type
    kind: str, random: Random, *, site: str = SITE, device: str = DEVICE
) -> dict[str, Any]:
    """Return the fields of a valid message that nobody has sent before.

    Args:
        kind: One of `KINDS`.
        random: Source of its ids and figures.
        site: The site it states.
        device: The device it states.
    """
    frame_id, at = hexadecimal(random, 32), moment()
    place = {"site": site, "device": device}
    case = f"H-{random.randrange(40)}"
    match kind:
        case "frame":
            image = tiny_image(random)
            return {
                "schema_version": 1,
                "frame_id": frame_id,
                "case": case,
                **place,
                "priority": "routine",
                "sequence": random.randrange(1000),
                "captured_at": at,
                "encoding": "png",
                "width": 8,
                "height": 8,
                "pixel_size_um": 0.25,
                "exposure_ms": 4.0,
                "focus_um": 1.5,
                "stage_x_um": 10.0,
                "stage_y_um": -10.0,
                "capture_ms": 12.0,
                "quality": {"focus": 0.1, "brightness": 0.5, "flags": ["soft_focus"]},
                "simulated": True,
                "image_sha256": hashlib.sha256(image).hexdigest(),
                "image": image,
            }
        case "diagnosis":
            return {
                "schema_version": 1,
                "frame_id": frame_id,
                "case": case,
                **place,
                "priority": "routine",
                "captured_at": at,
                "diagnosed_at": at,
                "worker": "ghost",
                "model": dict(MODEL),
                "probabilities": {"healthy": 0.6, "ALL": 0.1, "AML": 0.1, "CLL": 0.1, "CML": 0.1},
                "prediction": "healthy",
                "prediction_set": ["healthy"],
                "decision": "report",
                "reasons": [],
                "quality": {"focus": 0.1, "flags": []},
                "ood_score": 1.0,
                "ood_threshold": 2.0,
                "activation": [[0.5] * 7 for _ in range(7)],
                "activation_absent": "",
                "finer": {
                    "label": "healthy/a",
                    "name": "a subtype",
                    "level": 2,
                    "system": "FAB",
                    "probabilities": {"healthy/a": 0.3, "healthy/b": 0.1},
                    "alert": "",
                    "alert_threshold": 0.2,
                },
                "timings": {"capture_ms": 1.0, "queue_ms": 1.0},
                "image_sha256": hexadecimal(random, 64),
                "frame_simulated": True,
            }
        case "receipt":
            return {
                "schema_version": 1,
                "frame_id": frame_id,
                "status": random.choice(["diagnosed", "recorded", "rejected", "retry"]),
                "reason": "none",
                "by": "ghost",
                "at": at,
            }
        case "rejected":
            return {
                "schema_version": 1,
                "frame_id": frame_id,
                "case": case,
                **place,
                "sequence": 5,
                "code": "invented",
                "reason": "invented",
                "attempts": 1,
                "payload_bytes": 5,
                "payload_sha256": hexadecimal(random, 64),
                "by": "ghost",
                "at": at,
            }
        case "state":
            return {
                "schema_version": 1,
                **place,
                "presence": "online",
                "birth": 0,
                "at": at,
                "software": "hemolink 0",
                "camera": "none",
                "simulated": True,
                "capturing": False,
                "case": case,
                "captured": 1,
                "quality_rejected": 0,
                "quality_reasons": {"out_of_focus": 1},
                "unreadable": 0,
                "finished": False,
                "next_sequence": 0,
                "oldest_waiting": None,
                "damaged": 0,
                "spooled": 0,
                "spool_bytes": 0,
                "parked": 0,
                "settled": 0,
                "signed": 0,
                "last_signed": None,
                "alarm": "",
            }
        case "worker-state":
            return {
                "schema_version": 1,
                "worker": "ghost",
                "pool": "fuzz",
                "presence": "offline",
                "birth": 1,
                "at": at,
                "software": "none",
                "model": dict(MODEL),
                "diagnosed": 1,
                "rejected": 0,
                "queued": 0,
                "frames_per_s": 0.5,
                "stopped": "",
            }
        case "fleet-model" | "fleet-stops":
            return _of_the_fleet(kind, random, at=at)
        case "command":
            return {
                "schema_version": 1,
                "request_id": frame_id,
                "verb": "status",
                "case": None,
                "priority": None,
                "frames": None,
                "settings": {},
                "frame_ids": [],
                "at": at,
            }
        case "response":
            return {
                "schema_version": 1,
                "request_id": frame_id,
                "verb": "status",
                "ok": True,
                "message": "",
                "state": None,
                "at": at,
            }
    raise ValueError(f"no kind {kind!r}: use one of {', '.join(KINDS)}")


def _of_the_fleet(kind: str, random: Random, *, at: str) -> dict[str, Any]:
    model = {"name": "other", "version": "2", "weights_sha256": hexadecimal(random, 64)}
    if kind == "fleet-model":
        return {"schema_version": 1, **model, "at": at}
    stop = {**model, "reason": "drift", "stopped_at": at}
    return {"schema_version": 1, "stops": [stop], "at": at, "by": "desk"}


def encode(kind: str, content: Any) -> bytes:
    """Return the payload of any fields, valid or not: CBOR for a frame, JSON otherwise (NaN and surrogates as Python writes them)."""
    if kind == "frame":
        return cbor2.dumps(content)
    return json.dumps(content).encode()


def topic(
    kind: str, *, site: str = SITE, device: str = DEVICE, worker: str = "ghost", verb: str = "status"
) -> bytes:
    """Return the topic on which a kind of message belongs."""
    base = f"{ROOT}/v1/{site}/{device}"
    names = {
        "frame": f"{base}/frame/routine",
        "worker-state": f"{ROOT}/v1/fleet/{worker}/state",
        "fleet-model": _TOPICS.fleet_model(),
        "fleet-stops": _TOPICS.fleet_stops(),
        "command": f"{base}/command/{verb}",
        "response": f"{base}/command/{verb}/response",
    }
    return names.get(kind, f"{base}/{kind}").encode()
