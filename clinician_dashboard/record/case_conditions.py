"""What a filter means in this record, as conditions of a query along one of the orders that cases are kept in."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, and_, exists, false, func, or_, select, true
from sqlalchemy.orm import Session

from broker_config.messages import CLASSES
from clinician_dashboard.case_result import URGENCIES
from clinician_dashboard.record.case_filter import STATUSES, CaseFilter
from clinician_dashboard.record.desk_tables import CaseDeviceRow, CaseWordRow
from clinician_dashboard.record.tables import CaseRow, LedgerRow
from clinician_dashboard.record.writing import SIGNED_FROM

MOST_NAMES = 1000
_LAST = "\U0010ffff"


@dataclass(frozen=True)
class Order:
    """Columns of an index that holds cases in the worklist's order, and what they are filtered by."""

    place: Any
    opened_at: Any
    id: Any
    status: Any
    site: Any
    leading: Any

    @property
    def key(self) -> tuple[Any, Any, Any]:
        """What the order is by."""
        return self.place, self.opened_at, self.id


ALL_CASES = Order(CaseRow.place, CaseRow.opened_at, CaseRow.id, CaseRow.status, CaseRow.site, CaseRow.leading)
BY_DEVICE = Order(
    *(CaseDeviceRow.place, CaseDeviceRow.opened_at, CaseDeviceRow.case_id),
    *(CaseDeviceRow.status, CaseDeviceRow.site, CaseDeviceRow.leading),
)


class CaseConditions:
    """A filter, with what its search means in this record.

    A search that can mean but one thing (a class, sites, one microscope, and no case's code) is a filter by that thing, and so
    is found along an index and counted exactly like one.

    Args:
        session: An open session.
        wanted: The filter.
        sites: Every site that has a case.
        classes: Whether a search may name a class, which tells what the model says.

    Attributes:
        part: What is searched for in codes and names, lower case; empty if nothing is.
        sites: The sites that are wanted; none if any is.
        device: The microscope that is wanted; empty if any is.
        leading: The class that is wanted; empty if any is.
        found_sites: Sites that the search names.
        found_devices: Microscopes that the search names.
        found_class: The class that the search may name.
    """

    def __init__(
        self, session: Session, wanted: CaseFilter, *, sites: Sequence[str], classes: bool = True
    ) -> None:
        self.wanted = wanted
        self.part = wanted.search.strip().lower()
        self.sites: list[str] | None = [wanted.site] if wanted.site else None
        self.device = wanted.device
        self.leading = ""
        self.found_sites: list[str] = []
        self.found_devices: list[str] = []
        self.found_class = ""
        if self.part:
            self.found_sites = [site for site in sites if self.part in site]
            named = LedgerRow.device.icontains(self.part, autoescape=True)
            self.found_devices = sorted(
                set(session.scalars(select(LedgerRow.device).where(named).limit(MOST_NAMES)))
            )
            if classes:
                self.found_class = self.part if self.part == "healthy" else self.part.upper()
            if not session.scalar(select(self.words().exists())):
                self._settle()

    def _settle(self) -> None:
        """Turn a search that no code answers to into a filter, if it means one thing."""
        if self.names_class:
            if not self.found_sites and not self.found_devices:
                self.leading, self.part = self.found_class, ""
        elif not self.found_devices:
            self.sites = [site for site in self.found_sites if self.sites is None or site in self.sites]
            self.part = ""
        elif not self.found_sites and self.found_devices == [self.device or self.found_devices[0]]:
            self.device, self.part = self.found_devices[0], ""

    def words(self) -> Any:
        """Return the query for the cases whose code holds the part."""
        return select(CaseWordRow.case_id).where(
            CaseWordRow.word >= self.part, CaseWordRow.word < self.part + _LAST
        )

    @property
    def names_class(self) -> bool:
        """Whether the search is the name of a class."""
        return self.found_class in CLASSES

    @property
    def ordered(self) -> bool:
        """Whether all that is asked is in every `Order`."""
        return not (self.part or self.wanted.claimed_by)

    @property
    def counted(self) -> bool:
        """Whether nothing is asked that is not counted as cases change."""
        wanted = self.wanted
        return self.ordered and wanted.opened_before is None and wanted.opened_after is None

    @property
    def order(self) -> Order:
        """The order that leads to the wanted cases soonest."""
        return BY_DEVICE if self.device and self.ordered else ALL_CASES

    def places(self, urgency: str) -> list[int]:
        """Return the places, in order, of the wanted statuses and an urgency; of every one if it is empty."""
        status = self.wanted.status
        spans = [0, SIGNED_FROM]
        if status in STATUSES:
            spans = [SIGNED_FROM] if status == "signed" else [0]
        within = range(SIGNED_FROM)
        if urgency in URGENCIES:
            first = 2 * list[str](URGENCIES).index(urgency)
            within = range(first, first + 2)
        return [span + place for span in spans for place in within]

    def where(self) -> ColumnElement[bool]:
        """Return everything but the place as a condition, for a walk along `order`."""
        wanted, order = self.wanted, self.order
        parts: list[ColumnElement[bool]] = []
        if wanted.status in ("unclaimed", "claimed", "amend"):
            parts.append(_walked(order.status) == wanted.status)
        if self.sites is not None:
            parts.append(_walked(order.site).in_(self.sites))
        if self.leading:
            parts.append(_walked(order.leading) == self.leading)
        if self.device:
            parts.append(
                CaseDeviceRow.device == self.device if order is BY_DEVICE else _has_device([self.device])
            )
        if wanted.claimed_by:
            parts.append(_walked(CaseRow.claimed_by) == wanted.claimed_by)
        if wanted.opened_before is not None:
            parts.append(order.opened_at < wanted.opened_before)
        if wanted.opened_after is not None:
            parts.append(order.opened_at >= wanted.opened_after)
        return and_(true(), *parts, *self._found())

    def _found(self) -> list[ColumnElement[bool]]:
        if not self.part:
            return []
        found: list[ColumnElement[bool]] = [func.lower(CaseRow.code).contains(self.part, autoescape=True)]
        if self.names_class:
            found.append(_walked(CaseRow.leading) == self.found_class)
        if self.found_sites:
            found.append(_walked(CaseRow.site).in_(self.found_sites))
        if self.found_devices:
            found.append(_has_device(self.found_devices))
        return [or_(*found)]


def _walked(column: Any) -> ColumnElement[Any]:
    """Keep the database from leaving the order's index for this column's own."""
    return func.coalesce(column, "")


def _has_device(names: Sequence[str]) -> ColumnElement[bool]:
    if not names:
        return false()
    return exists().where(CaseDeviceRow.case_id == CaseRow.id, CaseDeviceRow.device.in_(names))


__all__ = ["ALL_CASES", "BY_DEVICE", "CaseConditions", "Order"]
