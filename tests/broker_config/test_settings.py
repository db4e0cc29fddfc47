"""Settings: every fault names file, line, key and remedy."""

from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import Field

from broker_config.errors import SettingsError
from broker_config.settings import BrokerSettings, Section, load_settings, parse_settings


class Folder(Section):
    kind: Literal["folder"]
    path: Path


class Device(Section):
    kind: Literal["device"]
    index: int = 0


class Example(Section):
    broker: BrokerSettings = BrokerSettings()
    camera: Annotated[Folder | Device, Field(discriminator="kind")] | None = None
    interval_s: float = Field(1.0, gt=0, description="pause between two fields")
    names: tuple[str, ...] = ()


def complaint(text: str, **environment: str) -> str:
    with pytest.raises(SettingsError) as caught:
        parse_settings(text, Example, source="edge.yaml", environment=environment)
    return str(caught.value)


FAULTS = {
    "broker:\n  hots: example\n": "edge.yaml, line 2: broker.hots is not a known key: did you mean 'host'",
    "intervall_s: 1\n": "edge.yaml, line 1: intervall_s is not a known key: did you mean 'interval_s'?",
    "\n\ninterval_s: soon\n": "edge.yaml, line 3: interval_s is not valid",
    "broker:\n  host: a\n  port: 99999\n": "edge.yaml, line 3: broker.port is not valid",
    "broker:\n  zzzzz: 1\n": "known keys here: connect_timeout_s, host",
    "camera:\n  kind: folder\n": "edge.yaml, line 1: camera.path is missing: add it",
    "camera:\n  kind: folder\n  path: x\n  indx: 1\n": "edge.yaml, line 4: camera.indx is not a known key",
    "camera:\n  kind: teapot\n": "edge.yaml, line 1: camera is not valid",
    "interval_s: 1\ninterval_s: 2\n": "edge.yaml, line 2: interval_s stands here a second time (first in line 1)",
    "broker:\n  - a\n": "edge.yaml, line 1: broker is not valid",
    "names:\n  - a\n  - [b]\n": "edge.yaml, line 3: names.1 is not valid",
    "broker: {\n": "edge.yaml, line 2: not valid YAML",
    "just text\n": "edge.yaml, line 1: a settings file is a list of 'key: value' lines",
    "a: !!python/object/apply:os.system ['true']\n": "edge.yaml, line 1: not valid YAML",
    "broker:\n  username: a\n  password: b\n": "edge.yaml, line 3: broker.password is a secret",
    "a: \x07\n": "edge.yaml: not valid YAML",
}


@pytest.mark.parametrize(("text", "expected"), FAULTS.items(), ids=range(len(FAULTS)))
def test_a_fault_names_line_key_and_remedy(text: str, expected: str) -> None:
    assert expected in complaint(text)


def test_all_faults_are_told_at_once() -> None:
    lines = complaint("interval_s: -1\nbroker:\n  port: x\n  hots: y\n").splitlines()
    assert [line.split(":")[0] for line in sorted(lines)] == [f"edge.yaml, line {n}" for n in (1, 3, 4)]


def test_the_secret_itself_never_stands_in_the_message() -> None:
    assert "hunter2" not in complaint("broker:\n  password: hunter2\n")


def test_the_environment_overrides_the_file() -> None:
    environment = {
        "HEMOLINK_BROKER__HOST": "example",
        "HEMOLINK_BROKER__PASSWORD": "secret",
        "HEMOLINK_INTERVAL_S": "2.5",
        "HEMOLINK_NAMES": "[a, b]",
        "HEMOLINK_BROKER__TLS__CA_FILE": "ca.pem",
        "HEMOLINK_WORKER__NAME": "another role's",
        "HEMOLINK_UNRELATED": "x",
    }
    loaded = parse_settings("broker:\n  host: other\n  port: 2\n", Example, environment=environment)
    assert (loaded.broker.host, loaded.broker.port, loaded.interval_s) == ("example", 2, 2.5)
    assert loaded.names == ("a", "b")
    assert loaded.broker.tls is not None
    assert loaded.broker.tls.ca_file == Path("ca.pem")
    assert loaded.broker.password is not None
    assert "secret" not in repr(loaded)


def test_a_fault_in_the_environment_names_the_variable() -> None:
    assert complaint("", HEMOLINK_BROKER__PORT="0").startswith(
        "environment variable HEMOLINK_BROKER__PORT: broker.port"
    )
    assert "did you mean 'port'" in complaint("", HEMOLINK_BROKER__PORTS="1")


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"none\.yaml: no such settings file: create it"):
        load_settings(tmp_path / "none.yaml", Example)
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match="not UTF-8"):
        load_settings(tmp_path / "binary.yaml", Example)
    with pytest.raises(SettingsError, match="cannot be read"):
        load_settings(tmp_path, Example)
    (tmp_path / "empty.yaml").write_text("")
    assert load_settings(tmp_path / "empty.yaml", Example) == Example()


def test_every_field_of_the_broker_is_described() -> None:
    assert all(field.description for field in BrokerSettings.model_fields.values())
