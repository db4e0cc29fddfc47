"""The published contract: JSON Schemas, an AsyncAPI document and the delivery table as a page, made from the types.

``python -m broker_config.schema_documents --check`` fails when the files under docs/contract are stale; ``--write``
makes them anew.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from broker_config.codec import CBOR
from broker_config.delivery import DELIVERY, Delivery
from broker_config.messages import SCHEMA_VERSION
from broker_config.topics import PRIORITIES, VERBS, VERSION, TopicKind

DIRECTORY = Path(__file__).resolve().parent.parent / "docs" / "contract"

TOPIC: dict[TopicKind, str] = {
    "frame": "{root}/v1/{site}/{device}/frame/{priority}",
    "diagnosis": "{root}/v1/{site}/{device}/diagnosis",
    "receipt": "{root}/v1/{site}/{device}/receipt",
    "rejected": "{root}/v1/{site}/{device}/rejected",
    "case": "{root}/v1/{site}/{device}/case",
    "review": "{root}/v1/{site}/{device}/review",
    "alert": "{root}/v1/{site}/{device}/alert",
    "state": "{root}/v1/{site}/{device}/state",
    "command": "{root}/v1/{site}/{device}/command/{verb}",
    "response": "{root}/v1/{site}/{device}/command/{verb}/response",
    "worker-state": "{root}/v1/fleet/{worker}/state",
    "fleet-model": "{root}/v1/fleet/model",
    "fleet-stops": "{root}/v1/fleet/stops",
}
"""The topic of each kind, with its variable levels in braces."""

_PARAMETERS: dict[str, dict[str, Any]] = {
    "root": {"default": "hemolink", "description": "first level of every topic of an installation"},
    "site": {"description": "site; nothing that identifies a patient"},
    "device": {"description": "device; nothing that identifies a patient"},
    "priority": {"enum": list(PRIORITIES), "description": "stat is diagnosed before routine"},
    "verb": {"enum": list(VERBS), "description": "what the device is told to do"},
    "worker": {"description": "worker"},
}


def json_schema(row: Delivery) -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of one kind of message."""
    schema = row.message.model_json_schema(mode="validation")
    schema["properties"]["schema_version"].update(minimum=1, maximum=SCHEMA_VERSION)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:hemolink:{row.kind}:{SCHEMA_VERSION}",
        "x-content-type": row.content_type,
        **schema,
    }


def asyncapi() -> dict[str, Any]:
    """Return the AsyncAPI 3.0 document: a channel and a message for each kind, an operation for each role at it."""
    channels, operations, messages = {}, {}, {}
    for kind, row in DELIVERY.items():
        names = [part[1:-1] for part in TOPIC[kind].split("/") if part.startswith("{")]
        channels[kind] = {
            "address": TOPIC[kind],
            "description": row.why or f"Carries each {kind}.",
            "parameters": {name: _PARAMETERS[name] for name in names},
            "messages": {kind: {"$ref": f"#/components/messages/{kind}"}},
        }
        messages[kind] = {
            "name": kind,
            "contentType": row.content_type,
            "payload": {"$ref": f"./{kind}.schema.json"},
        }
        binding: dict[str, Any] = {"qos": row.qos, "retain": row.retain, "bindingVersion": "0.2.0"}
        if row.expiry_s is not None:
            binding["messageExpiryInterval"] = row.expiry_s
        for action, roles in (("send", row.publishers), ("receive", row.subscribers)):
            for role in roles:
                operations[f"{role}-{action}s-{kind}"] = {
                    "action": action,
                    "title": f"{role} {action}s {kind}",
                    "channel": {"$ref": f"#/channels/{kind}"},
                    "bindings": {"mqtt": binding},
                }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Hemolink",
            "version": f"{VERSION}.{SCHEMA_VERSION}",
            "description": "The messages of Hemolink. Decision support, not a medical device.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
        "components": {"messages": messages},
    }


def delivery_page() -> str:
    """Return the delivery table as Markdown."""
    lines = [
        "# The contract",
        "",
        "Made from `broker_config` by `python -m broker_config.schema_documents --write`; do not edit.",
        "",
        "Every message is QoS 1 or as the table says. The schemas beside this page give the fields; a frame travels as",
        "one CBOR map (definite lengths, text keys, no tags), everything else as UTF-8 JSON. `asyncapi.json` is the",
        "same in AsyncAPI 3.0.",
        "",
        "| message | topic | from | to | QoS | retained | expires | why |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for kind, row in DELIVERY.items():
        cells = [
            f"[{kind}]({kind}.schema.json)" + (" (CBOR)" if row.content_type == CBOR else ""),
            f"`{TOPIC[kind]}`",
            ", ".join(row.publishers),
            ", ".join(row.subscribers),
            str(row.qos),
            "yes" if row.retain else "no",
            f"{row.expiry_s} s" if row.expiry_s is not None else "never",
            row.why,
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def documents() -> dict[str, str]:
    """Return every document's text by file name."""
    made = {f"{kind}.schema.json": _text(json_schema(row)) for kind, row in DELIVERY.items()}
    return {**made, "asyncapi.json": _text(asyncapi()), "README.md": delivery_page()}


def stale(directory: Path = DIRECTORY) -> list[str]:
    """Return the names of the files that are missing, differ, or no longer belong there."""
    wanted = documents()
    names = [name for name, text in wanted.items() if _read(directory / name) != text]
    if directory.is_dir():
        names += sorted(path.name for path in directory.iterdir() if path.name not in wanted)
    return names


def write(directory: Path = DIRECTORY) -> None:
    """Write every document, and remove schemas of messages that are gone."""
    directory.mkdir(parents=True, exist_ok=True)
    wanted = documents()
    for name, text in wanted.items():
        (directory / name).write_text(text, encoding="utf-8")
    for path in directory.glob("*.schema.json"):
        if path.name not in wanted:
            path.unlink()


def _read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None


def _text(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``--check`` or ``--write``; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m broker_config.schema_documents", description=__doc__)
    choice = parser.add_mutually_exclusive_group(required=True)
    choice.add_argument("--check", action="store_true", help="fail when a file is stale")
    choice.add_argument("--write", action="store_true", help="make the files anew")
    parser.add_argument("--directory", type=Path, default=DIRECTORY)
    options = parser.parse_args(arguments)
    if options.write:
        write(options.directory)
        print(f"{len(documents())} files in {options.directory}")
        return 0
    names = stale(options.directory)
    if names:
        print(
            f"stale in {options.directory}: {', '.join(names)}: run python -m broker_config.schema_documents --write",
            file=sys.stderr,
        )
    return 1 if names else 0


if __name__ == "__main__":
    sys.exit(main())
