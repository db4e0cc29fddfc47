"""Invented devices, workers, frames, diagnoses and dead letters that look right: what must be bounded, not refused."""

from collections.abc import Callable
from random import Random

from hemolink.bench.hostile import honest, images
from hemolink.bench.hostile.fields import TEXTS
from hemolink.bench.hostile.shot import DEVICE, MODEL_MARK, PAYLOAD_MARK, SCRIPTS, SITE, Shot, hexadecimal

FAMILY = "strangers"
_TWICE = 16


def _shot(
    kind: str, name: str, content: dict[str, object], *, device: str = DEVICE, worker: str = "ghost"
) -> Shot:
    return Shot(FAMILY, name, honest.topic(kind, device=device, worker=worker), honest.encode(kind, content))


def _diagnosis_of_nothing(random: Random) -> Shot:
    return _shot("diagnosis", "a diagnosis of no frame", honest.fields("diagnosis", random))


def _diagnosis_flood(random: Random) -> Shot:
    content = honest.fields("diagnosis", random) | {"case": "H-FLOOD"}
    return _shot("diagnosis", "many diagnoses of one case", content)


def _second_opinion(random: Random) -> Shot:
    """One of sixteen invented frames, by model after model, about image after image."""
    content = honest.fields("diagnosis", random) | {"frame_id": f"{random.randrange(_TWICE):032x}"}
    content["model"] = honest.MODEL | {"weights_sha256": f"{random.randrange(4):064x}"}
    return _shot("diagnosis", "contradictory diagnoses", content)


def _incoherent(random: Random) -> Shot:
    content = honest.fields("diagnosis", random)
    content["probabilities"] = random.choice(
        [
            {"healthy": 0.9, "ALL": 0.9, "AML": 0.9, "CLL": 0.9, "CML": 0.9},
            {"healthy": 1.0, "ALL": 0.0, "AML": 0.0, "CLL": 0.0},
            {"healthy": 0.6, "ALL": 0.1, "AML": 0.1, "CLL": 0.1, "APL": 0.1},
            dict.fromkeys(range(5), 0.2),
        ]
    )
    return _shot("diagnosis", "probabilities that are none", content)


def _hostile_text(random: Random) -> Shot:
    """Script where a page shows text: a diagnosis, a dead letter or a state that the record must keep and escape."""
    text = random.choice(SCRIPTS)
    kind = random.choice(["diagnosis", "rejected", "state", "worker-state", "fleet-model"])
    name = f"ghost-{random.randrange(20)}"
    content = honest.fields(kind, random, device=name)
    match kind:
        case "diagnosis":
            content |= {"reasons": [text], "quality": {"flags": [text]}, "decision": "refer"}
            content["model"] = honest.MODEL | {"name": text, "version": text, "training_data": text}
        case "rejected":
            content["reason"] = text
        case "state":
            content |= {
                "software": text,
                "camera": text,
                "alarm": text,
                "quality_reasons": {text: 1},
                "birth": 1,
            }
        case "worker-state":
            content |= {"worker": name, "software": text, "presence": "online"}
            content["model"] = honest.MODEL | {"name": text, "training_data": text}
        case _:
            shown = text.replace(PAYLOAD_MARK, MODEL_MARK)
            content |= {"name": shown, "version": shown}
    return _shot(kind, f"{kind} with a script", content, device=name, worker=name)


def _frame(random: Random) -> Shot:
    """A good frame of a stranger's case: it is diagnosed and recorded like any other."""
    picture = (images.picture("png", random.randrange(16)), "png", 64, 48)
    return _shot("frame", "a good frame of a strange case", images.frame(random, picture))


def _same_frame(random: Random) -> Shot:
    """One of sixteen frame ids, with image after image: the first stays."""
    picture = (images.picture("png", random.randrange(16)), "png", 64, 48)
    content = images.frame(random, picture, frame_id=f"{random.randrange(_TWICE):032x}", case="H-TWICE")
    return _shot("frame", "a frame id with another image", content)


def _odd_frame(random: Random) -> Shot:
    """A good frame taken in the year 1 or 9999, with figures at the end of their range."""
    picture = (images.picture("jpeg", random.randrange(16)), "jpeg", 64, 48)
    content = images.frame(
        random, picture, case="H-TIME", sequence=2**53 - 1, capture_ms=1e300, stage_x_um=-1e308
    )
    content["captured_at"] = random.choice(
        ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "1582-10-10T00:00:00Z"]
    )
    return _shot("frame", "a good frame of an absurd time", content)


def _many_flags(random: Random) -> Shot:
    picture = (images.picture("png", random.randrange(16)), "png", 64, 48)
    flags = [random.choice(list(TEXTS.values()))[:100].encode("ascii", "ignore").decode() for _ in range(50)]
    content = images.frame(
        random, picture, quality={"focus": 1e308, "focus_threshold": -1e308, "flags": flags}
    )
    return _shot("frame", "a good frame with 50 strange flags", content)


def rejection_flood(random: Random) -> Shot:
    """Return one of many dead letters of frames that never were."""
    content = honest.fields("rejected", random, device=f"ghost-{random.randrange(4)}")
    content["frame_id"] = random.choice([None, content["frame_id"]])
    return _shot("rejected", "dead letters of no frame", content, device=str(content["device"]))


def _stranger(random: Random) -> Shot:
    """A device that nobody has heard of before, for each message another."""
    name = f"x{hexadecimal(random, 8)}"
    content = honest.fields("state", random, device=name) | {"birth": 2**53 - 1, "presence": "online"}
    return _shot("state", "the state of a strange device", content, device=name)


def _strange_worker(random: Random) -> Shot:
    name = f"x{hexadecimal(random, 8)}"
    content = honest.fields("worker-state", random) | {
        "worker": name,
        "presence": "online",
        "birth": random.randrange(9),
    }
    return _shot("worker-state", "the state of a strange worker", content, worker=name)


def _late_will(random: Random) -> Shot:
    """The will of a live device's former self."""
    content = honest.fields("state", random) | {
        "presence": "offline",
        "birth": 0,
        "alarm": "the connection was lost",
    }
    return _shot("state", f"a late will of {SITE}/{DEVICE}", content)


_WAYS: dict[Callable[[Random], Shot], int] = {
    _diagnosis_of_nothing: 3,
    _diagnosis_flood: 3,
    _second_opinion: 2,
    _incoherent: 2,
    _hostile_text: 4,
    _frame: 2,
    _same_frame: 2,
    _odd_frame: 1,
    _many_flags: 1,
    rejection_flood: 4,
    _stranger: 2,
    _strange_worker: 2,
    _late_will: 1,
}


def shoot(random: Random) -> Shot:
    """Return one such message."""
    return random.choices(list(_WAYS), list(_WAYS.values()))[0](random)
