"""Encoding and decoding: CBOR for a frame, JSON for everything else.

Decoding raises one typed error that keeps the raw bytes; nothing else escapes, whatever the payload.
"""

import json
from typing import Any, TypeVar

import cbor2
from pydantic import ValidationError

from broker_config.errors import DecodeError, UnknownVersion
from broker_config.messages import SCHEMA_VERSION, Frame, Message

CBOR = "application/cbor"
JSON = "application/json"
MAX_JSON_BYTES = 1_000_000
MAX_FRAME_BYTES = 64 * 1024 * 1024

M = TypeVar("M", bound=Message)


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
        raise UnknownVersion(
            f"a {message_type.kind} of schema version {version!r:.40}: this release reads versions 1 to "
            f"{SCHEMA_VERSION}; upgrade the receiver first, then the senders",
            payload=payload,
            code="unknown_version",
        )
    try:
        return message_type.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "message"
        raise DecodeError(
            f"a {message_type.kind} whose {where} is not valid ({first['msg']}): the sender must follow schema "
            f"version {version}",
            payload=payload,
            code="invalid_field",
        ) from None


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
        fields = cbor2.loads(payload) if is_frame else json.loads(payload)
    except Exception as error:  # noqa: BLE001 - decoders raise many types on hostile bytes; all mean the same here
        raise DecodeError(
            f"a {message_type.kind} that is not {form.upper()} ({type(error).__name__}): the sender must follow the "
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
