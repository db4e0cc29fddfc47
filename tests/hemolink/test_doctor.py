"""The doctor names each fault, its cause and its remedy."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from hemolink.commands.doctor import doctor
from model_zoo.catalogue import package_folders


def run_doctor(*settings: Path) -> tuple[int, list[dict[str, str]]]:
    arguments = [word for path in settings for word in ("--settings", str(path))]
    result = CliRunner().invoke(doctor, [*arguments, "--json"])
    report = json.loads(result.output.splitlines()[-1])
    assert report["faults"] == sum(finding["verdict"] == "FAULT" for finding in report["findings"])
    return result.exit_code, report["findings"]


def faults(findings: list[dict[str, str]]) -> dict[str, str]:
    return {one["area"]: f"{one['said']} -> {one['remedy']}" for one in findings if one["verdict"] == "FAULT"}


def write(path: Path, **settings: object) -> Path:
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return path


def edge_file(tmp_path: Path, *, port: int, **more: object) -> Path:
    camera = more.pop("camera", {"kind": "simulated"})
    return write(
        tmp_path / "edge.yaml",
        site="s",
        device="d",
        directory=str(tmp_path / "edge"),
        camera=camera,
        broker={"port": port, "protocol": "3.1.1"},
        **more,
    )


def test_this_machine_is_well_without_any_settings():
    result = subprocess.run(
        [sys.executable, "-m", "hemolink", "doctor"], capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 0, result.stdout
    assert "machine" in result.stdout
    assert "FAULT: 0" in result.stdout
    assert result.stderr == ""


def test_a_healthy_machine_has_no_fault(tmp_path, embedded_broker):
    edge = edge_file(tmp_path, port=embedded_broker.port)
    dashboard = write(
        tmp_path / "dashboard.yaml",
        directory=str(tmp_path / "dashboard"),
        database_url=None,
        broker={"port": embedded_broker.port, "protocol": "3.1.1"},
    )
    code, findings = run_doctor(edge, dashboard)
    assert code == 0, faults(findings)
    said = {one["area"]: one["said"] for one in findings}
    assert "SIMULATED" in said["camera"]
    assert "3.1.1" in said["broker"]
    assert {"machine", "packages", "settings", "spool", "record"} <= set(said)


def test_a_broker_that_is_not_there_is_named_with_its_address(tmp_path, free_port):
    port = free_port()
    code, findings = run_doctor(edge_file(tmp_path, port=port))
    assert code == 1
    assert str(port) in faults(findings)["broker"]
    assert "start the broker" in faults(findings)["broker"]


def test_a_missing_camera_is_named(tmp_path, embedded_broker):
    missing = {"kind": "folder", "path": str(tmp_path / "nothing-here")}
    code, findings = run_doctor(edge_file(tmp_path, port=embedded_broker.port, camera=missing))
    assert code == 1
    assert "nothing-here" in faults(findings)["camera"]


def test_an_unknown_key_is_named_with_file_line_and_nearest_key(tmp_path):
    path = tmp_path / "edge.yaml"
    path.write_text("site: s\ndevice: d\ncamara:\n  kind: simulated\n", encoding="utf-8")
    code, findings = run_doctor(path)
    assert code == 1
    for part in ("edge.yaml", "line 3", "camara", "camera"):
        assert part in faults(findings)["settings"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", "fits no one role"), ("broker: {}\nlog: {}\n", "fits no one role"), ("a: [", "not YAML")],
)
def test_a_file_of_no_role_is_refused(tmp_path, text, expected):
    path = tmp_path / "some.yaml"
    path.write_text(text, encoding="utf-8")
    code, findings = run_doctor(path)
    assert code == 1
    assert expected in faults(findings)["settings"]


def test_a_damaged_spool_and_a_damaged_record_are_named(tmp_path, embedded_broker):
    for folder, name in (("edge", "spool.sqlite"), ("dashboard", "record.sqlite")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_bytes(b"this is no database" * 100)
    broker = {"port": embedded_broker.port, "protocol": "3.1.1"}
    edge = edge_file(tmp_path, port=embedded_broker.port)
    dashboard = write(
        tmp_path / "dashboard.yaml", directory=str(tmp_path / "dashboard"), allowed_hosts=[], broker=broker
    )
    code, findings = run_doctor(edge, dashboard)
    assert code == 1
    assert "spool.sqlite is damaged" in faults(findings)["spool"]
    assert "record.sqlite is damaged" in faults(findings)["record"]


def test_what_a_real_spool_holds_is_told(tmp_path, embedded_broker):
    from edge_agent.spool import Spool, SpooledFrame  # noqa: PLC0415

    path = tmp_path / "edge" / "spool.sqlite"
    path.parent.mkdir()
    path.write_bytes(b"this is no database" * 100)
    (path.parent / "spool.sqlite.corrupt-20260101T000000Z-wal").touch()  # a part, not a spool of its own
    spool = Spool(path, max_bytes=2_000_000)
    spool.open()  # sets the damaged one aside
    for number in range(3):
        captured = "2026-01-01T00:00:00+00:00"
        spool.add(SpooledFrame(f"{number}" * 32, number, "routine", "C1", captured, b"x" * 500_000))
    spool.park("0" * 32, reason="test")
    edge = edge_file(tmp_path, port=embedded_broker.port, spool={"max_bytes": 2_000_000})
    _, findings = run_doctor(edge)  # beside the agent that has it open
    told = {(one["verdict"], one["said"]) for one in findings if one["area"] == "spool"}
    assert ("OK", "2 frames wait, 1.5 of 2 MB filled") in told
    assert ("WARN", "1 frames are parked and wait for a person") in told
    (aside,) = [said for verdict, said in told if "set aside" in said]
    assert not aside.startswith("spool.sqlite.corrupt-20260101T000000Z")
    spool.add(SpooledFrame("3" * 32, 3, "routine", "C1", captured, b"x" * 400_000))
    spool.close()
    _, findings = run_doctor(edge)
    assert "nearly full" in faults(findings)["spool"]


def test_a_model_package_with_a_wrong_hash_is_refused(tmp_path, embedded_broker):
    copy = tmp_path / "package"
    shutil.copytree(next(iter(package_folders())), copy)
    with (copy / "model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        last = file.read(1)
        file.seek(-1, 2)
        file.write(bytes([last[0] ^ 1]))
    worker = write(
        tmp_path / "worker.yaml",
        worker="w",
        model=str(copy),
        directory=str(tmp_path / "worker"),
        broker={"port": embedded_broker.port, "protocol": "3.1.1"},
    )
    code, findings = run_doctor(worker)
    assert code == 1
    assert "SHA-256" in faults(findings)["model"]
