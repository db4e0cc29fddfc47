"""The daemon as a process: settings, ports file, draining on SIGTERM, and what it may not import."""

import json
import signal
import subprocess
import sys

import httpx
from click.testing import CliRunner

from clinician_dashboard.commands import dashboard
from tests.clinician_dashboard.desk.people import token_beside


def test_the_process_announces_its_port_serves_and_drains_on_sigterm(
    embedded_broker, tmp_path, far_side, make, eventually
):
    settings = tmp_path / "dashboard.yaml"
    settings.write_text(
        f"broker: {{port: {embedded_broker.port}, protocol: '3.1.1'}}\ndirectory: {tmp_path / 'desk'}\nport: 0\n"
    )
    process = subprocess.Popen([sys.executable, "-m", "clinician_dashboard", "--settings", str(settings)])
    try:
        ports = tmp_path / "desk" / "dashboard.port.json"
        eventually(ports.exists, within_s=30)
        url = f"http://127.0.0.1:{json.loads(ports.read_text())['web']}"
        eventually(lambda: httpx.get(f"{url}/readyz").status_code == 200, within_s=20)
        frame = make.frame()
        with far_side(embedded_broker.port, protocol="3.1.1") as far:
            far.send(frame, make.diagnosis(frame))
            eventually(lambda: far.recorded() == [frame.frame_id])
        with httpx.stream(
            "GET",
            f"{url}/api/v1/events",
            timeout=20,
            headers={"Authorization": f"Bearer {token_beside(settings, 'technician')}"},
        ) as live:  # an open page must not hold it up
            next(live.iter_lines())
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()


def test_a_port_that_is_taken_is_one_sentence_and_exit_status_1(tmp_path, embedded_broker):
    settings = tmp_path / "dashboard.yaml"
    settings.write_text(f"directory: {tmp_path / 'desk'}\nport: {embedded_broker.port}\n")
    done = subprocess.run(
        [sys.executable, "-m", "clinician_dashboard", "--settings", str(settings)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "choose another 'port'" in done.stderr
    assert "Traceback" not in done.stderr


def test_check_config_names_the_line_and_the_nearest_key(tmp_path):
    settings = tmp_path / "dashboard.yaml"
    settings.write_text("directory: /tmp/x\nprot: 8080\n")
    answer = CliRunner().invoke(dashboard, ["check-config", "--settings", str(settings)])
    assert answer.exit_code == 2
    assert "line 2" in answer.output
    assert "'port'" in answer.output
    settings.write_text("directory: /tmp/x\nport: 8080\n")
    assert CliRunner().invoke(dashboard, ["check-config", "--settings", str(settings)]).exit_code == 0


def test_the_dashboard_loads_no_model_code_and_no_image_library():
    program = (
        "import sys, clinician_dashboard.dashboard; "
        "print([name for name in ('torch', 'cv2', 'openvino', 'model_zoo', 'onnxruntime') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
