"""Settings files: YAML, validated before anything starts, with the line number in every complaint.

Environment variables override the file: ``HEMOLINK_<SECTION>__<KEY>`` for a key of a section and ``HEMOLINK_<KEY>``
for a key at the top. Secrets never stand in the file: they come from files of their own or from the environment.
"""

import difflib
import os
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from broker_config.errors import SettingsError

MAX_FILE_BYTES = 1_000_000
ENVIRONMENT_PREFIX = "HEMOLINK_"

S = TypeVar("S", bound=BaseModel)
_Path = tuple[str | int, ...]


class Section(BaseModel):
    """Base of a settings model: frozen, and refusing keys that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class TlsSettings(Section):
    """How the connection to the broker is secured."""

    ca_file: Path | None = Field(
        None, description="the certificate authority to trust, PEM; the system's own if none"
    )
    cert_file: Path | None = Field(
        None, description="this client's certificate, PEM, where the broker asks for one"
    )
    key_file: Path | None = Field(None, description="the key of cert_file, PEM")


class BrokerSettings(Section):
    """How to reach the broker."""

    host: str = Field("127.0.0.1", min_length=1, description="name or address of the broker")
    port: int = Field(1883, ge=1, le=65535, description="1883 plain, 8883 with TLS")
    protocol: Literal["5", "3.1.1"] = Field(
        "5", description="MQTT version; the embedded broker speaks 3.1.1 only"
    )
    root: str = Field("hemolink", description="first level of every topic")
    username: str | None = Field(None, description="user name at the broker")
    password_file: Path | None = Field(
        None, description="file that holds the password, readable by this user only"
    )
    password: SecretStr | None = Field(
        None, description="only through the environment, as HEMOLINK_BROKER__PASSWORD"
    )
    tls: TlsSettings | None = Field(None, description="present: TLS; absent: plain TCP")
    keepalive_s: int = Field(
        30, ge=1, le=600, description="the broker gives a silent client up after 1.5 times this"
    )
    session_expiry_s: int = Field(
        3600,
        ge=0,
        le=4_294_967_295,
        description="how long the broker keeps a session that asked to be kept (MQTT 5)",
    )
    connect_timeout_s: float = Field(
        10.0, gt=0, le=300, description="for the connection and again for the broker's answer to CONNECT"
    )
    publish_timeout_s: float = Field(
        15.0, gt=0, le=3600, description="how long a publish waits for its acknowledgement"
    )
    reconnect_max_s: float = Field(
        30.0, gt=0, le=3600, description="upper bound of the pause between two tries"
    )
    max_packet_bytes: int | None = Field(
        None,
        ge=1024,
        le=268_435_460,
        description="largest packet to send; the broker's own announcement counts too",
    )


class LogSettings(Section):
    """How a daemon logs."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="lowest level shown")
    form: Literal["text", "json"] = Field("text", description="one line a record, for people or for machines")


class MonitorSettings(Section):
    """Where a daemon answers /healthz, /readyz, /metrics and /status."""

    host: str = Field("127.0.0.1", min_length=1, description="address to listen on")
    port: int = Field(0, ge=0, le=65535, description="0: any free port")


def load_settings(path: Path, model: type[S]) -> S:
    """Read a YAML settings file into ``model``.

    Args:
        path: The file. It may be empty, if every key has a default.
        model: A pydantic model that forbids unknown keys.

    Raises:
        SettingsError: If the file cannot be read, is not YAML, or holds an unknown or wrong value; the message
            names file, line, key and remedy, one line for each fault.
    """
    path = Path(path)
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise SettingsError(f"{path}: larger than {MAX_FILE_BYTES} bytes: this is no settings file")
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SettingsError(f"{path}: no such settings file: create it, or name another") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{path}: not UTF-8 text: save it as UTF-8") from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise SettingsError(
            f"{path}: cannot be read ({reason}): check the path and its permissions"
        ) from None
    return parse_settings(text, model, source=str(path), environment=os.environ)


def parse_settings(
    text: str, model: type[S], *, source: str = "settings", environment: Mapping[str, str] | None = None
) -> S:
    """Read settings from YAML text; see `load_settings`.

    Args:
        text: The YAML text.
        model: A pydantic model that forbids unknown keys.
        source: What to call the text in a message.
        environment: Variables that may override it; none by default.
    """
    values, lines = _read_yaml(text, source)
    for where in _secrets(model):
        if _holds(values, where):
            raise SettingsError(
                f"{source}, line {lines.get(where, 1)}: {_dotted(where)} is a secret and may not stand in a settings "
                f"file: use {_dotted(where)}_file, or the variable {_variable(where)}"
            )
    overridden = _override(values, model, environment or {})
    try:
        return model.model_validate(values)
    except ValidationError as error:
        faults = [
            _fault(dict(one), model=model, values=values, lines=lines, source=source, overridden=overridden)
            for one in error.errors(include_url=False, include_input=False)
        ]
        raise SettingsError("\n".join(dict.fromkeys(faults))) from None


# YAML with line numbers


def _read_yaml(text: str, source: str) -> tuple[dict[str, Any], dict[_Path, int]]:
    lines: dict[_Path, int] = {}
    try:
        loader = yaml.SafeLoader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return {}, lines
            _note_lines(node, (), lines, source)
            values = loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f", line {mark.line + 1}" if mark else ""
        raise SettingsError(
            f"{source}{where}: not valid YAML ({error.problem or 'unreadable'}): check indentation and quotes"
        ) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise SettingsError(
            f"{source}: not valid YAML ({type(error).__name__}): check the file's text"
        ) from None
    if not isinstance(values, dict):
        raise SettingsError(f"{source}, line 1: a settings file is a list of 'key: value' lines")
    return values, lines


