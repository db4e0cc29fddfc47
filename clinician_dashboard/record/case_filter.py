"""Which cases of the worklist are wanted."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, get_args

Status = Literal["open", "unclaimed", "claimed", "amend", "signed"]
STATUSES: tuple[Status, ...] = get_args(Status)
"""``open`` is every one but ``signed``."""


@dataclass(frozen=True)
class CaseFilter:
    """Which cases are wanted; what is empty or unknown does not restrict.

    Attributes:
        urgency: One of `URGENCIES`.
        status: One of `STATUSES`.
        site: A site's name.
        device: A microscope's name.
        search: Part of a case code, site or device, or a class name; not a pattern.
        claimed_by: The login of who claimed it.
        opened_before: First capture before this moment.
        opened_after: First capture at or after this moment.
    """

    urgency: str = ""
    status: str = ""
    site: str = ""
    device: str = ""
    search: str = ""
    claimed_by: str = ""
    opened_before: datetime | None = None
    opened_after: datetime | None = None


def is_of(status: str, wanted: str) -> bool:
    """Return whether a case's status is what ``wanted``, one of `STATUSES`, names."""
    return status != "signed" if wanted == "open" else status == wanted


__all__ = ["STATUSES", "CaseFilter", "Status", "is_of"]
