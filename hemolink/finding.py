"""What a check of the doctor found."""

from dataclasses import asdict, dataclass
from typing import Literal

Verdict = Literal["OK", "WARN", "FAULT"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        area: The part of the system, such as ``broker``.
        verdict: ``OK``; ``WARN``: works, but a person should know; ``FAULT``: does not work.
        said: What was found, and the cause where it is not well.
        remedy: What to do about it; empty when all is well.
    """

    area: str
    verdict: Verdict
    said: str
    remedy: str = ""

    def as_json(self) -> dict[str, str]:
        """Return the finding as a JSON object."""
        return asdict(self)


def fault(area: str, said: str, remedy: str) -> Finding:
    """Return a finding of something that does not work."""
    return Finding(area, "FAULT", said, remedy)


def warning(area: str, said: str, remedy: str) -> Finding:
    """Return a finding of something that works, but that a person should know of."""
    return Finding(area, "WARN", said, remedy)


def fine(area: str, said: str) -> Finding:
    """Return a finding of something that is well."""
    return Finding(area, "OK", said)
