"""Dots with whiskers, as SVG."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

_WIDTH: Final = 920
_LABELS: Final = 330
_VALUES: Final = 170
_ROW: Final = 24
_TOP: Final = 30


@dataclass(frozen=True)
class Interval:
    """A figure with its interval, all 0..1.

    Attributes:
        label: What it is of.
        value: The figure.
        low: Lower end.
        high: Upper end.
        colour: Of the dot, as CSS has it.
    """

    label: str
    value: float
    low: float
    high: float
    colour: str = "#1f5fa8"


def interval_chart(rows: Sequence[Interval], *, mark: float | None = None, mark_label: str = "") -> str:
    """Figures in percent, one a row, with their intervals.

    Args:
        rows: From top to bottom.
        mark: A value to mark with a dashed line.
        mark_label: What it is.
    """
    height = _TOP + _ROW * len(rows) + 26
    bottom = height - 22

    def x(value: float) -> float:
        return _LABELS + value * (_WIDTH - _LABELS - _VALUES)

    parts = [
        f'<svg viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" role="img" font-family="system-ui,sans-serif" font-size="13">'
    ]
    for tick in range(0, 101, 20):
        at = x(tick / 100)
        parts.append(
            f'<line x1="{at:.1f}" y1="{_TOP - 8}" x2="{at:.1f}" y2="{bottom}" stroke="#e3e8ed"/>'
            f'<text x="{at:.1f}" y="{height - 6}" text-anchor="middle" fill="#4c5a69">{tick} %</text>'
        )
    if mark is not None:
        at = x(mark)
        parts.append(
            f'<line x1="{at:.1f}" y1="{_TOP - 8}" x2="{at:.1f}" y2="{bottom}" stroke="#1d2733" stroke-dasharray="4 3"/>'
            f'<text x="{at:.1f}" y="{_TOP - 13}" text-anchor="middle" fill="#1d2733">{escape(mark_label)}</text>'
        )
    for number, row in enumerate(rows):
        y = _TOP + _ROW * number + _ROW / 2
        parts.append(
            f'<text x="{_LABELS - 12}" y="{y + 4:.1f}" text-anchor="end" fill="#1d2733">{escape(row.label)}</text>'
            f'<line x1="{x(row.low):.1f}" y1="{y:.1f}" x2="{x(row.high):.1f}" y2="{y:.1f}" stroke="{row.colour}" '
            f'stroke-width="2"/><circle cx="{x(row.value):.1f}" cy="{y:.1f}" r="4.5" fill="{row.colour}"/>'
            f'<text x="{_WIDTH - _VALUES + 16}" y="{y + 4:.1f}" fill="#1d2733">{100 * row.value:.1f} '
            f"({100 * row.low:.1f} to {100 * row.high:.1f})</text>"
        )
    return "".join([*parts, "</svg>"])
