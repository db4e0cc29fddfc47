"""Somebody must restart a daemon that ends: the units and the compose file say who."""

import configparser
import importlib.util
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
UNITS = sorted((ROOT / "deploy" / "systemd").glob("*.service"))


def parse(path):
    unit = configparser.ConfigParser(strict=False, interpolation=None, delimiters=("=",))
    unit.optionxform = str
    unit.read(path)
    return unit


def test_every_role_has_a_unit():
    modules = {parse(path)["Service"]["ExecStart"].split()[2] for path in UNITS}
    assert modules == {"cloud_worker", "edge_agent", "clinician_dashboard"}
    assert all(importlib.util.find_spec(f"{module}.__main__") for module in modules)


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_a_unit_restarts_for_ever_and_ever_more_slowly(path):
    unit = parse(path)
    service = unit["Service"]
    assert (service["Restart"], unit["Unit"]["StartLimitIntervalSec"]) == ("always", "0")
    assert int(service["RestartMaxDelaySec"]) > int(service["RestartSec"]) > 0
    assert service["User"] == "hemolink"
    assert service["NoNewPrivileges"] == "yes"
    assert service["ProtectSystem"] == "strict"
    assert service["StateDirectory"].startswith("hemolink/")
    assert service["LimitCORE"] == "0"


def test_the_workers_unit_waits_for_the_drain_and_watches_it():
    service = parse(ROOT / "deploy" / "systemd" / "hemolink-worker@.service")["Service"]
    assert (service["Type"], service["WatchdogSec"]) == ("notify", "60")
    assert int(service["TimeoutStopSec"]) > 20 + 5


def test_compose_restarts_everything():
    services = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"]
    assert {service["restart"] for service in services.values()} == {"unless-stopped"}
