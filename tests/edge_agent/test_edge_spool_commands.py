"""``hemolink edge spool`` and ``hemolink bench spool``, through the command line."""

import json
import random

import pytest
import yaml
from click.testing import CliRunner

from edge_agent.commands import edge
from edge_agent.spool import Spool, SpooledFrame
from hemolink.cli import cli


@pytest.fixture
def settings_file(tmp_path):
    path = tmp_path / "edge.yaml"
    path.write_text(yaml.safe_dump({"directory": str(tmp_path / "edge"), "camera": {"kind": "simulated"}}))
    return path


@pytest.fixture
def spool(tmp_path):
    """Three frames: one waits, one is parked, the image of one has rotted."""
    rng = random.Random(9)
    path = tmp_path / "edge" / "spool.sqlite"
    store = Spool(path, max_bytes=10_000_000)
    store.open()
    frames = [
        SpooledFrame(
            f"{number:032x}",
            number,
            "routine",
            f"ACC-{number}",
            "2026-01-31T12:00:00+00:00",
            rng.randbytes(20_000),
        )
        for number in range(3)
    ]
    for one in frames:
        store.add(one)
    store.park(frames[1].frame_id, reason="too large for the broker", code="too_large")
    store.close()
    data = bytearray(path.read_bytes())
    data[data.find(frames[2].payload[9000:9020])] ^= 4
    path.write_bytes(data)
    store.open()
    assert store.payload(frames[2].frame_id) is None
    yield store
    store.close()


def run(settings_file, *arguments):
    return CliRunner().invoke(edge, ["spool", *arguments, "--settings", str(settings_file)])


def test_the_commands_tell_of_what_waits_what_is_parked_and_what_is_lost(spool, settings_file, tmp_path):
    listed = run(settings_file, "list")
    assert listed.exit_code == 0
    assert "1 waiting, 1 parked, 1 lost" in listed.output
    assert "Lost with the disk:" in listed.output
    assert "number 2" in listed.output
    assert "not told yet" in listed.output
    states = [one["state"] for one in json.loads(run(settings_file, "list", "--json").output.splitlines()[0])]
    assert states == ["waiting", "parked", "lost"]
    assert "ACC-2" in run(settings_file, "list", "--lost").output
    assert "ACC-0" not in run(settings_file, "list", "--lost").output
    shown = run(settings_file, "show", f"{2:032x}")
    assert shown.exit_code == 1
    assert "was lost on" in shown.output
    exported = run(settings_file, "export", f"{2:032x}", str(tmp_path / "out"))
    assert exported.exit_code == 1
    assert "checksum" in exported.output


def test_a_retry_beside_the_agent_is_seen_by_it_and_withdraws_the_notice(spool, settings_file):
    assert {one.code for one in spool.untold()} == {"too_large", "spool_damaged"}
    assert run(settings_file, "retry", "--all").exit_code == 0
    assert {one.code for one in spool.untold()} == {"spool_damaged"}
    assert [row.sequence for row in spool.next_due(1e15, limit=9)] == [1, 0]
    assert spool.recount().parked == 0
    assert run(settings_file, "retry", "f" * 32).exit_code == 1


def test_the_bench_measures_and_judges(tmp_path):
    arguments = [
        "bench",
        "spool",
        "--small",
        "20",
        "--large",
        "200",
        "--kb",
        "4",
        "--rounds",
        "4",
        "--block",
        "5",
    ]
    done = CliRunner().invoke(cli, [*arguments, "--directory", str(tmp_path), "--json"])
    figures = json.loads(done.stdout.splitlines()[-1])
    assert done.exit_code == (0 if figures["holds"] else 1)
    assert figures["holds"] == (figures["ratio"] <= 1.1)
    assert figures["frames_each"] == 20
    assert set(figures["steps_large_us"]) == {"add", "next_due", "payload", "mark_sent", "settle"}
    assert "plain SQLite loop" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_bench_says_when_the_disk_is_too_small(tmp_path):
    done = CliRunner().invoke(
        cli, ["bench", "spool", "--large", "1000000000", "--directory", str(tmp_path), "--json"]
    )
    assert done.exit_code == 1
    assert "GB free, and this needs" in done.output
