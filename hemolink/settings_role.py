"""Which role a settings file belongs to, told by its keys."""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel

from broker_config.errors import SettingsError

Role = Literal["edge", "worker", "dashboard"]
SETTINGS_MODULES: Mapping[Role, str] = {
    "edge": "edge_agent.settings",
    "worker": "cloud_worker.settings",
    "dashboard": "clinician_dashboard.settings",
}


def settings_model(role: Role) -> type[BaseModel]:
    """Return the model of a role's settings file."""
    model: Any = importlib.import_module(SETTINGS_MODULES[role]).Settings
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        raise TypeError(f"{SETTINGS_MODULES[role]}.Settings is not a pydantic model")
    return model


def role_of(path: Path) -> Role:
    """Return the role that knows most of a settings file's top-level keys.

    Raises:
        SettingsError: If the file cannot be read, or fits no role or several.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read ({error.strerror}): check the path") from None
    except (yaml.YAMLError, ValueError) as error:
        raise SettingsError(f"{path}: not YAML ({error}): mend the file") from None
    keys = {str(key) for key in content} if isinstance(content, dict) else set()
    # A key that several roles know tells nothing: each role is judged by the keys that it alone knows.
    fields: dict[Role, set[str]] = {role: set(settings_model(role).model_fields) for role in SETTINGS_MODULES}
    own = {
        role: known - set().union(*(others for other, others in fields.items() if other != role))
        for role, known in fields.items()
    }
    ranked = sorted(
        ((len(keys & own[role]), len(keys & fields[role]), role) for role in fields), reverse=True
    )
    best, second = ranked[0], ranked[1]
    if best[:2] == (0, 0) or best[:2] == second[:2]:
        known = "; ".join(f"{role}: {', '.join(sorted(own[role]))}" for role in fields)
        raise SettingsError(f"{path}: fits no one role: add a key that only one of them knows ({known})")
    return best[2]