def _note_lines(node: yaml.Node, path: _Path, lines: dict[_Path, int], source: str) -> None:
    lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, value in node.value:
            name, line = str(key.value), key.start_mark.line + 1
            if name in seen:
                raise SettingsError(
                    f"{source}, line {line}: {_dotted((*path, name))} stands here a second time (first in line "
                    f"{seen[name]}): keep one"
                )
            seen[name] = line
            lines[(*path, name)] = line
            _note_lines(value, (*path, name), lines, source)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            _note_lines(value, (*path, index), lines, source)


# Environment


def _variable(path: _Path) -> str:
    return ENVIRONMENT_PREFIX + "__".join(str(part).upper() for part in path)


def _override(
    values: dict[str, Any], model: type[BaseModel], environment: Mapping[str, str]
) -> dict[_Path, str]:
    """Put the variables' values into ``values`` and return which variable set which path."""
    sections = {name: bool(list(_models_in(field.annotation))) for name, field in model.model_fields.items()}
    overridden: dict[_Path, str] = {}
    for variable, text in sorted(environment.items()):
        if not variable.startswith(ENVIRONMENT_PREFIX):
            continue
        path = tuple(variable.removeprefix(ENVIRONMENT_PREFIX).lower().split("__"))
        # A section of another role is none of our business, but an unknown key in a section of ours is a fault.
        if path[0] not in sections or sections[path[0]] != (len(path) > 1):
            continue
        inner = values
        for part in path[:-1]:
            child = inner.get(part)
            if not isinstance(child, dict):
                child = inner[part] = {}
            inner = child
        inner[path[-1]] = _from_text(text, variable)
        overridden[path] = variable
    return overridden


def _from_text(text: str, variable: str) -> Any:
    if not text:
        return None
    if text[0] in "[{":
        try:
            return yaml.safe_load(text)
        except yaml.YAMLError:
            raise SettingsError(
                f"environment variable {variable}: not a valid list or map: check brackets and quotes"
            ) from None
    return text


# Messages


def _fault(
    error: dict[str, Any],
    *,
    model: type[BaseModel],
    values: dict[str, Any],
    lines: dict[_Path, int],
    source: str,
    overridden: Mapping[_Path, str],
) -> str:
    path = _present(error["loc"], values, missing=error["type"] == "missing")
    name = _dotted(path) or "the file"
    place = _place(path, lines, source, overridden)
    if error["type"] == "extra_forbidden":
        known = sorted(_keys_at(model, path[:-1]))
        near = difflib.get_close_matches(str(path[-1]), known, n=2)
        hint = (
            f"did you mean {' or '.join(map(repr, near))}?"
            if near
            else f"known keys here: {', '.join(known)}"
        )
        return f"{place}: {name} is not a known key: {hint}"
    if error["type"] == "missing":
        return f"{place}: {name} is missing: add it{_described(model, path)}"
    message = str(error["msg"])
    message = message.removeprefix("Value error, ")
    return f"{place}: {name} is not valid: {message[:1].lower()}{message[1:]}{_described(model, path)}"


def _present(loc: tuple[str | int, ...], values: Any, *, missing: bool) -> _Path:
    """Drop the parts of a pydantic location that are tags of a union and not keys of the file."""
    path: list[str | int] = []
    here = values
    for index, part in enumerate(loc):
        last = index == len(loc) - 1
        try:
            here = here[part]  # a map takes a name, a list a number; anything else is a tag
        except (KeyError, IndexError, TypeError):
            if last and missing:
                path.append(part)
        else:
            path.append(part)
    return tuple(path)


def _place(path: _Path, lines: dict[_Path, int], source: str, overridden: Mapping[_Path, str]) -> str:
    if path in overridden:
        return f"environment variable {overridden[path]}"
    while path and path not in lines:
        path = path[:-1]
    return f"{source}, line {lines.get(path, 1)}"


def _dotted(path: _Path) -> str:
    return ".".join(str(part) for part in path)


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield every model that an annotation may hold, through optionals, unions, lists and Annotated."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) in (Union, types.UnionType) or get_args(annotation):
        for part in get_args(annotation):
            yield from _models_in(part)


def _models_at(model: type[BaseModel], path: _Path) -> list[type[BaseModel]]:
    here = [model]
    for part in path:
        if isinstance(part, str):
            here = [
                inner
                for outer in here
                if part in outer.model_fields
                for inner in _models_in(outer.model_fields[part].annotation)
            ]
    return here


def _keys_at(model: type[BaseModel], path: _Path) -> set[str]:
    return {name for one in _models_at(model, path) for name in one.model_fields}


def _described(model: type[BaseModel], path: _Path) -> str:
    if path and isinstance(path[-1], str):
        for one in _models_at(model, path[:-1]):
            field = one.model_fields.get(path[-1])
            if field is not None and field.description:
                return f" ({field.description})"
    return ""


def _secrets(model: type[BaseModel], path: _Path = ()) -> Iterator[_Path]:
    for name, field in model.model_fields.items():
        if field.annotation is SecretStr or SecretStr in get_args(field.annotation):
            yield (*path, name)
        for inner in _models_in(field.annotation):
            yield from _secrets(inner, (*path, name))


def _holds(values: Any, path: _Path) -> bool:
    for part in path:
        if not isinstance(values, dict) or part not in values:
            return False
        values = values[part]
    return True
