"""Numbers and times as the pages write them; Jinja filters."""

from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import urlencode

THIN = "\u202f"  # a narrow no-break space, between number and unit
DASH = "\u2013"


def percent(value: float) -> str:
    """Return a share as a percentage that never claims 0 or 100."""
    if 0 < value < 0.01:  # noqa: PLR2004
        return f"<{THIN}1{THIN}%"
    if 0.99 < value < 1:  # noqa: PLR2004
        return f">{THIN}99{THIN}%"
    return f"{value * 100:.0f}{THIN}%"


def interval(low: float, high: float) -> str:
    """Return an interval of shares, such as 74-98 %."""
    return f"{low * 100:.0f}{DASH}{high * 100:.0f}{THIN}%"


def milliseconds(value: float | None) -> str:
    """Return a duration with a unit that suits it."""
    if value is None:
        return DASH
    if value < 10:  # noqa: PLR2004
        return f"{value:.1f}{THIN}ms"
    if value < 1000:  # noqa: PLR2004
        return f"{value:.0f}{THIN}ms"
    return seconds(value / 1000)


def seconds(value: float) -> str:
    """Return a duration as a person says it: 9.4 s, 12 min, 3 h 05."""
    if value < 10:  # noqa: PLR2004
        return f"{max(0.0, value):.1f}{THIN}s"
    if value < 90:  # noqa: PLR2004
        return f"{value:.0f}{THIN}s"
    if value < 5400:  # noqa: PLR2004
        return f"{value / 60:.0f}{THIN}min"
    if value < 172_800:  # noqa: PLR2004
        return f"{int(value // 3600)}{THIN}h{THIN}{int(value % 3600 // 60):02d}"
    return f"{value / 86_400:.0f}{THIN}d"


def age(moment: datetime) -> str:
    """Return how long ago a moment was, to whole seconds."""
    passed = max(0.0, (datetime.now(UTC) - moment).total_seconds())
    return f"{int(passed)}{THIN}s" if passed < 90 else seconds(passed)  # noqa: PLR2004


def utc(moment: datetime) -> str:
    """Return a moment in UTC to the second."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S") + " UTC"


def iso(moment: datetime) -> str:
    """Return a moment for a ``datetime`` attribute."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")


def count(value: int) -> str:
    """Return a whole number in groups of three."""
    return f"{value:,}".replace(",", THIN)


def size(value: float) -> str:
    """Return a number of bytes with a unit that suits it."""
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000 or unit == "GB":  # noqa: PLR2004
            return f"{value:.0f}{THIN}{unit}" if unit == "B" else f"{value:.1f}{THIN}{unit}"
        value /= 1000
    raise AssertionError


def significant(value: float) -> str:
    """Return a score to three significant digits."""
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}".replace(",", THIN)  # noqa: PLR2004


def query(fields: Mapping[str, object]) -> str:
    """Return the query of an address with what is not empty in ``fields``; a question mark at least."""
    return f"?{urlencode({name: value for name, value in fields.items() if value})}"


FILTERS = {
    "percent": percent,
    "interval": interval,
    "ms": milliseconds,
    "seconds": seconds,
    "age": age,
    "utc": utc,
    "iso": iso,
    "count": count,
    "size": size,
    "significant": significant,
    "query": query,
}
