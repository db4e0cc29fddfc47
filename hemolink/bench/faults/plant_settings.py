"""The settings files of the plant's daemons, with shorter timers than a clinic's, so that minutes show what hours would."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hemolink.bench.faults.pictures import MAX_WORKER_PIXELS

SITE = "bench"
POOL = "bench"
RESEND_AFTER_S = 3.0
RESEND_MAX_S = 12.0
LEASE_S = 5.0
INFERENCE_DEADLINE_S = 4.0
_LOG = {"form": "json"}


def broker_section(*, port: int, username: str, password_file: Path) -> dict[str, Any]:
    """Return how a client reaches the broker through its proxy."""
    return {
        "host": "127.0.0.1",
        "port": port,
        "protocol": "5",
        "username": username,
        "password_file": str(password_file),
        "keepalive_s": 4,
        "connect_timeout_s": 4,
        "publish_timeout_s": 6,
        "reconnect_max_s": 3,
    }


def edge(
    name: str, *, home: Path, folder: Path, broker: Mapping[str, Any], resend: bool = True
) -> dict[str, Any]:
    """Return an edge's settings; its camera is a folder that the harness fills."""
    delivery: dict[str, Any] = {
        "settle_on": "recorded",
        "resend_after_s": RESEND_AFTER_S,
        "resend_max_s": RESEND_MAX_S,
        "lease_s": LEASE_S,
    }
    if not resend:
        delivery["resend"] = False
    return {
        "site": SITE,
        "device": name,
        "directory": str(home),
        "broker": dict(broker),
        "camera": {
            "kind": "folder",
            "path": str(folder),
            "watch": True,
            "settle_s": 0,
            "case": f"CASE-{name}".upper(),
            "log_file_names": True,  # the judge knows by it which picture was refused
        },
        "spool": {"max_bytes": 40_000_000, "min_free_bytes": 4_000_000},
        "delivery": delivery,
        "read_labels": False,
        "heartbeat_s": 2,
        "drain_s": 3,
        "log": dict(_LOG),
    }


def worker(name: str, *, home: Path, broker: Mapping[str, Any]) -> dict[str, Any]:
    """Return a worker's settings."""
    return {
        "worker": name,
        "pool": POOL,
        "directory": str(home),
        "broker": dict(broker),
        "max_batch_size": 4,
        "max_pixels": MAX_WORKER_PIXELS,
        "decoders": 1,
        "inference_deadline_s": INFERENCE_DEADLINE_S,
        "heartbeat_s": 2,
        "drain_s": 3,
        "log": dict(_LOG),
    }


def record(*, home: Path, broker: Mapping[str, Any]) -> dict[str, Any]:
    """Return the record's settings."""
    return {"host": "127.0.0.1", "port": 0, "directory": str(home), "broker": dict(broker), "log": dict(_LOG)}
