"""Plots as SVG that the server draws: lines by day with their 95 % intervals. No script, no style attribute."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from clinician_dashboard.record.quality_over_time import MEASURES, Group, Measured, Quality
from clinician_dashboard.web.formats import THIN

WIDTH, HEIGHT = 640, 190
LEFT, RIGHT, TOP, BOTTOM = 52, 8, 10, 26
_STEPS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.25, 0.5, 1.0)
_MARKS_WANTED = 4
_DATES_WANTED = 6
_BAND_GROUPS = 3
"""With more lines than that the intervals would hide each other: they stand in the table and in each point's title."""


@dataclass(frozen=True)
class _Scale:
    low: float
    high: float
    days: Mapping[str, float]

    def x(self, day: str) -> str:
        return f"{self.days[day]:.1f}"

    def y(self, value: float) -> str:
        share = (min(self.high, max(self.low, value)) - self.low) / (self.high - self.low)
        return f"{HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM):.1f}"


def shown(measured: Measured, *, percent: bool) -> str:
    """Return a value with its interval and number, for a title or a table."""
    if percent:
        return (
            f"{measured.value * 100:.1f}{THIN}% ({measured.low * 100:.1f} to {measured.high * 100:.1f}{THIN}%, "
            f"n = {measured.number:,})"
        )
    return f"{measured.value:.3g} ({measured.low:.3g} to {measured.high:.3g}, n = {measured.number:,})"


def plot(quality: Quality, name: str) -> Markup:
    """Return the plot of one of `MEASURES` by day, a line for each group; empty if nothing was counted."""
    measure = MEASURES[name]
    series = [
        [
            (day, measured)
            for day in quality.days
            if (sums := group.days.get(day)) and (measured := sums.measure(name))
        ]
        for group in quality.groups
    ]
    points = [measured for line in series for _, measured in line]
    if not points:
        return Markup("")
    alone = all(len(line) <= 1 for line in series)  # the few intervals that there are must fit in
    scale = _scale(quality.days, points, percent=measure.percent, whole=alone)
    parts = [*_axes(scale, quality.days, percent=measure.percent)]
    bands = len([line for line in series if line]) <= _BAND_GROUPS
    for number, (group, line) in enumerate(zip(quality.groups, series, strict=True)):
        if line:
            parts += _line(scale, number, group, line, percent=measure.percent, band=bands)
    return Markup(  # noqa: S704 - every text in it is escaped, the rest are numbers
        f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(measure.title)} by day">'
        f"{''.join(parts)}</svg>"
    )


def _scale(days: Sequence[str], points: Sequence[Measured], *, percent: bool, whole: bool) -> _Scale:
    high = max(point.high if whole else point.value * 1.15 for point in points)
    low = min(point.low if whole else point.value for point in points)
    if percent:
        high, low = min(1.0, max(0.05, high)), (0.0 if low < 0.5 else 0.5)  # noqa: PLR2004 - half of the range
    else:
        high, low = max(high, 0.1), min(0.0, low * 1.15)
    step = (WIDTH - LEFT - RIGHT) / max(1, len(days) - 1)
    return _Scale(low, high, {day: LEFT + number * step for number, day in enumerate(days)})


def _axes(scale: _Scale, days: Sequence[str], *, percent: bool) -> list[str]:
    span = scale.high - scale.low
    step = next((one for one in _STEPS if span / one <= _MARKS_WANTED), span / _MARKS_WANTED)
    parts = []
    mark = scale.low
    while mark <= scale.high + 1e-9:
        text = f"{mark * 100:.0f}{THIN}%" if percent else f"{mark:.3g}"
        parts.append(
            f'<line class="rule" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{scale.y(mark)}" y2="{scale.y(mark)}"/>'
            f'<text class="tick" x="{LEFT - 6}" y="{float(scale.y(mark)) + 4:.1f}" text-anchor="end">{text}</text>'
        )
        mark += step
    every = max(1, -(-len(days) // _DATES_WANTED))
    parts += [
        f'<text class="tick" x="{scale.x(day)}" y="{HEIGHT - 8}" '
        f'text-anchor="{"end" if day == days[-1] else "middle"}">{day[5:]}</text>'
        for day in days[::-every][::-1]
    ]
    return parts


def _line(
    scale: _Scale,
    number: int,
    group: Group,
    line: Sequence[tuple[str, Measured]],
    *,
    percent: bool,
    band: bool,
) -> list[str]:
    parts = []
    if band:
        upper = [f"{scale.x(day)},{scale.y(one.high)}" for day, one in line]
        lower = [f"{scale.x(day)},{scale.y(one.low)}" for day, one in reversed(line)]
        parts.append(f'<polygon class="band s{number}" points="{" ".join(upper + lower)}"/>')
    if band and len(line) == 1:  # an area without width would not be seen
        ((day, one),) = line
        x, low, high = scale.x(day), scale.y(one.low), scale.y(one.high)
        parts.append(f'<line class="whisker s{number}" x1="{x}" x2="{x}" y1="{low}" y2="{high}"/>')
    parts.append(
        f'<polyline class="s{number}" points="{" ".join(f"{scale.x(day)},{scale.y(one.value)}" for day, one in line)}"/>'
    )
    parts += [
        f'<circle class="s{number}" cx="{scale.x(day)}" cy="{scale.y(one.value)}" r="2.6"><title>'
        f"{escape(group.label)}, {day}: {escape(shown(one, percent=percent))}</title></circle>"
        for day, one in line
    ]
    return parts
