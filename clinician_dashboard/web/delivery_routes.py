"""What goes out to the health record: its page, and the same as JSON."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Path, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from clinician_dashboard.access.roles import Actor
from clinician_dashboard.access.web import needs
from clinician_dashboard.delivery.post import STATES
from clinician_dashboard.delivery.tables import DeliveryRow
from clinician_dashboard.web.context import Context
from clinician_dashboard.web.pages import Pages

PER_PAGE = 50
TARGETS = {"fhir": "FHIR server", "mllp": "HL7 v2 receiver"}
STATE_WORDS = {
    "waiting": "On its way",
    "parked": "Refused",
    "sent": "Arrived",
    "passed_over": "Overtaken",
}
PageNumber = Annotated[int, Query(ge=1, le=100_000)]
OrderNumber = Annotated[int, Path(ge=1, le=2**31 - 1)]
Signer = Annotated[Actor, Depends(needs("cases.sign"))]
GONE = (
    "There is no refused report of that number: it may have been sent again, or a later version has arrived."
)


def delivery_router(pages: Pages, context: Context) -> APIRouter:
    """Return the routes."""
    router = APIRouter()
    _add_pages(router, pages, context)
    _add_api(router, context)
    return router


def _shown(context: Context, state: str, page: int) -> dict[str, Any]:
    feed_id = context.feed.event_id(context.feed.last_number())
    rows, total = context.post.listed(state=state, limit=PER_PAGE, offset=(page - 1) * PER_PAGE)
    simulated = context.reader.simulated_cases([row.case_id for row in rows])
    return {
        "feed_id": feed_id,
        "page": "deliveries",
        "rows": rows,
        "simulated": bool(simulated),
        "simulated_cases": simulated,
        "standings": context.post.standings(),
        "state": state if state in STATES else "",
        "states": STATE_WORDS,
        "targets": TARGETS,
        "number": page,
        "last_page": max(1, -(-total // PER_PAGE)),
        "total": total,
        "needed": context.reader.needing_a_person(),
    }


def _add_pages(router: APIRouter, pages: Pages, context: Context) -> None:
    reading = [Depends(needs("cases.read"))]

    @router.get("/deliveries", dependencies=reading, include_in_schema=False, response_class=HTMLResponse)
    def deliveries(request: Request, state: str = "", page: PageNumber = 1) -> Response:
        return pages.answer(request, "deliveries.html", **_shown(context, state, page))

    @router.get(
        "/fragments/deliveries", dependencies=reading, include_in_schema=False, response_class=HTMLResponse
    )
    def delivery_parts(request: Request, state: str = "", page: PageNumber = 1) -> Response:
        return pages.parts(request, "parts/deliveries.html", **_shown(context, state, page))

    @router.post("/deliveries/{number}/retry", include_in_schema=False, response_class=HTMLResponse)
    def retry(number: OrderNumber, actor: Signer) -> Response:
        if not context.post.retry(actor, number):
            raise HTTPException(409, GONE)
        return RedirectResponse("/deliveries", status_code=303)


def _add_api(router: APIRouter, context: Context) -> None:
    @router.get("/api/v1/deliveries", dependencies=[Depends(needs("cases.read"))])
    def deliveries(
        state: str = "",
        limit: Annotated[int, Query(ge=1, le=500)] = 100,
        offset: Annotated[int, Query(ge=0, le=10_000_000)] = 0,
    ) -> dict[str, Any]:
        """Reports that go to the health record, and how each target stands. States: waiting, parked, sent, passed_over."""
        rows, total = context.post.listed(state=state, limit=limit, offset=offset)
        return {
            "matching": total,
            "targets": [vars(standing) for standing in context.post.standings()],
            "deliveries": [_fields(row) for row in rows],
        }

    @router.post("/api/v1/deliveries/{number}/retry")
    def retry(number: OrderNumber, actor: Signer) -> dict[str, Any]:
        """Send a refused report again."""
        if not context.post.retry(actor, number):
            raise HTTPException(409, GONE)
        return {"id": number, "state": "waiting"}


def _fields(row: DeliveryRow) -> dict[str, Any]:
    names = ("id", "target", "site", "code", "version", "status", "state", "attempts")
    return {name: getattr(row, name) for name in (*names, "created_at", "due_at", "sent_at", "fault")}
