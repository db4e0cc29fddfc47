"""The whole system, end to end, as `hemolink demo` runs it: real brokers, processes, model and record."""

import json
import os
import re
import signal
import struct
import subprocess
import sys
import time
import urllib.request
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hemolink.entry import make_token
from smear_simulator import write_dataset

PATIENCE_S = 100
KEYS = {"frames", "recorded", "quality_rejected", "lost", "duplicates", "latency_ms", "engine", "model"}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "hemolink", "demo", *arguments]


def run_once(*arguments: str) -> tuple[dict[str, Any], str]:
    result = subprocess.run(
        command("--once", "--json", *arguments),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert len(lines) == 1, "standard output holds the JSON object alone"
    return json.loads(lines[0]), result.stderr


@pytest.mark.parametrize("broker", ["embedded", pytest.param("mosquitto", marks=pytest.mark.mosquitto)])
def test_every_frame_of_simulated_patients_is_accounted_for(broker, request, tmp_path):
    if broker == "mosquitto":
        request.getfixturevalue("mosquitto_broker")  # a skip or a failure if it is missing
    result, told = run_once("--frames", "14", "--broker", broker, "--keep", str(tmp_path / "kept"))
    assert set(result) >= KEYS
    assert result["frames"] == 14
    assert result["recorded"] + result["quality_rejected"] == 14
    assert result["recorded"] >= 10
    assert result["lost"] == 0
    assert result["duplicates"] == 0
    assert 0 < result["latency_ms"]["p50"] <= result["latency_ms"]["p99"]
    assert result["engine"].startswith("openvino")
    assert result["model"].startswith("resnet34-simulated")
    assert result["simulated"] is True
    assert "SIMULATED" in told
    assert re.search(r"http://127\.0\.0\.1:\d+/", told)
    images = [path for path in (tmp_path / "kept" / "dashboard" / "images").rglob("*") if path.is_file()]
    assert len(images) == result["recorded"]


def png_that_claims(width: int, height: int) -> bytes:
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))


def test_a_folder_with_bad_files_loses_nothing_and_names_each_reason(tmp_path):
    written = write_dataset(tmp_path / "set", patients=3, frames=2, seed=5)
    folder = tmp_path / "frames"
    folder.mkdir()
    good = sorted((written.parent / "images").glob("*.jpg"))
    for number, path in enumerate(good):
        path.rename(folder / f"{number}.jpg")
    first = (folder / "0.jpg").read_bytes()
    bad = {
        "corrupt.jpg": first[:200] + b"\x00" * 4000,
        "truncated.jpg": first[: len(first) // 3],
        "zero.jpg": b"",
        "text.png": b"this is no image\n",
        "bomb.png": png_that_claims(60_000, 60_000),
        "notes.txt": b"a file that somebody left here",
    }
    for name, content in bad.items():
        (folder / name).write_bytes(content)
    result, told = run_once("--images", str(folder))
    assert result["frames"] == len(good) + len(bad)
    assert result["recorded"] + result["quality_rejected"] == len(good)
    assert result["unreadable"] == len(bad)
    assert sum(result["reasons"].values()) >= len(bad)
    assert result["lost"] == 0
    assert result["duplicates"] == 0
    for reason in result["reasons"]:
        assert reason in told


class RunningDemo:
    """A demo without --once, and what it has said so far."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.output = directory.with_suffix(".txt")
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                command("--port", "0", "--json", "--keep", str(directory)),
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def said(self) -> str:
        return self.output.read_text(encoding="utf-8", errors="replace")

    def wait_for(self, pattern: str) -> re.Match[str]:
        deadline = time.monotonic() + PATIENCE_S
        while (found := re.search(pattern, self.said)) is None:
            assert self.process.poll() is None, self.said
            assert time.monotonic() < deadline, self.said
            time.sleep(0.1)
        return found

    def wait_recorded(self) -> str:
        address = self.wait_for(r"http://127\.0\.0\.1:\d+/")[0]
        deadline = time.monotonic() + PATIENCE_S
        token = make_token(self.directory / "dashboard", "test")
        asked = urllib.request.Request(
            f"{address}api/v1/summary", headers={"Authorization": f"Bearer {token}"}
        )
        while True:
            with urllib.request.urlopen(asked, timeout=10) as answer:
                if json.load(answer)["recorded"] > 0:
                    return address
            assert time.monotonic() < deadline, self.said
            time.sleep(0.1)

    def children(self) -> dict[str, int]:
        """The process id of each daemon, by its package."""
        found = {}
        for folder in Path("/proc").iterdir():
            try:
                words = (
                    (folder / "cmdline").read_bytes().decode().split("\0") if folder.name.isdigit() else []
                )
            except OSError:
                continue  # it has ended since
            if "hemolink.leash" in words and str(self.process.pid) in words:
                found[words[words.index(str(self.process.pid)) + 1]] = int(folder.name)
        return found

    def wait_childless(self, pids: list[int]) -> None:
        deadline = time.monotonic() + 20
        while any(is_running(pid) for pid in pids):
            assert time.monotonic() < deadline, "a daemon outlived the demo"
            time.sleep(0.05)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture
def running_demo(tmp_path) -> Iterator[RunningDemo]:
    demo = RunningDemo(tmp_path / "kept")
    yield demo
    if demo.process.poll() is None:
        demo.process.kill()
        demo.process.wait()


def test_ctrl_c_stops_everything_within_seconds_and_says_the_figures(running_demo):
    running_demo.wait_recorded()
    children = running_demo.children()
    assert set(children) == {"edge_agent", "cloud_worker", "clinician_dashboard"}
    running_demo.process.send_signal(signal.SIGINT)
    assert running_demo.process.wait(20) == 0, running_demo.said
    running_demo.wait_childless(list(children.values()))
    result = json.loads(running_demo.said.splitlines()[-1])
    assert result["recorded"] > 0
    assert result["lost"] == 0
    assert "killed" not in running_demo.said


def test_a_daemon_that_dies_is_named_with_its_last_words(running_demo):
    running_demo.wait_recorded()
    os.kill(running_demo.children()["cloud_worker"], signal.SIGKILL)
    assert running_demo.process.wait(30) == 1
    assert "the worker ended by itself with exit code -9" in running_demo.said
    assert "logs/worker.log" in running_demo.said
    running_demo.wait_childless(list(running_demo.children().values()))


def test_a_demo_that_is_killed_leaves_no_daemon_behind(running_demo):
    running_demo.wait_for(r"http://127\.0\.0\.1:\d+/")
    pids = list(running_demo.children().values())
    assert len(pids) == 3
    running_demo.process.kill()
    running_demo.process.wait()
    running_demo.wait_childless(pids)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--images", "no-such-folder"), "no-such-folder"),
        (("--port", "70000"), "--port"),
        (("--model", "no-such-model", "--once", "--frames", "1"), "no-such-model"),
        (("--frames", "0"), "--frames"),
    ],
)
def test_a_wrong_option_is_named(arguments, expected):
    result = subprocess.run(
        command(*arguments), capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert result.returncode != 0
    assert expected in result.stdout + result.stderr
    assert "Traceback" not in result.stderr


def test_an_empty_folder_of_images_is_named(tmp_path):
    result = subprocess.run(
        command("--images", str(tmp_path)), capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert result.returncode == 1
    assert f"{tmp_path} holds no files" in result.stderr


def test_a_folder_to_keep_must_be_new_or_empty(tmp_path):
    (tmp_path / "something").write_text("here", encoding="utf-8")
    result = subprocess.run(
        command("--keep", str(tmp_path)), capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert result.returncode == 1
    assert "not empty" in result.stderr
