"""Many edges come back after their broker: the short form of ``hemolink bench storm``."""

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.mosquitto


def storm(*arguments: str, timeout_s: float) -> tuple[int, dict[str, object]]:
    done = subprocess.run(
        [sys.executable, "-m", "hemolink", "bench", "storm", "--json", *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=timeout_s,
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout.splitlines()[-1])


def test_fifty_edges_come_back_after_a_broker_that_was_killed_and_came_back_empty() -> None:
    code, result = storm("--edges", "50", "--down", "1", "--how", "forget", "--interval", "2", timeout_s=110)
    assert (result["lost"], result["false_offline"]) == (0, 0), result
    (only,) = result["rounds"]
    assert (only["connected"], only["refused"]) == (50, 0), result
    assert result["captured"] > 0
    assert (code, result["holds"]) == (0, True), result


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_thousand_edges_come_back() -> None:
    code, result = storm("--edges", "1000", timeout_s=580)
    assert (code, result["holds"]) == (0, True), result
