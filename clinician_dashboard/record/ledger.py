"""The gap ledger: by their numbers the record notices by itself that frames of a device never came.

A device numbers its frames without holes. A number is *open* from the moment the record hears of it, or of a higher one,
until its frame is recorded or told as a dead letter. What is open may still be on its way: `missing` says which numbers
cannot be. `next_sequence`, `spooled` and `parked` come from the device's retained state.

The rules
    ==================================  =====================================================================
    first word of a device              it answers for 0 on if all it ever numbered is still in its spool, otherwise
                                        from the next number on: what was settled elsewhere is not this record's
    a frame above the highest known     the numbers in between are open
    a frame recorded, or a dead letter  its number is closed
    ``next_sequence`` above the known   the numbers in between are open
    ``next_sequence`` below the known,  the device numbers anew: what is open stays open as of the former numbering, for
    with a later birth                  its spool is gone
    the same, otherwise                 a late state; nothing
    no ``next_sequence`` (older edge)   the highest number heard of when the state came stands in for it
    ==================================  =====================================================================
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.orm import Session

from broker_config.device_messages import DeviceState
from clinician_dashboard.record.ranges import Ranges, Span
from clinician_dashboard.record.tables import GapRow, LedgerRow

Device = tuple[str, str]
MAX_AGAIN = 1000
MAX_RANGES = 10_000
"""Of one device. With so many open, higher numbers wait until some close: only a hostile device numbers like that."""
MAX_DEVICES = 10_000
CACHED_DEVICES = 1000


@dataclass
class _Page:
    """One device's page of the ledger."""

    row: LedgerRow
    ranges: Ranges
    known: bool  # whether the row is in the database
    dirty: bool = False
    # Closed though not open, since the last state: the first frames of a new numbering may come before its state.
    again: set[int] = field(default_factory=set)


class Ledger:
    """Kept by the record's only writer, in its transaction; between batches it lives in memory.

    Args:
        clock: Returns the present time in UTC.
    """

    def __init__(self, *, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._pages: dict[Device, _Page] = {}

    def forget(self) -> None:
        """Read everything from the database again: the last batch was not committed."""
        self._pages.clear()

    def arrived(self, session: Session, device: Device, number: int) -> None:
        """Note that a frame of that number exists; it is open until it is recorded."""
        page = self._page(session, device) or self._begin(session, device, base=number)
        if page is not None:
            self._raise_top(page, number + 1)

    def close(self, session: Session, device: Device, number: int) -> None:
        """Note that the frame of that number was recorded, or told as a dead letter."""
        self.arrived(session, device, number)
        page = self._pages.get(device)
        if page is None:
            return
        if page.ranges.close(number):
            page.dirty = True
        elif len(page.again) < MAX_AGAIN:
            page.again.add(number)

    def declare(self, session: Session, state: DeviceState, *, reborn: bool) -> None:
        """Note what a device says of its numbers.

        Args:
            session: The batch's session.
            state: As it came; not a late one.
            reborn: Whether its birth is another than that of the state before.
        """
        device = (state.site, state.device)
        page = self._page(session, device)
        following = state.next_sequence
        if page is None:
            if following is None:
                return
            everything_is_here = state.spooled + state.parked + state.damaged >= following
            page = self._begin(session, device, base=0 if everything_is_here else following)
            if page is None:
                return
        row = page.row
        if following is None:
            following = row.top
        elif row.declared is not None and following < row.declared:
            if not reborn:
                return
            self._renew(session, page, state, following)
        self._raise_top(page, following)
        row.declared, row.held, row.parked = following, state.spooled, state.parked
        row.oldest = state.oldest_waiting
        page.again.clear()
        page.dirty = True

    def write(self, session: Session) -> None:
        """Write what changed since the last time; within the batch's transaction."""
        for (site, device), page in self._pages.items():
            if not page.dirty:
                continue
            row = page.row
            where = (GapRow.site == site, GapRow.device == device, GapRow.generation == row.generation)
            spans, gone = page.ranges.changes()
            stale = [*gone, *(span.first for span in spans)]
            if stale:
                session.execute(delete(GapRow).where(*where, GapRow.first.in_(stale)))
            if spans:
                session.execute(
                    insert(GapRow),
                    [
                        {
                            "site": site,
                            "device": device,
                            "generation": row.generation,
                            "first": span.first,
                            "last": span.last,
                            "opened_at": span.opened_at,
                        }
                        for span in spans
                    ],
                )
            values = {
                name: getattr(row, name)
                for name in ("generation", "base", "top", "declared", "held", "parked", "oldest")
            }
            if page.known:
                session.execute(
                    update(LedgerRow)
                    .where(LedgerRow.site == site, LedgerRow.device == device)
                    .values(**values)
                )
            else:
                session.execute(insert(LedgerRow), [{"site": site, "device": device, **values}])
            page.known, page.dirty = True, False
        if len(self._pages) > CACHED_DEVICES:
            self._pages.clear()

    # Pages

    def _page(self, session: Session, device: Device) -> _Page | None:
        page = self._pages.get(device)
        if page is not None:
            return page
        row = session.get(LedgerRow, device)
        if row is None:
            return None
        session.expunge(row)
        gaps = session.execute(
            select(GapRow.first, GapRow.last, GapRow.opened_at).where(
                GapRow.site == row.site, GapRow.device == row.device, GapRow.generation == row.generation
            )
        )
        page = self._pages[device] = _Page(row, Ranges(Span(*gap) for gap in gaps), known=True)
        return page

    def _begin(self, session: Session, device: Device, *, base: int) -> _Page | None:
        unwritten = sum(not page.known for page in self._pages.values())
        if (session.scalar(select(func.count()).select_from(LedgerRow)) or 0) + unwritten >= MAX_DEVICES:
            return None
        row = LedgerRow(site=device[0], device=device[1], generation=0, base=base, top=base, held=0, parked=0)
        page = self._pages[device] = _Page(row, Ranges(), known=False, dirty=True)
        return page

    def _raise_top(self, page: _Page, top: int) -> None:
        if top > page.row.top and len(page.ranges) < MAX_RANGES:
            page.ranges.open(page.row.top, top - 1, at=self._clock())
            page.row.top = top
            page.dirty = True

    def _renew(self, session: Session, page: _Page, state: DeviceState, following: int) -> None:
        self.write(session)  # the former numbering as it ended
        row = page.row
        row.generation += 1
        everything_is_here = state.spooled + state.parked + state.damaged >= following
        row.base = row.top = 0 if everything_is_here else following
        page.ranges = Ranges()
        self._raise_top(page, following)
        for number in page.again:
            page.ranges.close(number)
