"""The worker with a real model package, and without what it must not load."""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from broker_config.errors import SettingsError
from broker_config.settings import parse_settings
from cloud_worker.__main__ import main
from cloud_worker.settings import Settings
from cloud_worker.worker import Worker
from model_zoo.catalogue import SHIPPED

ROOT = Path(__file__).parents[2]
PACKAGE = "resnet34-simulated"


def python(code):
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )


def test_importing_the_worker_loads_nothing_heavy():
    heavy = "{'torch', 'timm', 'sklearn', 'cv2', 'openvino', 'onnxruntime', 'fastapi'}"
    done = python(
        f"import sys, cloud_worker, cloud_worker.commands, cloud_worker.settings; print({heavy} & set(sys.modules))"
    )
    assert done.stdout.strip() == "set()", done.stderr


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("pool: main\nbroker:\n  protocol: 3.1.1\n", ["needs MQTT 5", "remove pool"]),
        ("max_batch: 8\n", ["line 1", "max_batch is not a known key", "max_batch_size"]),
        ("\nworker: Lab 1\n", ["line 2", "cannot stand in a topic"]),
    ],
)
def test_settings_faults_name_the_remedy(text, words):
    with pytest.raises(SettingsError) as fault:
        parse_settings(text, Settings, source="worker.yaml")
    assert all(word in str(fault.value) for word in words), str(fault.value)


def test_a_model_that_is_not_there_is_named(tmp_path, monkeypatch, capsys):
    settings = tmp_path / "worker.yaml"
    settings.write_text(f"model: nosuch\ndirectory: {tmp_path / 'w'}\n")
    for arguments in (["--check-config"], []):
        monkeypatch.setattr(sys, "argv", ["cloud_worker", "--settings", str(settings), *arguments])
        code = subprocess.run(
            [sys.executable, "-m", "cloud_worker", *sys.argv[1:]],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert code.returncode == 2
        assert "no model package called 'nosuch'" in code.stderr
    settings.write_text("modell: nosuch\n")
    monkeypatch.setattr(sys, "argv", ["cloud_worker", "--settings", str(settings)])
    assert main() == 2
    assert "modell is not a known key: did you mean 'model'" in capsys.readouterr().err


@pytest.mark.mosquitto
@pytest.mark.skipif(
    not (SHIPPED / PACKAGE / "card.json").exists(), reason=f"the package {PACKAGE} is not there"
)
def test_starting_with_openvino_loads_no_torch(tmp_path):
    done = python(
        "import sys; from cloud_worker.settings import Settings; from cloud_worker.worker import Worker\n"
        f"worker = Worker(Settings(broker={{'port': 1}}, model={PACKAGE!r}, engine='openvino', directory={str(tmp_path)!r}))\n"
        "worker.start(); worker.stop()\n"
        "print({'torch', 'timm', 'sklearn', 'smear_simulator', 'fastapi'} & set(sys.modules))"
    )
    assert done.stdout.strip() == "set()", done.stderr


@pytest.mark.mosquitto
@pytest.mark.skipif(
    not (SHIPPED / PACKAGE / "card.json").exists(), reason=f"the package {PACKAGE} is not there"
)
def test_the_shipped_package_answers_over_a_real_broker(mosquitto_broker, fakes, tmp_path):
    settings = Settings(
        broker={"port": mosquitto_broker.port}, model=PACKAGE, engine="openvino", directory=tmp_path / "w"
    )
    worker = Worker(settings)
    worker.start()
    try:
        with fakes.FarEnd(mosquitto_broker.port) as far:
            noise = np.random.default_rng(1).integers(0, 255, (480, 640, 3), np.uint8)
            image = cv2.imencode(".jpg", noise)[1].tobytes()
            frame = far.send(fakes.make_frame(image=image, encoding="jpeg", width=640, height=480))
            far.wait(lambda: far.statuses(frame) == ["diagnosed"], 30)
            diagnosis = far.diagnoses[0]
            assert diagnosis.model.name == PACKAGE
            assert diagnosis.model.engine.startswith("openvino-")
            assert diagnosis.model.simulated
            assert diagnosis.model.training_data
            assert abs(sum(diagnosis.probabilities.values()) - 1) < 1e-3
            # Noise is no smear, and must not be called with confidence.
            assert diagnosis.decision == "refer"
            assert diagnosis.reasons
    finally:
        worker.stop()
