"""What the demo says while it runs: lines that stay, and one line that is written over."""

import shutil
import sys
import time
from typing import TextIO

QUIET_INTERVAL_S = 5.0


class Console:
    """Writes for a person to a terminal, or more sparingly to a file or pipe.

    Args:
        stream: Where to write; standard error when standard output is kept for JSON.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._live = ""
        self._live_at = 0.0

    @property
    def _is_terminal(self) -> bool:
        return self._stream.isatty()

    def say(self, text: str = "") -> None:
        """Write a line that stays."""
        self._clear()
        self._write(f"{text}\n")

    def box(self, *lines: str) -> None:
        """Write lines that must not be missed, in a box."""
        width = max(len(line) for line in lines) + 4
        self.say()
        self.say("  ┌" + "─" * width + "┐")
        for line in lines:
            self.say("  │  " + line.ljust(width - 2) + "│")
        self.say("  └" + "─" * width + "┘")
        self.say()

    def live(self, text: str) -> None:
        """Write over the live line; where there is no terminal, write a changed line every few seconds."""
        if self._is_terminal:
            columns = shutil.get_terminal_size().columns
            self._clear()
            self._write(text[: columns - 1])
            self._live = text
        elif text != self._live and time.monotonic() - self._live_at > QUIET_INTERVAL_S:
            self._write(f"{text}\n")
            self._live, self._live_at = text, time.monotonic()

    def _clear(self) -> None:
        if self._live and self._is_terminal:
            self._write("\r\x1b[K")
            self._live = ""

    def _write(self, text: str) -> None:
        encoding = self._stream.encoding or "utf-8"
        self._stream.write(text.encode(encoding, "replace").decode(encoding))
        self._stream.flush()


def console_for(*, as_json: bool) -> Console:
    """Return the console: on standard error if standard output is to hold JSON alone."""
    return Console(sys.stderr if as_json else sys.stdout)
