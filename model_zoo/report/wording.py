"""How figures are written on the page: percent, with 95 % intervals."""

from collections.abc import Sequence
from typing import Any


def percent(value: float) -> str:
    """A share in percent."""
    return f"{100 * value:.1f} %"


def with_interval(value: float, interval: Sequence[float], *, signed: bool = False) -> str:
    """A share with its interval, in percent; with a sign where it is a difference."""
    mark = "+" if signed else ""
    return f"{100 * value:{mark}.1f} ({100 * interval[0]:{mark}.1f} to {100 * interval[1]:{mark}.1f})"


def both(row: dict[str, Any]) -> tuple[str, str]:
    """A share with Wilson's interval, and with that of groups drawn again."""
    if row["value"] is None:
        return "no frame", ""
    return with_interval(row["value"], row["wilson"]), with_interval(row["value"], row["bootstrap"])
