"""Progress of work in steps: one bar after another, one a step."""

from typing import Any, Self, TextIO

import click


class Steps:
    """Shows each step's progress as a bar.

    Args:
        stream: Where the bars go.
        hidden: Show nothing.
    """

    def __init__(self, stream: TextIO, *, hidden: bool = False) -> None:
        self._stream, self._hidden = stream, hidden
        self._bar: Any = None
        self._what, self._at = "", 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def step(self, what: str, done: int, total: int) -> None:
        """Show that `done` of `total` of a step is done; another step's name, or less than before, begins a new bar."""
        if what != self._what or done < self._at:
            self._close()
            self._bar = click.progressbar(length=total, label=what, file=self._stream, hidden=self._hidden)
            self._bar.__enter__()
            self._what, self._at = what, 0
        self._bar.update(done - self._at)
        self._at = done

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.__exit__(None, None, None)
            self._bar = None
