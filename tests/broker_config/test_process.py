"""What daemons share: births, durable files, signals, the monitor, logs."""

import json
import logging
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Counter

from broker_config import logs
from broker_config.errors import SettingsError
from broker_config.monitor import Monitor
from broker_config.process import announce_ports, next_birth, write_durably


def test_a_birth_rises_with_each_start(tmp_path: Path) -> None:
    path = tmp_path / "new" / "birth"
    assert [next_birth(path) for _ in range(3)] == [1, 2, 3]
    assert [one.name for one in path.parent.iterdir()] == ["birth"]


def test_a_spoilt_birth_is_told_and_never_starts_anew(tmp_path: Path) -> None:
    path = tmp_path / "birth"
    path.write_text("")
    with pytest.raises(SettingsError, match="does not hold a number"):
        next_birth(path)
    with pytest.raises(SettingsError, match="cannot be kept"):
        next_birth(tmp_path / "birth" / "below-a-file")


def test_a_durable_write_leaves_no_temporary_behind(tmp_path: Path) -> None:
    write_durably(tmp_path / "a", b"1")
    write_durably(tmp_path / "a", b"2")
    (tmp_path / "d").mkdir()
    with pytest.raises(OSError, match="d"):
        write_durably(tmp_path / "d", b"x")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a", "d"]
    assert (tmp_path / "a").read_bytes() == b"2"
    announce_ports(tmp_path, "edge", {"monitor": 5})
    assert json.loads((tmp_path / "edge.port.json").read_text()) == {"monitor": 5}


STUBBORN = """
import sys
from broker_config.process import Shutdown
shutdown = Shutdown()
shutdown.install()
print("ready", flush=True)
shutdown.requested.wait()
print("draining", flush=True)
sys.stdin.read()
"""


def test_a_second_signal_ends_at_once() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", STUBBORN],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == "draining\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_the_monitor_tells_health_metrics_and_status() -> None:
    registry = CollectorRegistry()
    Counter("hemolink_frames", "Frames.", registry=registry).inc(3)
    state = {"ready": (False, "no broker: start it")}
    monitor = Monitor(ready=lambda: state["ready"], registry=registry, status=lambda: {"captured": 3})
    monitor.start()
    try:
        assert get(monitor.port, "/healthz") == (200, "alive\n")
        assert get(monitor.port, "/readyz?x=1") == (503, "no broker: start it\n")
        state["ready"] = (True, "ready")
        assert get(monitor.port, "/readyz") == (200, "ready\n")
        assert "hemolink_frames_total 3.0" in get(monitor.port, "/metrics")[1]
        assert json.loads(get(monitor.port, "/status")[1]) == {"captured": 3}
        assert get(monitor.port, "/../etc/passwd")[0] == 404
        with pytest.raises(SettingsError, match=r"set monitor\.port to 0"):
            Monitor(port=monitor.port).start()
    finally:
        monitor.stop()
    monitor.stop()


def test_a_status_that_fails_does_not_end_the_monitor(caplog: pytest.LogCaptureFixture) -> None:
    monitor = Monitor(status=lambda: {}["missing"])
    assert monitor.answer("/status")[0] == 500
    assert monitor.answer("/healthz")[0] == 200
    assert "could not answer /status" in caplog.text


@pytest.fixture
def log_lines(capsys: pytest.CaptureFixture[str]):
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level

    def lines(form: str) -> list[str]:
        logs.configure("info", form)
        logging.getLogger("x").info("hello\nforged %s", "\x1b[31m", extra={"frame_id": "f1", "case": "A-1"})
        return capsys.readouterr().err.splitlines()

    yield lines
    root.handlers[:] = handlers
    root.setLevel(level)


def test_a_text_record_is_one_line_with_its_ids(log_lines) -> None:
    (line,) = log_lines("text")
    assert line.endswith("x: hello\\x0aforged \\x1b[31m frame_id=f1 case=A-1")


def test_a_json_record_is_one_line_with_its_ids(log_lines) -> None:
    (line,) = log_lines("json")
    record = json.loads(line)
    assert (record["frame_id"], record["case"], record["level"]) == ("f1", "A-1", "INFO")


def test_the_contract_is_quick_to_import_and_light() -> None:
    code = (
        "import sys, broker_config, broker_config.session, broker_config.messages\n"
        "print(sorted({'amqtt','torch','fastapi','cv2','numpy','sqlalchemy'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ}
    )
    assert done.stdout.strip() == "[]"


def test_a_stuck_daemon_is_not_alive() -> None:
    with_fault = Monitor(alive=lambda: (False, "the network thread has ended: restart this daemon"))
    assert with_fault.answer("/healthz")[::2] == (503, b"the network thread has ended: restart this daemon\n")


def test_a_monitor_ends_at_once_though_it_hardly_polls() -> None:
    monitor = Monitor()
    monitor.start()
    began = time.monotonic()
    monitor.stop()
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_flood_of_one_kind_is_thinned_and_hides_no_other(
    form: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    clock = [0.0]
    monkeypatch.setattr("broker_config.logs.time.monotonic", lambda: clock[0])
    try:
        logs.configure("info", form)
        for number in range(1000):
            logging.getLogger("x").warning("malformed %d", number)
        logging.getLogger("x").warning("other news")
        clock[0] = 1.0
        logging.getLogger("x").warning("malformed %d", 1000)
        lines = capsys.readouterr().err.splitlines()
    finally:
        root.handlers[:] = before
        root.setLevel(level)
    assert len(lines) == 22
    assert "other news" in lines[20]
    assert "malformed 1000 (980 like it were left out)" in lines[21]


def test_an_exceptions_text_forges_no_record(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    try:
        for form in ("text", "json"):
            logs.configure("info", form)
            forged = ValueError("x\x1b[31m\u202e\u2028\x85")
            logging.getLogger("x").error("failed", exc_info=forged)
        written = capsys.readouterr().err
    finally:
        root.handlers[:] = before
        root.setLevel(level)
    assert written.isascii()
    assert "\x1b" not in written
