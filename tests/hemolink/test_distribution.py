"""What is packaged, and what the documents promise of it."""

import importlib
import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import click
import pytest

from hemolink.cli import cli

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PACKAGES = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
EXTRAS = PROJECT["project"]["optional-dependencies"]
DOCUMENTS = ("README.md", "docs/ARCHITECTURE.md")


@pytest.mark.parametrize("package", PACKAGES)
def test_every_exported_name_exists(package):
    module = importlib.import_module(package)
    assert module.__doc__, f"{package}/__init__.py has no docstring"
    for name in getattr(module, "__all__", ()):
        assert hasattr(module, name), f"{package}.{name}"


def entry_points() -> list[str]:
    groups = PROJECT["project"]["entry-points"]
    return [
        *PROJECT["project"]["scripts"].values(),
        *(value for group in groups.values() for value in group.values()),
    ]


@pytest.mark.parametrize("target", entry_points())
def test_every_entry_point_exists(target):
    module, _, name = target.partition(":")
    assert callable(getattr(importlib.import_module(module), name))


def requirements(extra: str) -> set[str]:
    names: set[str] = set()
    for line in EXTRAS[extra]:
        own = re.fullmatch(r"hemolink\[([a-z,-]+)\]", line)
        if own:
            names |= set().union(*(requirements(other) for other in own[1].split(",")))
        else:
            names.add(re.match(r"[A-Za-z0-9_-]+", line)[0].lower())
    return names


@pytest.mark.parametrize("extra", ["edge", "worker", "dashboard", "embedded", "demo"])
def test_no_role_but_training_and_the_gpu_installs_torch(extra):
    assert not requirements(extra) & {"torch", "torchvision", "timm", "onnxruntime", "scikit-learn"}


def test_the_demo_brings_every_role_it_starts():
    assert requirements("demo") >= requirements("edge") | requirements("worker") | requirements("dashboard")


def shell_lines(document: str) -> list[str]:
    text = (ROOT / document).read_text(encoding="utf-8")
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    inline = re.findall(r"`((?:hemolink|scripts/)[^`\n]*)`", text)
    lines = [line for block in blocks for line in block.splitlines()] + inline
    return [line.partition("#")[0].strip() for line in lines if line.partition("#")[0].strip()]


COMMANDS = sorted({line for document in DOCUMENTS for line in shell_lines(document)})


@pytest.mark.parametrize("line", [line for line in COMMANDS if line.startswith("hemolink")])
def test_every_documented_command_exists_with_its_options(line):
    words = shlex.split(line)[1:]
    command: click.Command = cli
    context = click.Context(cli)
    while words and isinstance(command, click.Group) and not words[0].startswith("-"):
        if words[0].isupper() or "/" in words[0] or words[0].endswith(".py"):
            break
        found = command.get_command(context, words[0])
        assert found is not None, f"{line!r}: no command {words[0]!r}"
        command, words = found, words[1:]
    known = {option for parameter in command.params for option in parameter.opts + parameter.secondary_opts}
    known |= {"--help"}
    for word in words:
        if word.startswith("-"):
            assert word in known, f"{line!r}: no option {word!r}"


@pytest.mark.parametrize("line", [line for line in COMMANDS if line.startswith("scripts/")])
def test_every_documented_script_exists(line):
    script, *words = shlex.split(line)
    path = ROOT / script
    assert path.is_file()
    assert path.stat().st_mode & 0o111, f"{script} is not executable"
    if script == "scripts/demo":
        demo = cli.get_command(click.Context(cli), "demo")
        known = {option for parameter in demo.params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= known


@pytest.mark.parametrize(
    "script", ["scripts/demo", "scripts/test", "scripts/check", "scripts/environment.sh"]
)
def test_scripts_are_plain_shell(script):
    subprocess.run(["sh", "-n", str(ROOT / script)], check=True)


@pytest.mark.parametrize("document", [*DOCUMENTS, "CHANGELOG.md"])
def test_every_link_in_the_documents_leads_somewhere(document):
    path = ROOT / document
    for target in re.findall(r"\]\(([^)#\s]+)", path.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (path.parent / target).exists(), f"{document}: {target}"
