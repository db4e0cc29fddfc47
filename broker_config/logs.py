"""Logging to standard error, with the ids in every line.

A record carries its ids as ``extra={"frame_id": ..., "case": ...}``; both forms show them.
"""

import json
import logging
import sys
import threading
import time
from datetime import UTC, datetime
from typing import Literal

# What every record has of itself; whatever else stands in it came through ``extra``.
_OWN = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}
_QUIET = (
    "amqtt",
    "transitions",
    "asyncio",
    "websockets",
    "PIL",
    "urllib3",
    "sqlalchemy.engine",
    "uvicorn.access",
)
_MAX_VALUE = 200
_BURST = 20
_PER_S = 1.0
_MAX_KINDS = 1000


def _ids(record: logging.LogRecord) -> dict[str, object]:
    return {
        key: value for key, value in record.__dict__.items() if key not in _OWN and not key.startswith("_")
    }


def _one_line(text: str) -> str:
    # A hostile topic or reason must not forge a second record.
    return "".join(character if character.isprintable() else f"\\x{ord(character):02x}" for character in text)


class TextFormatter(logging.Formatter):
    """One line a record: time in UTC, level, logger, message, then ``key=value`` for each id."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's line, and the traceback below it if there is one."""
        at = datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3]
        ids = "".join(f" {key}={str(value)[:_MAX_VALUE]}" for key, value in _ids(record).items())
        line = _one_line(f"{at}Z {record.levelname:<7} {record.name}: {record.getMessage()}{ids}")
        if record.exc_info:
            # A traceback ends with an exception's text, which may be somebody else's.
            line += "".join(
                f"\n{_one_line(part)}" for part in self.formatException(record.exc_info).split("\n")
            )
        return line


class JsonFormatter(logging.Formatter):
    """One JSON object a record, with the ids as keys of their own."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line of JSON."""
        fields: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        for key, value in _ids(record).items():
            if key not in fields:
                fields[key] = value if isinstance(value, bool | int | float) else str(value)[:_MAX_VALUE]
        if record.exc_info:
            fields["error"] = self.formatException(record.exc_info)
        # ASCII alone: a terminal must not obey what a text carries (U+202E, C1 controls), nor a reader split at U+2028.
        return json.dumps(fields)


class FloodGate(logging.Filter):
    """Lets twenty records of a kind through at once and then one a second, with the number of those left out.

    A kind is a logger and the text of its message before the values are filled in, so that a flood of malformed
    messages fills no disk and hides no other news.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._kinds: dict[tuple[str, str], list[float]] = {}  # tokens, when counted, records left out

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record goes through."""
        now = time.monotonic()
        with self._lock:
            if len(self._kinds) > _MAX_KINDS:
                self._kinds.clear()
            kind = self._kinds.setdefault((record.name, str(record.msg)), [_BURST, now, 0])
            tokens = min(_BURST, kind[0] + (now - kind[1]) * _PER_S)
            kind[1] = now
            if tokens < 1:
                kind[0] = tokens
                kind[2] += 1
                return False
            kind[0], left_out, kind[2] = tokens - 1, int(kind[2]), 0
        if left_out:
            record.msg = f"{record.getMessage()} ({left_out} like it were left out)"
            record.args = None
        return True


def configure(level: str = "INFO", form: Literal["text", "json"] = "text") -> None:
    """Send every log record to standard error in the given form. Call once, from ``__main__``.

    Args:
        level: Lowest level shown.
        form: ``text`` for people, ``json`` for machines.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(FloodGate())
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
