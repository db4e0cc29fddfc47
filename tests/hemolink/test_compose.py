"""compose.yaml, the Dockerfiles and the settings they use, checked as far as it goes without a container engine."""

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from broker_config.mosquitto import find_mosquitto
from broker_config.session import Session
from broker_config.settings import BrokerSettings, load_settings
from hemolink.settings_role import role_of, settings_model

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
SECURED = yaml.safe_load((ROOT / "deploy" / "compose.secured.yaml").read_text(encoding="utf-8"))
ROLES = ("edge", "worker", "dashboard")


def dockerfile(role: str) -> str:
    return (ROOT / "deploy" / f"{role}.Dockerfile").read_text(encoding="utf-8")


def test_it_runs_a_broker_and_every_role():
    assert set(COMPOSE["services"]) == {"broker", *ROLES}


@pytest.mark.parametrize("role", ROLES)
def test_every_image_has_its_dockerfile(role):
    build = COMPOSE["services"][role]["build"]
    assert (ROOT / build["context"] / build["dockerfile"]).is_file()


@pytest.mark.parametrize("service", COMPOSE["services"])
def test_every_volume_and_network_exists(service):
    for volume in COMPOSE["services"][service]["volumes"]:
        source = volume.partition(":")[0]
        if source.startswith("."):
            assert (ROOT / source).is_file(), f"{service}: {source}"
        else:
            assert source in COMPOSE["volumes"], f"{service}: {source}"
    for network in COMPOSE["services"][service]["networks"]:
        assert network in COMPOSE["networks"]
    for other in COMPOSE["services"][service].get("depends_on", {}):
        assert other in COMPOSE["services"]


def test_nothing_is_published_beyond_the_loopback():
    for name, service in COMPOSE["services"].items():
        for port in service.get("ports", ()):
            assert str(port).startswith("127.0.0.1:"), f"{name} publishes {port}"
    assert COMPOSE["networks"]["bus"]["internal"] is True
    assert COMPOSE["services"]["broker"]["networks"] == ["bus"]


@pytest.mark.parametrize("role", ROLES)
def test_every_role_drops_its_privileges(role):
    service = COMPOSE["services"][role]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert re.search(r"^USER hemolink$", dockerfile(role), re.MULTILINE)
    assert "HEALTHCHECK" in dockerfile(role)


@pytest.mark.parametrize("role", ROLES)
def test_the_settings_are_valid_and_fit_the_containers(role):
    path = ROOT / "deploy" / "settings" / f"{role}.yaml"
    assert role_of(path) == role
    settings = load_settings(path, settings_model(role))
    assert settings.broker.host in COMPOSE["services"]
    mounted = [volume.split(":")[1] for volume in COMPOSE["services"][role]["volumes"]]
    assert str(settings.directory) in mounted
    assert f"/etc/hemolink/{role}.yaml" in mounted
    port = settings.port if role == "dashboard" else settings.monitor.port
    assert f"http://127.0.0.1:{port}/healthz" in dockerfile(role)


@pytest.mark.parametrize("role", ROLES)
def test_what_a_dockerfile_copies_is_there_and_suffices_to_import_the_role(role):
    text = dockerfile(role)
    copied = [words.split()[:-1] for words in re.findall(r"^COPY (?!--from)(.*)$", text, re.MULTILINE)]
    sources = [source for sources in copied for source in sources]
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    for source in sources:
        assert (ROOT / source).exists(), source
        top = source if not source.startswith("deploy/") else "deploy/settings"
        assert f"!{top}" in ignored, f"{source} is kept out of the build by .dockerignore"
    module = re.search(r'"-m", "(\w+)"', text)[1]
    packages = [source for source in sources if (ROOT / source / "__init__.py").exists()]
    # Only what the image holds may be imported: everything else of ours is made unimportable.
    hidden = {path.parent.name for path in ROOT.glob("*/__init__.py")} - set(packages) - {"tests"}
    code = (
        f"import sys\nfor name in {sorted(hidden)!r}: sys.modules[name] = None\n"
        f"sys.argv = [{module!r}, '--settings', 'deploy/settings/{role}.yaml', '--check-config']\n"
        f"import runpy\nrunpy.run_module({module!r}, run_name='__main__')"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.mosquitto
def test_the_brokers_configuration_is_accepted_by_mosquitto(tmp_path, mosquitto_broker, free_port):
    del mosquitto_broker  # asked for, so that a missing Mosquitto is treated like everywhere else
    port = free_port()
    text = (ROOT / "deploy" / "settings" / "mosquitto.conf").read_text(encoding="utf-8")
    text = text.replace("listener 1883", f"listener {port} 127.0.0.1\nuser root")
    text = text.replace("/mosquitto/data/", f"{tmp_path}/")
    (tmp_path / "mosquitto.conf").write_text(text, encoding="utf-8")
    with subprocess.Popen(
        [find_mosquitto(), "-c", str(tmp_path / "mosquitto.conf")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            with Session(BrokerSettings(port=port, reconnect_max_s=0.2), client_id="compose-test") as session:
                deadline = time.monotonic() + 15
                while not session.wait_connected(0.2):
                    assert time.monotonic() < deadline, session.last_error
                    assert process.poll() is None, "mosquitto refused the configuration"
                assert session.maximum_packet_bytes == 16 * 1024 * 1024
        finally:
            process.terminate()


def test_the_secured_site_mounts_what_the_two_commands_write(tmp_path):
    text = (ROOT / "deploy" / "compose.secured.yaml").read_text(encoding="utf-8")
    lines = [line.removeprefix("#").strip() for line in text.splitlines() if line.startswith("#  ")]
    commands = "\n".join(lines).replace("\\\n", " ").splitlines()
    for command in commands[:2]:
        words = command.split()
        assert words[:2] == ["hemolink", "broker"]
        subprocess.run(
            [sys.executable, "-m", *words],
            cwd=tmp_path,
            env={"PYTHONPATH": str(ROOT)},
            check=True,
            timeout=60,
        )
    for name, service in SECURED["services"].items():
        for volume in service["volumes"]:
            assert (tmp_path / volume.split(":")[0]).exists(), f"{name}: {volume}"
    configuration = (tmp_path / "deploy/site/mosquitto.conf").read_text(encoding="utf-8")
    mounted = {volume.split(":")[1] for volume in SECURED["services"]["broker"]["volumes"]}
    for path in re.findall(r"(/mosquitto/\S+)", configuration):
        assert path.rstrip("/") in mounted, f"the broker's configuration names {path}, which is not mounted"


@pytest.mark.parametrize("role", ROLES)
def test_a_secured_role_finds_its_broker_and_its_credential(role, tmp_path, monkeypatch):
    service = SECURED["services"][role]
    for name, value in service["environment"].items():
        monkeypatch.setenv(name, value)
    settings = load_settings(ROOT / "deploy" / "settings" / f"{role}.yaml", settings_model(role))
    assert settings.broker.port == 8883
    mounted = [volume.split(":")[1] for volume in service["volumes"]]
    assert str(settings.broker.tls.ca_file) in mounted
    who = Path(service["env_file"]).stem
    names = {
        "edge": lambda: f"edge.{settings.site}.{settings.device}",
        "worker": lambda: f"worker.{settings.worker}",
        "dashboard": lambda: "dashboard.board",
    }
    assert who == names[role]()
