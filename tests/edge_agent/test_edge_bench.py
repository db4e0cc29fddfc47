"""``hemolink bench edge`` and ``bench idle`` through the command line, tiny: their shape, not their speed."""

import json

import pytest
from click.testing import CliRunner

from hemolink.cli import cli

pytestmark = pytest.mark.mosquitto


def run(*arguments):
    result = CliRunner().invoke(cli, ["bench", *arguments, "--json"])
    return result, json.loads(result.stdout.splitlines()[-1])


@pytest.fixture(autouse=True)
def _needs_mosquitto(mosquitto_broker):
    """Skip or fail where there is none."""


def test_bench_edge_queues_drains_and_judges():
    result, figures = run("edge", "--frames", "40", "--kb", "8", "--min-rate", "1000000")
    assert result.exit_code == 1, result.output
    assert figures["frames"] == 40
    assert 4 < figures["frame_kb"] < 16
    assert figures["frames_per_s"] > 1
    assert 20 < figures["base_mb"] < 500
    assert not figures["holds"]


def test_bench_idle_watches_and_judges():
    result, figures = run("idle", "--seconds", "1", "--max-percent", "100")
    assert result.exit_code == 0, result.output
    assert figures["extrapolated"]
    assert figures["seconds"] >= 1
    assert 0 <= figures["percent_of_a_core"] < 100
    assert "EXTRAPOLATED" in result.stderr
