"""The whole plant, broken and counted: a short form always, the long forms with ``--slow``."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from broker_config.errors import BrokerFailed
from broker_config.mosquitto import find_mosquitto
from hemolink.bench.faults.kept import judge_kept
from hemolink.bench.faults.plant import RECORD

pytestmark = pytest.mark.mosquitto

SHORT = ("--seconds", "14", "--every", "2", "--rate", "5", "--real-workers", "0", "--settle", "90")
KINDS = ("kill", "freeze", "cut", "half-open", "raise")
PATIENCE_S = 240


@pytest.fixture(scope="module")
def mosquitto_program():
    try:
        find_mosquitto()
    except BrokerFailed as error:
        missing = f"Mosquitto is needed: {error}"
        if os.environ.get("CI"):
            pytest.fail(missing, pytrace=False)
        pytest.skip(missing)


def command(*arguments):
    return [sys.executable, "-m", "hemolink", "bench", "faults", "--json", *arguments]


def only(*kinds):
    return [part for kind in kinds for part in ("--only", kind)]


def run(*arguments, timeout_s=PATIENCE_S):
    result = subprocess.run(
        command(*arguments), capture_output=True, text=True, timeout=timeout_s, check=False
    )
    return result, json.loads(result.stdout.splitlines()[-1]) if result.stdout else {}


def processes_of(directory):
    """Every process whose command line names the directory."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if directory in line and state != "Z":
                found.append(line)
    return found


def wait_for(condition, *, timeout_s=30.0):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture(scope="module")
def kept(mosquitto_program, tmp_path_factory):
    """A short run, kept."""
    directory = tmp_path_factory.mktemp("faults") / "kept"
    result, figures = run(*SHORT, *only(*KINDS), "--seed", "5", "--keep", str(directory))
    return directory, result, figures


@pytest.mark.timeout(PATIENCE_S)
def test_nothing_is_lost_and_nothing_doubled(kept):
    _, result, figures = kept
    assert result.returncode == 0, result.stderr
    assert figures["faults"] >= 4
    assert (figures["lost"], figures["duplicates"], figures["gaps"]) == (0, 0, 0)
    assert figures["captured"] == figures["recorded"] + figures["told"] > 40
    assert figures["given"] == figures["captured"] + figures["refused"]
    assert figures["refused"] > 0
    assert sum(one["times"] for one in figures["by_fault"].values()) == figures["faults"]
    assert "on their way" in result.stderr
    assert "LOST 0, duplicates 0" in result.stderr


def test_what_is_kept_is_judged_alike(kept):
    directory, _, figures = kept
    verdict = judge_kept(directory)
    assert verdict.holds
    assert len(verdict.recorded) == figures["recorded"]
    assert json.loads((directory / "schedule.json").read_text())
    assert (directory / "logs" / "edge-1.log").exists()


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ("DELETE FROM frames WHERE frame_id = :id", "neither the record nor the spool knows it"),
        ("DELETE FROM diagnoses WHERE frame_id = :id", "without its diagnosis"),
        ("UPDATE frames SET recorded_at = NULL WHERE frame_id = :id", "without the mark 'recorded'"),
    ],
)
def test_a_record_that_was_tampered_with_is_found_out(kept, tmp_path, statement, found):
    directory = tmp_path / "copy"
    shutil.copytree(kept[0], directory)
    with closing(sqlite3.connect(directory / RECORD / "record.sqlite")) as record:
        (one,) = record.execute("SELECT frame_id FROM frames ORDER BY received_at LIMIT 1").fetchone()
        record.execute(statement, {"id": one})
        record.commit()
    verdict = judge_kept(directory)
    assert len(verdict.lost) == 1
    assert found in next(iter(verdict.lost.values()))
    again = subprocess.run(
        command("--judge", str(directory)), capture_output=True, text=True, timeout=60, check=False
    )
    assert again.returncode == 1
    assert "LOST 1" in again.stdout


def test_a_doubled_row_and_a_changed_image_are_found_out(kept, tmp_path):
    directory = tmp_path / "copy"
    shutil.copytree(kept[0], directory)
    with closing(sqlite3.connect(directory / RECORD / "record.sqlite")) as record:
        columns = [row[1] for row in record.execute("PRAGMA table_info(frames)")]
        others = ", ".join(name for name in columns if name != "frame_id")
        one, changed = record.execute("SELECT frame_id FROM frames ORDER BY received_at LIMIT 2").fetchall()
        record.execute(
            f"INSERT INTO frames (frame_id, {others}) SELECT '{'f' * 32}', {others} FROM frames WHERE frame_id = ?",  # noqa: S608
            one,
        )
        columns = [row[1] for row in record.execute("PRAGMA table_info(diagnoses)")]
        others = ", ".join(name for name in columns if name not in ("id", "frame_id"))
        record.execute(
            f"INSERT INTO diagnoses (frame_id, {others}) SELECT '{'f' * 32}', {others} FROM diagnoses WHERE frame_id = ?",  # noqa: S608
            one,
        )
        (sha256,) = record.execute("SELECT image_sha256 FROM frames WHERE frame_id = ?", changed).fetchone()
        record.commit()
    image = next((directory / RECORD / "images").rglob(sha256))
    image.write_bytes(image.read_bytes()[:-1] + b"?")
    verdict = judge_kept(directory)
    assert len(verdict.duplicates) == 1
    assert any("without its image" in known for known in verdict.lost.values())


@pytest.mark.timeout(PATIENCE_S)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_running_when_the_harness_ends(mosquitto_program, tmp_path, number):
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        command(*SHORT, *only("freeze"), "--seed", "2"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment,
    ) as harness:
        wait_for(lambda: len(processes_of(str(tmp_path))) >= 5, timeout_s=60)
        time.sleep(3.0 if number == signal.SIGKILL else 0.0)  # by then a fault has frozen somebody
        harness.send_signal(number)
        harness.communicate(timeout=90)
        assert harness.returncode != 0
    wait_for(lambda: not processes_of(str(tmp_path)))
    assert str(tmp_path) not in Path("/proc/mounts").read_text()
    if number == signal.SIGINT:
        assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_without_the_resend_rule_frames_are_lost(mosquitto_program):
    result, figures = run(
        *("--seconds", "60", "--rate", "8", "--real-workers", "0", "--seed", "1", "--settle", "30"),
        *only("kill", "broker-forgets"),
        "--no-resend",
        timeout_s=600,
    )
    assert result.returncode == 1
    assert figures["lost"] > 0
    assert "LOST: picture" in result.stderr


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_five_minutes_of_everything(mosquitto_program, seed):
    result, figures = run("--seconds", "300", "--seed", str(seed), timeout_s=1200)
    assert result.returncode == 0, result.stderr
    assert figures["faults"] >= 67
    assert (figures["lost"], figures["duplicates"], figures["gaps"]) == (0, 0, 0)
