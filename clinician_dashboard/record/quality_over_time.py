"""Rates and scores by day, read from the sums that the record keeps: nothing here looks at a single frame."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import date, timedelta
from typing import Literal, get_args

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from clinician_dashboard.case_result import Z95, wilson
from clinician_dashboard.record.desk_tables import DayRow, ModelRow, ReadingDayRow

Grouping = Literal["site", "device", "model"]
GROUPINGS: tuple[Grouping, ...] = get_args(Grouping)
MOST_GROUPS = 8
RECENT_DAYS = 7
LEAST_FRAMES = 30
"""Of either period, before a change is called one."""
_COLUMN = {"site": "site", "device": "device", "model": "weights_sha256"}


@dataclass(frozen=True)
class Measured:
    """A rate or a mean with its 95 % interval, and what it was taken over."""

    value: float
    low: float
    high: float
    number: int


@dataclass
class Sums:
    """What `DayRow` and `ReadingDayRow` add up."""

    frames: int = 0
    referred: int = 0
    unlike: int = 0
    top_sum: float = 0.0
    top_squares: float = 0.0
    ood_sum: float = 0.0
    ood_squares: float = 0.0
    quality_sum: float = 0.0
    quality_squares: float = 0.0
    read: int = 0
    overridden: int = 0

    def add(self, other: "Sums") -> None:
        """Add another day's, or another group's."""
        for one in fields(self):
            setattr(self, one.name, getattr(self, one.name) + getattr(other, one.name))

    def measure(self, name: str) -> Measured | None:
        """Return one of `MEASURES`; none where nothing was counted."""
        measure = MEASURES[name]
        number = getattr(self, measure.over)
        if not number:
            return None
        if not measure.squares:
            share = getattr(self, measure.sum) / number
            return Measured(share, *wilson(share, number), number)
        mean = getattr(self, measure.sum) / number
        variance = max(0.0, getattr(self, measure.squares) / number - mean * mean)
        # With one frame there is no spread to be seen: the interval is the value itself.
        half = Z95 * (variance / number) ** 0.5
        low, high = mean - half, mean + half
        if measure.percent:  # a mean of probabilities lies between 0 and 1
            low, high = max(0.0, low), min(1.0, high)
        return Measured(mean, low, high, number)


@dataclass(frozen=True)
class Measure:
    """What is plotted: a share of ``over`` with Wilson's interval, or a mean where there are squares.

    Attributes:
        title: For a person.
        why: What a change may mean.
        sum: The field that is divided.
        over: What it is divided by.
        squares: The field of the squares; empty for a share.
        percent: Whether it is shown in percent.
    """

    title: str
    why: str
    sum: str
    over: str
    squares: str = ""
    percent: bool = True


MEASURES: Mapping[str, Measure] = {
    "referral": Measure(
        "Referral rate",
        "frames that the model leaves to a person; it rises when smears change",
        "referred",
        "frames",
    ),
    "override": Measure(
        "Override rate",
        "first readings that came to another conclusion than the model, of cases that it answered for",
        "overridden",
        "read",
    ),
    "unlike": Measure(
        "Unlike the training images",
        "frames beyond the out-of-distribution limit: stain, light, optics",
        "unlike",
        "frames",
    ),
    "top": Measure(
        "Top probability", "how sure the model is, on average", "top_sum", "frames", "top_squares"
    ),
    "ood": Measure(
        "Out-of-distribution score",
        "mean, as a share of its limit: 1 is the limit",
        "ood_sum",
        "frames",
        "ood_squares",
        percent=False,
    ),
    "quality": Measure(
        "Image quality",
        "mean weight of the frames: 1 is sharp and without a flag",
        "quality_sum",
        "frames",
        "quality_squares",
        percent=False,
    ),
}


@dataclass
class Group:
    """One site, microscope or model version.

    Attributes:
        name: Its name; the weights for a model version.
        label: For a person.
        days: By day.
        whole: Over the whole range.
        recent: Over the last seven days of the range.
        before: Over the days before those.
    """

    name: str
    label: str
    days: dict[str, Sums] = field(default_factory=dict)
    whole: Sums = field(default_factory=Sums)
    recent: Sums = field(default_factory=Sums)
    before: Sums = field(default_factory=Sums)

    def change(self, name: str) -> Measured | None:
        """Return by how much the last seven days differ from the days before, with the 95 % interval of the difference.

        None where either has too little to say anything.
        """
        recent, before = self.recent.measure(name), self.before.measure(name)
        if recent is None or before is None or min(recent.number, before.number) < LEAST_FRAMES:
            return None
        difference = recent.value - before.value
        # Newcombe's hybrid score method (Statistics in Medicine 17, 1998): from the two intervals.
        low = ((recent.value - recent.low) ** 2 + (before.high - before.value) ** 2) ** 0.5
        high = ((recent.high - recent.value) ** 2 + (before.value - before.low) ** 2) ** 0.5
        return Measured(difference, difference - low, difference + high, recent.number)


@dataclass(frozen=True)
class Quality:
    """What the page shows.

    Attributes:
        days: Every day of the range, in order.
        groups: The largest first, at most eight; what is beyond is in ``others``.
        others: Groups that are not shown.
        whole: Over everything.
    """

    days: Sequence[str]
    groups: Sequence[Group]
    others: int
    whole: Sums


def read_quality(
    session: Session,
    *,
    by: Grouping,
    days: int,
    today: date,
    site: str = "",
    device: str = "",
    model: str = "",
) -> Quality:
    """Return rates and scores by day and group.

    Args:
        session: An open session.
        by: What a line of the plots is.
        days: How many days back, today included.
        today: The last day.
        site: Only of this site.
        device: Only of this microscope.
        model: Only of the model with these weights.
    """
    range_days = [(today - timedelta(days=back)).isoformat() for back in reversed(range(days))]
    recent = set(range_days[-RECENT_DAYS:])
    groups: dict[str, Group] = {}
    whole = Sums()
    for table in (DayRow, ReadingDayRow):
        columns = table.__table__.c
        names = [one.name for one in fields(Sums) if one.name in columns]
        query = (
            select(
                columns.day, columns[_COLUMN[by]], *(func.sum(columns[name]).label(name) for name in names)
            )
            .where(columns.day >= range_days[0], columns.day <= range_days[-1])
            .group_by(columns.day, columns[_COLUMN[by]])
        )
        for column, value in (("site", site), ("device", device), ("weights_sha256", model)):
            if value:
                query = query.where(columns[column] == value)
        for row in session.execute(query).mappings():
            sums = Sums(**{name: row[name] for name in names})
            name = row[_COLUMN[by]]
            group = groups.setdefault(name, Group(name, name or "several"))
            group.days.setdefault(row["day"], Sums()).add(sums)
            for target in (group.whole, group.recent if row["day"] in recent else group.before, whole):
                target.add(sums)
    shown = sorted(groups.values(), key=lambda group: (-group.whole.frames, -group.whole.read, group.name))
    if by == "model":
        _name_models(session, shown[:MOST_GROUPS])
    return Quality(range_days, shown[:MOST_GROUPS], max(0, len(shown) - MOST_GROUPS), whole)


def _name_models(session: Session, groups: Sequence[Group]) -> None:
    rows = session.scalars(
        select(ModelRow).where(ModelRow.weights_sha256.in_([group.name for group in groups]))
    )
    labels = {row.weights_sha256: f"{row.name[:40]} {row.version[:20]}" for row in rows}
    for group in groups:
        group.label = labels.get(group.name, "several models" if not group.name else group.name[:16])
