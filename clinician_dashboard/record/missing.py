"""Which frames never came: the open numbers of the ledger that cannot be on their way any more.

What a device still has in its spool is on its way. If its spool is empty, every open number below its next one is lost. If
it says which number is its oldest waiting one, every open number below that is lost. Otherwise it can only be counted:
more numbers are open than the spool holds. After a device began to number anew, its former spool is gone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from clinician_dashboard.record.tables import FrameRow, GapRow, LedgerRow, RejectionRow

SETTLED_AFTER = timedelta(seconds=15)
"""How long a number must be open: messages of several topics overtake each other a little."""

MAX_SPANS = 100_000
SHOWN_SPANS = 100


@dataclass(frozen=True)
class Missing:
    """What of one device's frames never came, and what may still come.

    Attributes:
        site: The device's site.
        device: Its name.
        count: Frames that are lost, at least.
        spans: Their numbers as (first, last), lowest first, at most 100; may be fewer than ``count`` says.
        former: Numbers of a former numbering among them: the device was set up anew since.
        on_the_way: Open numbers that may still be in its spool.
        since: When the first of them was noticed; none if none is lost.
    """

    site: str
    device: str
    count: int
    spans: Sequence[tuple[int, int]]
    former: int
    on_the_way: int
    since: datetime | None


def find_missing(session: Session, *, now: datetime) -> list[Missing]:
    """Return what every device with open numbers lacks, in the order of sites and devices."""
    pages = {(row.site, row.device): row for row in session.scalars(select(LedgerRow))}
    gaps: dict[tuple[str, str], list[GapRow]] = {}
    query = (
        select(GapRow).order_by(GapRow.site, GapRow.device, GapRow.generation, GapRow.first).limit(MAX_SPANS)
    )
    for gap in session.scalars(query):
        gaps.setdefault((gap.site, gap.device), []).append(gap)
    told = {
        (site, device): number
        for site, device, number in session.execute(
            select(RejectionRow.site, RejectionRow.device, func.count())
            .outerjoin(FrameRow, FrameRow.frame_id == RejectionRow.frame_id)
            .where(
                RejectionRow.sequence.is_not(None),
                or_(FrameRow.frame_id.is_(None), FrameRow.recorded_at.is_(None)),
            )
            .group_by(RejectionRow.site, RejectionRow.device)
        )
    }
    return [
        _of_device(pages[device], open_numbers, told=told.get(device, 0), now=now)
        for device, open_numbers in gaps.items()
        if device in pages
    ]


def _of_device(page: LedgerRow, gaps: Sequence[GapRow], *, told: int, now: datetime) -> Missing:
    former = [gap for gap in gaps if gap.generation != page.generation]
    present = [gap for gap in gaps if gap.generation == page.generation]
    judged = [gap for gap in present if now - gap.opened_at >= SETTLED_AFTER]
    declared = page.declared or 0
    untold = max(0, page.parked - told)
    if page.held + untold == 0:
        certain = declared
    elif page.oldest is not None and not untold:
        certain = min(page.oldest, declared)
    else:
        certain = 0
    lost = [
        *((gap.first, gap.last, gap.opened_at) for gap in former),
        *((gap.first, min(gap.last, certain - 1), gap.opened_at) for gap in judged if gap.first < certain),
    ]
    exact = sum(last - first + 1 for first, last, _ in lost)
    gone = sum(gap.last - gap.first + 1 for gap in former)
    below = sum(min(gap.last, declared - 1) - gap.first + 1 for gap in judged if gap.first < declared)
    count = max(exact, gone + below - page.held - untold)
    whole = sum(gap.last - gap.first + 1 for gap in gaps)
    return Missing(
        site=page.site,
        device=page.device,
        count=count,
        spans=[(first, last) for first, last, _ in lost[:SHOWN_SPANS]],
        former=gone,
        on_the_way=whole - count,
        since=min((gap.opened_at for gap in [*former, *judged]), default=None) if count else None,
    )
