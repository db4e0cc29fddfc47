"""Plots as SVG, drawn by hand: lines, bars and a confusion matrix."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Final

COLOURS: Final = ("#1f5fa8", "#b3391f", "#1c6b3a", "#8a5a00", "#6b3fa0", "#00707a", "#5c6670")
_SIZE: Final = 300
_LEFT: Final = 58
_BOTTOM: Final = 40
_TOP: Final = 30
_RIGHT: Final = 12
_INK: Final = "#1d2733"
_DIM: Final = "#4c5a69"
_GRID: Final = "#e3e8ed"


@dataclass(frozen=True)
class Line:
    """A curve, or dots.

    Attributes:
        points: x and y, in the plot's units.
        label: For the legend; empty for none.
        colour: As CSS has it.
        dots: Draw dots, joined by nothing, instead of a curve.
        whiskers: Low and high y of each point, or nothing.
    """

    points: Sequence[tuple[float, float]]
    label: str = ""
    colour: str = COLOURS[0]
    dots: bool = False
    dashed: bool = False
    whiskers: Sequence[tuple[float, float]] = field(default=())


def line_plot(
    title: str,
    lines: Sequence[Line],
    *,
    x: str,
    y: str,
    x_range: tuple[float, float] = (0.0, 1.0),
    y_range: tuple[float, float] = (0.0, 1.0),
) -> str:
    """Curves over one pair of axes.

    Args:
        title: Above it.
        lines: To draw.
        x: What the horizontal axis shows.
        y: What the vertical axis shows.
        x_range: Ends of the horizontal axis.
        y_range: Ends of the vertical axis; what lies outside is drawn at the end.
    """
    labelled = [line for line in lines if line.label]
    height = _TOP + _SIZE + _BOTTOM + 18 * len(labelled)
    width = _LEFT + _SIZE + _RIGHT

    def at(px: float, py: float) -> tuple[float, float]:
        across = (px - x_range[0]) / (x_range[1] - x_range[0])
        up = (py - y_range[0]) / (y_range[1] - y_range[0])
        return _LEFT + _SIZE * min(max(across, 0), 1), _TOP + _SIZE * (1 - min(max(up, 0), 1))

    parts = [_open(width, height, title), *_axes(x_range, y_range, x=x, y=y)]
    for line in lines:
        places = [at(*point) for point in line.points]
        for (px, _), (low, high) in zip(line.points, line.whiskers, strict=False):
            (wx, bottom), (_, top) = at(px, low), at(px, high)
            parts.append(
                f'<line x1="{wx:.1f}" y1="{bottom:.1f}" x2="{wx:.1f}" y2="{top:.1f}" stroke="{line.colour}"/>'
            )
        if line.dots:
            parts += [
                f'<circle cx="{px:.1f}" cy="{py:.1f}" r="3.6" fill="{line.colour}"/>' for px, py in places
            ]
        elif places:
            dash = ' stroke-dasharray="4 3"' if line.dashed else ""
            path = " ".join(f"{px:.1f},{py:.1f}" for px, py in places)
            parts.append(
                f'<polyline points="{path}" fill="none" stroke="{line.colour}" stroke-width="1.8"{dash}/>'
            )
    for number, line in enumerate(labelled):
        down = _TOP + _SIZE + _BOTTOM + 18 * number + 8
        parts.append(
            f'<rect x="{_LEFT}" y="{down - 6}" width="14" height="4" fill="{line.colour}"/>'
            f'<text x="{_LEFT + 20}" y="{down}" font-size="12" fill="{_INK}">{escape(line.label)}</text>'
        )
    return "".join([*parts, "</svg>"])


def histograms(
    title: str,
    rows: Sequence[tuple[str, Sequence[float]]],
    *,
    limit: float,
    mark: float,
    mark_label: str,
    bins: int = 48,
) -> str:
    """One histogram a row over a common axis from 0 to `limit`; what lies beyond is counted in the last bin.

    Args:
        title: Above it.
        rows: Name and values of each.
        limit: Right end of the axis.
        mark: A value to mark with a dashed line.
        mark_label: What it is.
        bins: How many.
    """
    width, left, row_height = 860, 190, 62
    span = width - left - 20
    height = 56 + row_height * len(rows) + 34
    parts = [_open(width, height, title)]
    for number, (name, values) in enumerate(rows):
        base = 50 + row_height * (number + 1) - 8
        counts = [0] * bins
        for value in values:
            counts[min(bins - 1, int(bins * value / limit)) if math.isfinite(value) else bins - 1] += 1
        most = max(counts) or 1
        bars = "".join(
            f'<rect x="{left + span * i / bins:.1f}" y="{base - 44 * n / most:.1f}" width="{span / bins - 1:.1f}" '
            f'height="{44 * n / most:.1f}" fill="{COLOURS[number % len(COLOURS)]}"/>'
            for i, n in enumerate(counts)
            if n
        )
        parts.append(
            f'<text x="{left - 12}" y="{base - 12}" text-anchor="end" font-size="13" fill="{_INK}">{escape(name)}</text>'
            f'<line x1="{left}" y1="{base}" x2="{left + span}" y2="{base}" stroke="{_GRID}"/>{bars}'
        )
    bottom = 50 + row_height * len(rows)
    for number in range(6):
        value = limit * number / 5
        over = "+" if number == 5 else ""  # noqa: PLR2004 - the last tick
        parts.append(
            f'<text x="{left + span * number / 5:.1f}" y="{bottom + 16}" text-anchor="middle" font-size="12" '
            f'fill="{_DIM}">{value:.2g}{over}</text>'
        )
    where = left + span * min(mark / limit, 1)
    parts.append(
        f'<line x1="{where:.1f}" y1="42" x2="{where:.1f}" y2="{bottom}" stroke="{_INK}" stroke-dasharray="4 3"/>'
        f'<text x="{where:.1f}" y="38" text-anchor="middle" font-size="12" fill="{_INK}">{escape(mark_label)}</text>'
    )
    return "".join([*parts, "</svg>"])


def confusion(labels: Sequence[str], counts: Sequence[Sequence[int]]) -> str:
    """A confusion matrix, rows truth and columns prediction, shaded by the share of the row."""
    cell, left, top = 76, 110, 66
    width, height = left + cell * len(labels) + 10, top + 46 * len(labels) + 10
    parts = [
        f'<svg viewBox="0 0 {width} {height}" width="{width}" role="img" font-family="system-ui,sans-serif" font-size="14">',
        f'<text x="{left}" y="18" font-weight="600" fill="{_INK}">prediction</text>',
        f'<text x="{left - 12}" y="{top - 10}" text-anchor="end" font-weight="600" fill="{_INK}">truth</text>',
    ]
    for number, label in enumerate(labels):
        middle = left + cell * (number + 0.5)
        parts.append(
            f'<text x="{middle}" y="{top - 10}" text-anchor="middle" fill="{_INK}">{escape(label)}</text>'
            f'<text x="{left - 12}" y="{top + 46 * number + 28}" text-anchor="end" fill="{_INK}">{escape(label)}</text>'
        )
        total = sum(counts[number]) or 1
        for column, count in enumerate(counts[number]):
            share = count / total
            colour = (31, 95, 168) if column == number else (179, 57, 31)
            red, green, blue = (round(255 - (255 - part) * (0.85 * share)) for part in colour)
            ink = "#ffffff" if share > 0.55 else _INK  # noqa: PLR2004 - readable on either shade
            parts.append(
                f'<rect x="{left + cell * column}" y="{top + 46 * number}" width="{cell - 2}" height="44" '
                f'fill="rgb({red},{green},{blue})" stroke="{_GRID}"/>'
                f'<text x="{left + cell * (column + 0.5) - 1}" y="{top + 46 * number + 28}" text-anchor="middle" '
                f'fill="{ink}">{count}</text>'
            )
    return "".join([*parts, "</svg>"])


def _open(width: float, height: float, title: str) -> str:
    return (
        f'<svg viewBox="0 0 {width} {height}" width="{width}" role="img" aria-label="{escape(title)}" '
        f'font-family="system-ui,sans-serif" font-size="12">'
        f'<text x="4" y="18" font-size="14" font-weight="600" fill="{_INK}">{escape(title)}</text>'
    )


def _axes(x_range: tuple[float, float], y_range: tuple[float, float], *, x: str, y: str) -> list[str]:
    parts = []
    for number in range(6):
        along = number / 5
        px, py = _LEFT + _SIZE * along, _TOP + _SIZE * (1 - along)
        parts.append(
            f'<line x1="{px}" y1="{_TOP}" x2="{px}" y2="{_TOP + _SIZE}" stroke="{_GRID}"/>'
            f'<line x1="{_LEFT}" y1="{py}" x2="{_LEFT + _SIZE}" y2="{py}" stroke="{_GRID}"/>'
            f'<text x="{px}" y="{_TOP + _SIZE + 15}" text-anchor="middle" fill="{_DIM}">'
            f"{x_range[0] + along * (x_range[1] - x_range[0]):.2g}</text>"
            f'<text x="{_LEFT - 6}" y="{py + 4}" text-anchor="end" fill="{_DIM}">'
            f"{y_range[0] + along * (y_range[1] - y_range[0]):.2g}</text>"
        )
    middle = _TOP + _SIZE / 2
    return [
        *parts,
        f'<text x="{_LEFT + _SIZE / 2}" y="{_TOP + _SIZE + 31}" text-anchor="middle" fill="{_INK}">{escape(x)}</text>',
        (
            f'<text x="12" y="{middle}" text-anchor="middle" transform="rotate(-90 12 {middle})" fill="{_INK}">'
            f"{escape(y)}</text>"
        ),
    ]
