"""The command line as a user meets it."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

HEAVY = ("cv2", "openvino", "torch", "fastapi", "sqlalchemy", "pydantic", "numpy", "paho")


def hemolink(*arguments: str, prelude: str = "") -> subprocess.CompletedProcess[str]:
    code = f"import sys\nsys.argv = ['hemolink', *{list(arguments)!r}]\n{prelude}\nfrom hemolink.cli import main\nmain()"
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )


def test_help_is_quick_and_imports_no_role():
    report = (
        "import atexit, sys, time\n"
        f"atexit.register(lambda: print('\\n', time.process_time(), "
        f"[name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr))"
    )
    result = hemolink("--help", prelude=report)
    seconds, _, imported = result.stderr.strip().partition(" ")
    assert imported == "[]"
    assert (
        float(seconds) < 0.3
    )  # of processor time, the interpreter's own start included: the machine may be busy
    for name in ("demo", "doctor", "simulate", "edge", "worker", "dashboard", "broker", "model", "bench"):
        assert f"\n  {name} " in result.stdout


def test_version():
    result = hemolink("--version")
    assert result.stdout.strip().startswith("hemolink, version 0.")


@pytest.mark.parametrize(
    "group", ["demo", "doctor", "simulate", "edge", "worker", "dashboard", "broker", "model", "bench"]
)
def test_every_command_explains_itself(group):
    result = hemolink(group, "--help")
    assert result.returncode == 0, result.stderr
    assert "Usage: hemolink" in result.stdout


def test_an_unknown_command_is_refused_with_exit_code_2():
    result = hemolink("simulat")
    assert result.returncode == 2
    assert "No such command" in result.stderr


@pytest.mark.parametrize(
    ("module", "arguments", "extra"),
    [
        ("cv2", ("simulate", "unused"), "hemolink[edge]"),
        ("sqlalchemy", ("doctor", "--help"), None),
    ],
)
def test_a_missing_package_names_the_extra_that_brings_it(module, arguments, extra):
    result = hemolink(*arguments, prelude=f"sys.modules[{module!r}] = None")
    if extra is None:
        assert result.returncode == 0, result.stderr
    else:
        assert result.returncode == 1
        assert extra in result.stderr
        assert "Traceback" not in result.stderr


def test_simulate_writes_images_and_a_manifest(tmp_path: Path):
    result = hemolink(
        "simulate", str(tmp_path / "set"), "--patients", "5", "--frames", "2", "--seed", "3", "--json"
    )
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout.splitlines()[-1])
    assert report["images"] == 10
    assert report["simulated"] is True
    lines = Path(report["manifest"]).read_text(encoding="utf-8").splitlines()
    assert len(lines) == 11
    again = hemolink(
        "simulate", str(tmp_path / "again"), "--patients", "5", "--frames", "2", "--seed", "3", "--json"
    )
    assert (tmp_path / "again" / "manifest.csv").read_text(encoding="utf-8").splitlines() == lines, (
        again.stderr
    )


def test_simulate_names_a_folder_that_cannot_be_written(tmp_path: Path):
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    result = hemolink("simulate", str(tmp_path / "file" / "set"), "--patients", "1", "--frames", "1")
    assert result.returncode != 0
    assert "Traceback" not in result.stderr
    assert "file" in result.stderr


def test_the_edge_imports_in_half_a_second_and_without_torch_or_a_web_framework():
    code = (
        "import sys, time\nstarted = time.perf_counter()\nimport edge_agent\n"
        "took = time.perf_counter() - started\n"
        "unwanted = sorted({name.partition('.')[0] for name in sys.modules} & "
        "{'torch', 'fastapi', 'model_zoo', 'openvino', 'onnxruntime', 'timm', 'sqlalchemy', 'cv2'})\n"
        "print(took, unwanted)"
    )
    best, started = 10.0, time.monotonic()
    while best >= 0.5 and time.monotonic() - started < 20:  # a busy machine gets another try
        result = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
        )
        seconds, _, unwanted = result.stdout.strip().partition(" ")
        best = min(best, float(seconds))
        assert unwanted == "[]"
    assert best < 0.5
