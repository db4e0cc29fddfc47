"""The doctor: checks the machine and every part that a settings file names, with a remedy for each fault."""

import importlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from broker_config.errors import ContractError, SettingsError
from broker_config.settings import BrokerSettings, load_settings
from hemolink.checks.broker import check_broker
from hemolink.checks.installation import check_installation
from hemolink.checks.machine import check_machine
from hemolink.checks.model import check_models
from hemolink.finding import Finding, fault, fine
from hemolink.settings_role import Role, role_of, settings_model


def examine(settings_files: Sequence[Path]) -> list[Finding]:
    """Check everything that can be checked from here.

    Args:
        settings_files: The settings of the daemons that run, or are to run, on this machine. Without any, the
            machine, the packages, the shipped models and the default place of the broker are looked at.
    """
    findings: list[Finding] = []
    loaded: list[tuple[Role, Any]] = []
    for path in settings_files:
        try:
            role = role_of(path)
            loaded.append((role, load_settings(path, settings_model(role))))
        except (SettingsError, ModuleNotFoundError) as error:
            findings.append(_settings_fault(error))
        else:
            findings.append(fine("settings", f"{path}: valid settings of the {role}"))
    directory = loaded[0][1].directory if loaded else Path.cwd()
    findings += check_machine(directory)
    findings += check_installation({role for role, _ in loaded})
    if loaded:
        for broker in dict.fromkeys(one.broker for _, one in loaded):
            findings += _safely("broker", partial(check_broker, broker, asked_for=True))
        for role, one in loaded:
            findings += _check_role(role, one)
    if not settings_files:
        findings += _safely("broker", partial(check_broker, BrokerSettings(), asked_for=False))
        findings += check_models(None)
    return findings


def _check_role(role: Role, settings: Any) -> list[Finding]:
    match role:
        case "edge":
            return [*_call("camera", "check_camera", settings), *_call("spool", "check_spool", settings)]
        case "worker":
            return check_models(str(settings.model))
        case "dashboard":
            return _call("record", "check_record", settings)


def _call(module: str, function: str, settings: Any) -> list[Finding]:
    """Run one role's check, whose module imports what only that role's extra brings."""
    return _safely(
        module, lambda: getattr(importlib.import_module(f"hemolink.checks.{module}"), function)(settings)
    )


def _safely(area: str, check: Callable[[], list[Finding]]) -> list[Finding]:
    """Run a check; a failure of the check itself is a finding too, so that the others still run."""
    try:
        return check()
    except ModuleNotFoundError as error:
        return [fault(area, f"not checked: {error.name} is not installed", f"pip install {error.name}")]
    except (ContractError, OSError) as error:
        return [fault(area, str(error), "mend that and run the doctor again")]


def _settings_fault(error: Exception) -> Finding:
    if isinstance(error, ModuleNotFoundError):
        return fault(
            "settings", f"not checked: {error.name} is not installed", "pip install 'hemolink[demo]'"
        )
    return fault("settings", str(error), "mend the line that the message names")
