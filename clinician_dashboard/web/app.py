"""The web application: routes, errors, static files, health."""

import logging
from pathlib import Path

from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from clinician_dashboard.access.door import Door
from clinician_dashboard.access.web import anybody, check_routes, open_paths
from clinician_dashboard.errors import RecordError
from clinician_dashboard.record.faults import unreadable as unreadable_sentence
from clinician_dashboard.web.access_routes import access_router, sign_in_page
from clinician_dashboard.web.api import ERRORS, api_router
from clinician_dashboard.web.compare_page import compare_router
from clinician_dashboard.web.context import Context
from clinician_dashboard.web.delivery_routes import delivery_router
from clinician_dashboard.web.guard import Guard
from clinician_dashboard.web.pages import Pages, page_router
from clinician_dashboard.web.people_routes import people_router
from clinician_dashboard.web.quality_page import quality_router
from clinician_dashboard.web.review_routes import add_review_errors, review_api, review_pages

logger = logging.getLogger(__name__)

STATIC = Path(__file__).parent / "static"


def create_app(context: Context) -> ASGIApp:
    """Return the application for one record, behind its guard.

    Args:
        context: What the daemon offers.
    """
    app = FastAPI(
        title="Hemolink clinician dashboard",
        description="AI preliminary, not a diagnosis. Decision support, not a medical device.",
        docs_url=None,  # the ready-made page would load scripts from elsewhere
        redoc_url=None,
        openapi_url="/api/v1/openapi.json",
    )
    pages = Pages(context)
    app.include_router(api_router(context))
    app.include_router(page_router(pages))
    app.include_router(compare_router(pages, context))
    app.include_router(quality_router(pages, context))
    app.include_router(review_api(context), responses=ERRORS)
    app.include_router(review_pages(pages, context))
    app.include_router(delivery_router(pages, context), responses=ERRORS)
    app.include_router(access_router(pages, context.access), responses=ERRORS)
    app.include_router(people_router(pages, context.access), responses=ERRORS)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    _add_health(app, context)
    _add_errors(app, pages)
    add_review_errors(app, pages)
    check_routes(app)

    def ended(request: Request, fields: list[tuple[str, str]], back: str) -> Response:
        return sign_in_page(pages, context.access, request, status=401, next=back, kept=fields, ended=True)

    door = Door(app, context.access, open_paths=open_paths(app), say=pages.error, ended=ended)
    # Outside everything else, so that even the answer to a fault of our own carries the headers.
    return Guard(door, context.host_names)


def _add_health(app: FastAPI, context: Context) -> None:
    opened = [Depends(anybody)]

    @app.get("/healthz", include_in_schema=False, dependencies=opened)
    def healthz() -> Response:
        return PlainTextResponse("alive\n")

    @app.get("/readyz", include_in_schema=False, dependencies=opened)
    def readyz() -> Response:
        ready, why = context.ready()
        exposure = context.exposure()
        warning = f"warning: {exposure}\n" if exposure else ""
        return PlainTextResponse(f"{why}\n{warning}", status_code=200 if ready else 503)

    @app.get("/metrics", include_in_schema=False, dependencies=opened)
    def metrics() -> Response:
        context.metrics.missing.set(sum(one.count for one in context.reader.missing()))
        for state, number in context.review.open_counts().items():
            context.metrics.critical.labels(state).set(number)
        context.metrics.outbox.set(context.outbox_waiting())
        context.metrics.behind.set(context.ingest().behind_s)
        return Response(generate_latest(context.metrics.registry), media_type=CONTENT_TYPE_LATEST)


def _add_errors(app: FastAPI, pages: Pages) -> None:
    def answer(request: Request, status: int, message: str) -> Response:
        if request.url.path.startswith("/api/"):
            return JSONResponse({"error": message}, status_code=status)
        return pages.error(request, status, message)

    @app.exception_handler(HTTPException)
    def known(request: Request, error: HTTPException) -> Response:
        message = "There is nothing at this address." if error.detail == "Not Found" else str(error.detail)
        return answer(request, error.status_code, message)

    @app.exception_handler(RequestValidationError)
    def invalid(request: Request, error: RequestValidationError) -> Response:
        del error
        return answer(request, 422, "The address holds something that cannot be used.")

    @app.exception_handler(SQLAlchemyError)
    def unreadable(request: Request, error: SQLAlchemyError) -> Response:
        logger.error("the record could not be read: %s", error)
        return answer(request, 503, unreadable_sentence(error))

    @app.exception_handler(RecordError)
    def in_use(request: Request, error: RecordError) -> Response:
        logger.error("the record could not be written: %s", error)
        return answer(request, 503, f"Nothing was done: {error}")

    @app.exception_handler(Exception)
    def fault(request: Request, error: Exception) -> Response:
        del error  # uvicorn logs it, with the traceback
        return answer(
            request, 500, "This page failed. It is a fault of the dashboard; the log has the details."
        )
