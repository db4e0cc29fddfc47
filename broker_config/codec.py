"""Encoding and decoding: CBOR for a frame, JSON for everything else.

Decoding raises one typed error that keeps the raw bytes; nothing else escapes, whatever the payload, and no payload
costs more time or memory than its size warrants (`broker_config.cbor_profile`).
"""

import json
from typing import Any, TypeVar

import cbor2
from pydantic import BaseModel, ValidationError

from broker_config import cbor_profile, desk_messages, device_messages, fleet_messages, messages
from broker_config.errors import DecodeError, UnknownVersion
from broker_config.messages import SCHEMA_VERSION, Frame, Message

CBOR = "application/cbor"
JSON = "application/json"
MAX_JSON_BYTES = 1_000_000
MAX_FRAME_BYTES = 64 * 1024 * 1024

M = TypeVar("M", bound=Message)

_FIELD_NAMES = frozenset(
    name
    for module in (messages, device_messages, fleet_messages, desk_messages)
    for model in vars(module).values()
    if isinstance(model, type) and issubclass(model, BaseModel)
    for name in model.model_fields
) | frozenset(messages.CLASSES)


def encode(message: Message) -> bytes:
    """Return a message's payload: CBOR for a `Frame`, UTF-8 JSON for any other."""
    if isinstance(message, Frame):
        fields = message.model_dump(mode="python", exclude={"image", "captured_at"})
        fields["captured_at"] = message.captured_at.isoformat()
        fields["image"] = message.image
        return cbor2.dumps(fields)
    return message.model_dump_json().encode()


def decode(payload: bytes, message_type: type[M]) -> M:
    """Return the message of type ``message_type`` that ``payload`` holds.

    Raises:
        UnknownVersion: If its schema version is newer than this release.
        DecodeError: If it is too large, not CBOR or JSON, not a map, or lacks or misuses a field.
    """
    fields = _fields(payload, message_type)
    version = fields.get("schema_version", SCHEMA_VERSION)
    if isinstance(version, bool) or not isinstance(version, int) or not 1 <= version <= SCHEMA_VERSION:
        # Text of the payload belongs in no log: it may be anybody's name.
        shown = f"{version!r:.40}" if isinstance(version, int) else type(version).__name__
        raise UnknownVersion(
            f"a {message_type.kind} of schema version {shown}: this release reads versions 1 to {SCHEMA_VERSION}; "
            "upgrade the receiver first, then the senders",
            payload=payload,
            code="unknown_version",
        )
    try:
        return message_type.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(_shown(part) for part in first["loc"][:6]) or "message"
        cause = f"whose {where} is not valid ({first['msg']})"
    except Exception as error:  # noqa: BLE001 - a validator that trips over hostile input means the same
        cause = f"with a value out of all bounds ({type(error).__name__})"
    raise DecodeError(
        f"a {message_type.kind} {cause}: the sender must follow schema version {version}",
        payload=payload,
        code="invalid_field",
    )


def _fields(payload: bytes, message_type: type[Message]) -> dict[str, Any]:
    is_frame = issubclass(message_type, Frame)
    limit = MAX_FRAME_BYTES if is_frame else MAX_JSON_BYTES
    form = "cbor" if is_frame else "json"
    if len(payload) > limit:
        raise DecodeError(
            f"a {message_type.kind} of {len(payload)} bytes: the limit is {limit}",
            payload=payload,
            code="too_large",
        )
    try:
        fields = _from_cbor(payload) if is_frame else _from_json(payload)
    except Exception as error:  # noqa: BLE001 - decoders raise many types on hostile bytes; all mean the same here
        raise DecodeError(
            f"a {message_type.kind} that is not {form.upper()} ({_cause(error)}): the sender must follow the "
            "published schema",
            payload=payload,
            code=f"not_{form}",
        ) from None
    if not isinstance(fields, dict) or not all(isinstance(key, str) for key in fields):
        raise DecodeError(
            f"a {message_type.kind} that is not a {form.upper()} map of named fields",
            payload=payload,
            code="not_a_map",
        )
    return fields


def _shown(part: str | int) -> str:
    """Return a part of a path for a message: a field's name or a number, and never a key that the sender chose."""
    return str(part) if isinstance(part, int) or part in _FIELD_NAMES else "(key)"


def _cause(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:120]


def _from_cbor(payload: bytes) -> Any:
    cbor_profile.check(payload)
    return cbor2.loads(payload)


def _from_json(payload: bytes) -> Any:
    # Through str: json.loads would also guess at UTF-16 and UTF-32.
    return json.loads(payload.decode("utf-8"), parse_constant=_refuse, object_pairs_hook=_without_repeats)


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a name stands twice in one object, and readers would disagree on which counts")
    return fields
