"""``hemolink bench worker`` through the command line."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from model_zoo.catalogue import SHIPPED

ROOT = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.mosquitto,
    pytest.mark.skipif(
        not (SHIPPED / "resnet34-simulated" / "card.json").exists(), reason="the model package is not there"
    ),
]


def bench(*arguments, timeout_s=280):
    done = subprocess.run(
        [sys.executable, "-m", "hemolink", "bench", "worker", "--json", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    return done, json.loads(done.stdout.splitlines()[-1]) if done.stdout else {}


@pytest.mark.timeout(300)
def test_the_three_ways_are_measured_and_a_missed_bar_is_an_exit_code(mosquitto_broker):
    done, result = bench("--frames", "16", "--rounds", "1", "--at-least", "1")
    assert done.returncode == (0 if result["passed"] else 1), done.stderr
    assert all(
        result[way]["images_per_s"] > 0 and result[way]["cpu_ms"] > 0 for way in ("engine", "plain", "worker")
    )
    assert result["engine"]["share_of_engine"] == 1
    assert result["passed"] == (result["worker"]["share_of_engine"] >= 1)
    assert "CPU ms an image" in done.stderr


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_clean_session_is_the_quicker_one(mosquitto_broker):
    done, result = bench("--restarts", "--scene", "worker_2s", timeout_s=230)
    assert done.returncode == 0, done.stderr
    clean, kept = result["worker_2s_clean"], result["worker_2s_kept_15s"]
    assert clean["frames"] == kept["frames"]
    assert clean["p99_s"] < kept["p99_s"]
