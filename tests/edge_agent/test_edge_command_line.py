"""The commands of the edge, with and without a running agent."""

import subprocess
import sys
from pathlib import Path

import yaml
from click.testing import CliRunner

from edge_agent.commands import edge
from tests.edge_agent.conftest import eventually


def test_commands_without_a_broker_and_bad_settings(tmp_path, free_port):
    file = tmp_path / "edge.yaml"
    file.write_text(
        f"directory: {tmp_path / 'edge'}\nbroker: {{port: {free_port()}}}\ncamera:\n  kind: simulated\n"
    )
    run = CliRunner().invoke
    assert "simulated" in run(edge, ["cameras"]).output
    assert run(edge, ["check-config", "--settings", str(file)]).exit_code == 0
    bad_code = run(edge, ["case", "start", "Jane Doe", "--settings", str(file)])
    assert bad_code.exit_code == 1
    assert "accession code" in bad_code.output
    assert run(edge, ["case", "start", "ACC-7", "--stat", "--local", "--settings", str(file)]).exit_code == 0
    assert "ACC-7" in (tmp_path / "edge" / "case.json").read_text()
    assert "ACC-7" in run(edge, ["case", "stop", "--local", "--settings", str(file)]).output
    no_spool = run(edge, ["spool", "list", "--settings", str(file)])
    assert no_spool.exit_code == 1
    assert "no spool" in no_spool.output
    file.write_text("camera:\n  kind: folder\n  path: .\n  wacth: true\n")
    wrong = run(edge, ["check-config", "--settings", str(file)])
    assert wrong.exit_code == 2
    file.write_text("camera:\n  kind: hologram\n")
    assert run(edge, ["check-config", "--settings", str(file)]).exit_code == 2


def test_case_start_over_the_broker(embedded_broker, edge_settings, running, tmp_path, folder):
    settings = edge_settings(embedded_broker.port, {"kind": "folder", "path": str(folder(1)), "watch": True})
    file = tmp_path / "edge.yaml"
    file.write_text(yaml.safe_dump(settings.model_dump(mode="json", exclude={"broker": {"password"}})))
    with running(settings) as agent:
        eventually(lambda: agent.status()["connected"])
        done = CliRunner().invoke(edge, ["case", "start", "ACC-9", "--settings", str(file)])
        assert done.exit_code == 0, done.output
        assert agent.state().case == "ACC-9"
        assert CliRunner().invoke(edge, ["status", "--settings", str(file)]).exit_code == 0


def test_importing_the_edge_is_light():
    code = (
        "import sys, time; t = time.perf_counter(); import edge_agent; took = time.perf_counter() - t\n"
        "import edge_agent.settings, edge_agent.commands, edge_agent.cameras.registry\n"
        "heavy = {'torch', 'fastapi', 'model_zoo', 'openvino', 'cv2', 'sqlalchemy', 'smear_simulator'} & set(sys.modules)\n"
        "assert not heavy, heavy\nassert took < 0.5, took\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
