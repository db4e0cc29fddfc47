"""The pages, and the fragments that they fetch when something changed. Both come from the same templates."""

from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from sqlalchemy.exc import SQLAlchemyError
from starlette.templating import Jinja2Templates

from broker_config.messages import CLASSES
from clinician_dashboard.access.roles import Actor
from clinician_dashboard.access.web import actor_of, needs, saw_case, template_context
from clinician_dashboard.case_result import URGENCIES
from clinician_dashboard.record.frame_list import FRAME_STATES
from clinician_dashboard.web import views, words
from clinician_dashboard.web.api import FrameId
from clinician_dashboard.web.case_page import case_page, frame_detail
from clinician_dashboard.web.context import Context
from clinician_dashboard.web.formats import FILTERS
from clinician_dashboard.web.review_panel import GLOBALS, Alerts, alerts_for
from clinician_dashboard.web.worklist_page import Asked, WorklistQuery, worklist_shown

TEMPLATES = Path(__file__).parent / "templates"
LETTERS_PER_PAGE = 50
FLEET_PER_PAGE = 120


def make_templates() -> Jinja2Templates:
    """Return the templates: everything is escaped, and an unknown name is an error."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= FILTERS
    environment.globals |= {
        "INTENDED_USE": words.INTENDED_USE,
        "ACUTE_NOTE": words.ACUTE_NOTE,
        "CLASSES": CLASSES,
        "CLASS_NAMES": words.CLASS_NAMES,
        "SHORT_NAMES": words.SHORT_NAMES,
        "URGENCIES": URGENCIES,
        "URGENCY_WORDS": words.URGENCY_WORDS,
        "TALLY_WORDS": words.TALLY_WORDS,
        "FRAME_STATES": FRAME_STATES,
        "STATE_WORDS": words.STATE_WORDS,
        "STAGES": views.STAGES,
        "reason_words": words.reason,
        "missing_words": words.missing,
        "headline_of": words.headline,
        **GLOBALS,
    }
    return Jinja2Templates(env=environment)


class Pages:
    """Builds what each page shows.

    Args:
        context: What the daemon offers.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._templates = make_templates()

    def answer(self, request: Request, template: str, code: int = 200, **given: Any) -> HTMLResponse:
        """Return a rendered template with what every page needs."""
        everywhere = {
            **template_context(request),
            "alerts": self._alerts(request),
            "feed_id": self._context.feed.event_id(self._context.feed.last_number()),
            "needed": 0,
            "simulated": False,
            "page": "",
            "use": words.INTENDED_USE,
        }
        return self._templates.TemplateResponse(request, template, {**everywhere, **given}, status_code=code)

    def _alerts(self, request: Request) -> Alerts:
        actor = getattr(request.state, "actor", None)
        try:
            return alerts_for(self._context.review, actor)
        except SQLAlchemyError:  # the page that says so must come all the same
            return Alerts()

    def parts(self, request: Request, part: str, **given: Any) -> HTMLResponse:
        """Return the parts of a page that may have changed, for `static/live.js`."""
        return self.answer(request, "fragment.html", part=part, **given)

    def worklist(self, request: Request, asked: WorklistQuery) -> dict[str, Any]:
        """Return what the worklist shows."""
        feed_id = self._feed_id()
        return {"feed_id": feed_id, **worklist_shown(self._context, asked, request)}

    def devices(self) -> list[str]:
        """Return the names of the microscopes, for the worklist's choice."""
        return self._context.reader.device_names()

    def case(self, actor: Actor, site: str, code: str, *, show: str, page: int) -> dict[str, Any]:
        """Return what a case's page shows to ``actor``; see `case_page`."""
        return {
            "feed_id": self._feed_id(),
            **case_page(self._context, actor, site, code, show=show, page=page),
        }

    def frame(self, actor: Actor, frame_id: str) -> dict[str, Any]:
        """Return what the viewer shows beside the image; see `frame_detail`."""
        return frame_detail(self._context, actor, frame_id)

    def attention(self, *, page: int) -> dict[str, Any]:
        """Return what the page of dead letters and of frames that never came shows."""
        feed_id = self._feed_id()
        reader = self._context.reader
        unresolved = reader.unresolved()
        last_page = max(1, -(-unresolved // LETTERS_PER_PAGE))
        page = min(page, last_page)
        rejections = reader.rejections(limit=LETTERS_PER_PAGE, offset=(page - 1) * LETTERS_PER_PAGE)
        simulated = reader.simulated_devices()
        missing = [one for one in reader.missing() if one.count]
        return {
            "feed_id": feed_id,
            "page": "attention",
            "rejections": rejections,
            "unresolved": unresolved,
            "number": page,
            "last_page": last_page,
            "missing": missing,
            "needed": reader.rejected() + sum(one.count for one in missing),
            # A dead letter does not say it itself; its frame may, or else the device that sent it.
            "simulated": any(
                view.frame.simulated if view.frame else (view.row.site, view.row.device) in simulated
                for view in rejections
            )
            or any((one.site, one.device) in simulated for one in missing),
        }

    def fleet(self, *, page: int) -> dict[str, Any]:
        """Return what the fleet page shows."""
        feed_id = self._feed_id()
        device_count, worker_count = self._context.reader.fleet_size()
        last_page = max(1, -(-max(device_count, worker_count) // FLEET_PER_PAGE))
        page = min(page, last_page)
        devices, workers = self._context.reader.fleet(
            limit=FLEET_PER_PAGE, offset=(page - 1) * FLEET_PER_PAGE
        )
        missing = {(one.site, one.device): one for one in self._context.reader.missing()}
        return {
            "feed_id": feed_id,
            "page": "fleet",
            "number": page,
            "last_page": last_page,
            "device_count": device_count,
            "worker_count": worker_count,
            "devices": [views.fleet_member(row, missing.get((row.site, row.device))) for row in devices],
            "workers": [views.fleet_member(row) for row in workers],
            "stopped": self._context.models.stopped(),
            "fleet_model": self._context.ingest().fleet_model,
            "needed": self._context.reader.rejected() + sum(one.count for one in missing.values()),
            "simulated": any(row.state.get("simulated") for row in devices)
            or any((row.state.get("model") or {}).get("simulated") for row in workers),
        }

    def health(self) -> dict[str, Any]:
        """Return what the health page shows."""
        feed_id = self._feed_id()
        ready, why = self._context.ready()
        summary = self._context.reader.summary()
        return {
            "feed_id": feed_id,
            "page": "health",
            "ready": ready,
            "why": why,
            "summary": summary,
            "ingest": self._context.ingest(),
            "connection": self._context.connection(),
            "exposure": self._context.exposure(),
            "receipts_waiting": self._context.receipts_waiting(),
            "deliveries": self._context.post.standings(),
            "tallies": self._context.reader.tallies(),
            "spooled": self._context.reader.spooled(),
            "needed": summary["rejected"] + summary["missing"],
            "simulated": summary["simulated"],
        }

    def _feed_id(self) -> str:
        # Taken before the record is read: what changes in between is then told again, never missed.
        return self._context.feed.event_id(self._context.feed.last_number())

    def error(self, request: Request, status: int, message: str) -> Response:
        """Return a page for an error."""
        return self.answer(request, "error.html", status, status=status, message=message)


def page_router(pages: Pages) -> APIRouter:
    """Return the routes of the pages and of their fragments."""
    router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
    number = Annotated[int, Query(ge=1, le=100_000)]
    reading = [Depends(needs("cases.read"))]

    @router.get("/", dependencies=reading)
    def worklist(request: Request, asked: Asked) -> Response:
        shown = pages.worklist(request, asked)
        return pages.answer(request, "worklist.html", device_names=pages.devices(), **shown)

    @router.get("/fragments/worklist", dependencies=reading)
    def worklist_parts(request: Request, asked: Asked) -> Response:
        return pages.parts(request, "parts/worklist.html", **pages.worklist(request, asked))

    @router.get("/cases/{site}/{code}", dependencies=reading)
    def case(request: Request, site: str, code: str, show: str = "", page: number = 1) -> Response:
        shown = pages.case(actor_of(request), site, code, show=show, page=page)
        saw_case(request, site, code)
        return pages.answer(request, "case.html", **shown)

    @router.get("/fragments/cases/{site}/{code}", dependencies=reading)
    def case_parts(request: Request, site: str, code: str, show: str = "", page: number = 1) -> Response:
        shown = pages.case(actor_of(request), site, code, show=show, page=page)
        saw_case(request, site, code)
        return pages.parts(request, "parts/case.html", **shown)

    @router.get("/fragments/frames/{frame_id}", dependencies=reading)
    def frame(request: Request, frame_id: FrameId) -> Response:
        shown = pages.frame(actor_of(request), frame_id)
        saw_case(request, shown["case"].site, shown["case"].code)
        return pages.answer(request, "parts/frame.html", **shown)

    _add_operators_pages(router, pages)
    return router


def _add_operators_pages(router: APIRouter, pages: Pages) -> None:
    number = Annotated[int, Query(ge=1, le=100_000)]
    reading = [Depends(needs("fleet.read"))]

    @router.get("/attention", dependencies=reading)
    def attention(request: Request, page: number = 1) -> Response:
        return pages.answer(request, "attention.html", **pages.attention(page=page))

    @router.get("/fragments/attention", dependencies=reading)
    def attention_parts(request: Request, page: number = 1) -> Response:
        return pages.parts(request, "parts/attention.html", **pages.attention(page=page))

    @router.get("/fleet", dependencies=reading)
    def fleet(request: Request, page: number = 1) -> Response:
        return pages.answer(request, "fleet.html", **pages.fleet(page=page))

    @router.get("/fragments/fleet", dependencies=reading)
    def fleet_parts(request: Request, page: number = 1) -> Response:
        return pages.parts(request, "parts/fleet.html", **pages.fleet(page=page))

    @router.get("/health", dependencies=reading)
    def health(request: Request) -> Response:
        return pages.answer(request, "health.html", **pages.health())

    @router.get("/fragments/health", dependencies=reading)
    def health_parts(request: Request) -> Response:
        return pages.parts(request, "parts/health.html", **pages.health())
