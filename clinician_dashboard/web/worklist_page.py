"""What the worklist's page is asked for, and what it shows."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from typing import Annotated, Any

from fastapi import Depends, Query, Request

from broker_config.messages import now
from clinician_dashboard.case_result import URGENCIES
from clinician_dashboard.record.case_filter import CaseFilter
from clinician_dashboard.record.worklist import key_of
from clinician_dashboard.web import views
from clinician_dashboard.web.context import Context
from clinician_dashboard.web.formats import query

PAGE_SIZE = 60
THUMBNAILS = 3
STATUS_CHIPS: Mapping[str, str] = {
    "": "To do",
    "mine": "Mine",
    "unclaimed": "Unclaimed",
    "claimed": "Claimed",
    "amend": "Amend needed",
    "signed": "Signed",
    "all": "All",
}
"""``""`` is everything that is not signed."""
AGE_WORDS: Mapping[str, str] = {
    "day": "of the last 24 h",
    "week": "of the last 7 days",
    "older": "older than 24 h",
}
_Short = Annotated[str, Query(max_length=100)]


@dataclass(frozen=True)
class WorklistQuery:
    """The address of a page of the worklist; what is unknown does not restrict."""

    urgency: str = ""
    status: str = ""
    site: str = ""
    device: str = ""
    age: str = ""
    q: str = ""
    after: str = ""
    before: str = ""

    def filter(self, *, login: str) -> CaseFilter:
        """Return the record's filter.

        Args:
            login: Of who asks, for ``status=mine``.
        """
        status = "open" if self.status not in STATUS_CHIPS or self.status in ("", "mine") else self.status
        at = now()
        return CaseFilter(
            urgency=self.urgency,
            status="" if status == "all" else status,
            site=self.site,
            device=self.device,
            search=self.q,
            claimed_by=login if self.status == "mine" else "",
            opened_after={"day": at - timedelta(days=1), "week": at - timedelta(days=7)}.get(self.age),
            opened_before=at - timedelta(days=1) if self.age == "older" else None,
        )

    def link(self, **changes: object) -> str:
        """Return the address with ``changes``; from the first page on, unless they say where."""
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        return "/" + query({**given, "after": "", "before": "", **changes})

    @property
    def narrowed(self) -> bool:
        """Whether anything restricts the list."""
        return any(getattr(self, name) for name in ("urgency", "status", "site", "device", "age", "q"))


def worklist_query(
    *,
    urgency: _Short = "",
    status: _Short = "",
    site: _Short = "",
    device: _Short = "",
    age: _Short = "",
    q: _Short = "",
    after: _Short = "",
    before: _Short = "",
) -> WorklistQuery:
    """Read the address; a FastAPI dependency."""
    given = (urgency, status, site, device, age, q, after, before)
    return WorklistQuery(*(text.replace("\x00", "") for text in given))  # which PostgreSQL refuses


Asked = Annotated[WorklistQuery, Depends(worklist_query)]


def worklist_shown(context: Context, asked: WorklistQuery, request: Request) -> dict[str, Any]:
    """Return what the worklist shows to who asks."""
    read: Callable[..., Any] = context.reader.worklist
    actor = request.state.actor
    by_arrival = context.review.by_arrival(actor, asked.site)
    if by_arrival:
        asked = replace(asked, urgency="")
    wanted = asked.filter(login=actor.name)
    found = read(
        wanted,
        limit=PAGE_SIZE,
        after=key_of(asked.after),
        before=key_of(asked.before),
        by_arrival=by_arrival,
    )
    if not found.cases and (asked.after or asked.before):  # cases left this filter meanwhile
        asked = replace(asked, after="", before="")
        found = read(wanted, limit=PAGE_SIZE, by_arrival=by_arrival)
    hidden = context.review.hidden_cases(actor, found.cases)
    newest = context.reader.latest_frames([case.id for case in found.cases], each=THUMBNAILS)
    return {
        "page": "worklist",
        "lines": [views.case_line(case, newest.get(case.id, [])) for case in found.cases],
        "found": found,
        "hidden": hidden,
        "alone": context.review.alone_cases(actor, found.cases),
        "by_arrival": by_arrival,
        "signed": context.review.signed_words([case.id for case in found.cases if case.signed_at]),
        "all_matching": sum(found.by_urgency.values()) or found.matching,
        "asked": asked,
        "urgency": asked.urgency if asked.urgency in URGENCIES else "",
        "status": asked.status if asked.status in STATUS_CHIPS else "",
        "status_chips": STATUS_CHIPS,
        "age_words": AGE_WORDS,
        "simulated": found.simulated,
        "needed": context.reader.needing_a_person(),
    }
