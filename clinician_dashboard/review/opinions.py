"""Whose conclusion stands, and whether a second reader is needed: pure functions over what readers said.

The rule
    1. Readings belong to a round: the version that they prepare. A reader's latest word of a round counts.
    2. The first to conclude is the first reader, the next one the second, and a third one adjudicates.
    3. A second reading is needed where the case is critical (the model suspects acute leukaemia, or a reader concludes it),
       or where the first reader differs from a model that answered.
    4. What a reader has seen counts at once, a blind reader's first impression too: the case is critical while the latest word of
       any reader of the round is acute leukaemia. Once a third reader has decided, their word alone counts, as long as the
       first two differ. While nobody has read anew, what was signed last counts.
    5. Two readers agree if they name the same conclusion; finer labels may differ.
    6. Where they do not, one of the two may change their mind; otherwise a third reader who is neither decides.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from clinician_dashboard.review.conclusions import CONCLUSIONS, is_acute

Stage = Literal["impression", "first", "second", "adjudication"]


@dataclass(frozen=True)
class Reading:
    """One reader's word in a round.

    Attributes:
        reader: Login.
        stage: As which reader.
        conclusion: A code of `CONCLUSIONS`.
        differs: Whether it differs from the model; none where the model did not answer.
    """

    reader: str
    stage: Stage
    conclusion: str
    differs: bool | None = None


@dataclass(frozen=True)
class Standing:
    """What the readings of a round amount to.

    Attributes:
        first: The first reader's latest word, or none.
        second: The second reader's.
        adjudication: The third reader's.
        second_needed: Whether there must be a second one, and why, in words; empty if not.
        agreed: Whether what was needed was read, and one conclusion stands.
        conclusion: The one that stands, or none.
    """

    first: Reading | None = None
    second: Reading | None = None
    adjudication: Reading | None = None
    second_needed: str = ""
    agreed: bool = False
    conclusion: str | None = None

    @property
    def disagree(self) -> bool:
        """Whether the first two readers name different conclusions."""
        return (
            self.first is not None
            and self.second is not None
            and self.first.conclusion != self.second.conclusion
        )

    @property
    def signers(self) -> frozenset[str]:
        """Who may sign: each reader whose own word is the conclusion that stands."""
        if self.conclusion is None:
            return frozenset()
        said = (self.first, self.second, self.adjudication)
        return frozenset(one.reader for one in said if one is not None and one.conclusion == self.conclusion)


def differs_from_model(conclusion: str, *, decision: str, leading: str | None) -> bool | None:
    """Return whether a conclusion differs from the model's case result; none where the model does not answer."""
    if decision != "report" or leading is None:
        return None
    return CONCLUSIONS[conclusion].disease != leading


def stand(readings: Sequence[Reading], *, critical: bool) -> Standing:
    """Return what the readings of one round amount to; see the module's docstring.

    Args:
        readings: Of one round, in the order in which they were given.
        critical: Whether the model suspects acute leukaemia.
    """
    latest: dict[Stage, Reading] = {one.stage: one for one in readings}
    first, second, third = latest.get("first"), latest.get("second"), latest.get("adjudication")
    if first is None:
        return Standing()
    needed = _why_second(first, second, critical=critical)
    if second is None:
        agreed = not needed
        return Standing(
            first, second_needed=needed, agreed=agreed, conclusion=first.conclusion if agreed else None
        )
    if first.conclusion == second.conclusion:
        return Standing(first, second, third, needed, agreed=True, conclusion=first.conclusion)
    if third is not None:
        return Standing(first, second, third, needed, agreed=True, conclusion=third.conclusion)
    return Standing(first, second, None, needed)


def suspects_acute(readings: Sequence[Reading], *, signed: str | None = None) -> bool:
    """Return whether the case is critical by what readers say; see the module's docstring. Pure.

    Args:
        readings: Of one round, in the order in which they were given.
        signed: The conclusion that was signed last, or none.
    """
    if not readings:
        return signed is not None and is_acute(signed)
    standing = stand(readings, critical=False)
    if standing.disagree and standing.adjudication is not None:
        return is_acute(standing.adjudication.conclusion)
    latest = {one.reader: one for one in readings}
    return any(is_acute(one.conclusion) for one in latest.values())


def stage_of(reader: str, readings: Sequence[Reading], *, critical: bool) -> Stage | None:
    """Return as which reader somebody's conclusion counts; none where nothing is asked of them.

    Args:
        reader: Login.
        readings: Of the round so far, in order.
        critical: Whether the model suspects acute leukaemia.
    """
    own = next((one.stage for one in readings if one.reader == reader and one.stage != "impression"), None)
    if own is not None:
        return own
    standing = stand(readings, critical=critical)
    if standing.first is None:
        return "first"
    if standing.second is None:
        return "second"
    return "adjudication" if standing.disagree and standing.adjudication is None else None


def _why_second(first: Reading, second: Reading | None, *, critical: bool) -> str:
    if critical:
        return "the model suspects acute leukaemia"
    if is_acute(first.conclusion) or (second is not None and is_acute(second.conclusion)):
        return "a reader concludes acute leukaemia"
    return "the first reader differs from the model" if first.differs else ""
