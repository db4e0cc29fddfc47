"""The review's routes: each act as a form of the pages and as JSON, the page of critical calls, and signed versions."""

import logging
from typing import Annotated, Any, Literal
from urllib.parse import quote

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, RedirectResponse
from pydantic import ValidationError
from starlette.datastructures import UploadFile

from clinician_dashboard.access.errors import PasswordRefused, TooManyTries
from clinician_dashboard.access.roles import Actor
from clinician_dashboard.access.web import actor_of, needs, saw_case
from clinician_dashboard.review.errors import NotReady, OutOfDate, ReviewError
from clinician_dashboard.review.service import ReviewDesk
from clinician_dashboard.review.signed import SignedVersion
from clinician_dashboard.web import words
from clinician_dashboard.web.context import Context
from clinician_dashboard.web.pages import Pages
from clinician_dashboard.web.review_acts import ACTS, Act
from clinician_dashboard.web.review_panel import kept_back, review_fields

logger = logging.getLogger(__name__)

CALLS_PER_PAGE = 50

Site = Annotated[str, Path(max_length=48)]
Code = Annotated[str, Path(max_length=40)]
Page = Annotated[int, Query(ge=1, le=100_000)]
Named = Annotated[Literal["", "yes"], Query(description="name the cases to who reads blind")]
Version = Annotated[int, Path(ge=1, le=100_000)]


def review_api(context: Context) -> APIRouter:
    """Return the review's routes under ``/api/v1``."""
    router = APIRouter(prefix="/api/v1")
    reading = [Depends(needs("cases.read"))]

    @router.get("/cases/{site}/{code}/review", dependencies=reading)
    def review(request: Request, site: Site, code: Code) -> dict[str, Any]:
        """How far the review of a case is, and which gates stand before a signature by whoever asks."""
        saw_case(request, site, code)
        return review_fields(context.review, actor_of(request), site, code)

    @router.get("/cases/{site}/{code}/versions", dependencies=reading)
    def versions(request: Request, site: Site, code: Code) -> dict[str, Any]:
        """Every signed version of a case, the first one first."""
        found = context.review.read(site, code)
        saw_case(request, site, code)
        return {"versions": [version_fields(one) for one in context.review.versions(found.case.id)]}

    for act in ACTS:
        _add_json(router, context.review, act)
    return router


def _add_json(router: APIRouter, desk: ReviewDesk, act: Act) -> None:
    body_type = act.body

    def done(
        site: Site,
        code: Code,
        body: body_type,  # type: ignore[valid-type]
        actor: Annotated[Actor, Depends(needs(act.permission, person=True))],
    ) -> dict[str, Any]:
        made = act.do(desk, actor, site, code, body) or {}
        return {"done": act.done, "revision": desk.read(site, code).review.revision, **made}

    done.__name__ = act.name.replace("-", "_")
    router.add_api_route(f"/cases/{{site}}/{{code}}/{act.name}", done, methods=["POST"], summary=act.summary)


def review_pages(pages: Pages, context: Context) -> APIRouter:
    """Return the review's pages, and the forms that work without a script."""
    router = APIRouter(include_in_schema=False)
    reading = [Depends(needs("cases.read"))]

    @router.get("/critical", dependencies=reading)
    def critical(request: Request, page: Page = 1, named: Named = "") -> Response:
        return pages.answer(
            request, "critical.html", **_calls(context, request, page=page, named=bool(named))
        )

    @router.get("/fragments/critical", dependencies=reading)
    def critical_parts(request: Request, page: Page = 1, named: Named = "") -> Response:
        return pages.parts(
            request, "parts/critical.html", **_calls(context, request, page=page, named=bool(named))
        )

    @router.get("/fragments/alerts", dependencies=reading)
    def alerts(request: Request) -> Response:
        return pages.answer(request, "parts/alerts.html")

    @router.get("/cases/{site}/{code}/versions/{number}", dependencies=reading)
    def version(request: Request, site: Site, code: Code, number: Version) -> Response:
        found = context.review.version(site, code, number)
        if found is None:
            raise HTTPException(404, "There is no such signed version.")
        saw_case(request, site, code)
        return pages.answer(
            request,
            "version.html",
            page="version",
            version=found,
            simulated=found.simulated,
            use=words.SIGNED_USE,
            needed=context.reader.needing_a_person(),
        )

    @router.post("/reading")
    async def blind(
        request: Request, actor: Annotated[Actor, Depends(needs("cases.review", person=True))]
    ) -> Response:
        form = await request.form()
        chosen = form.get("blind") == "yes"
        await run_in_threadpool(context.review.choose_blind, actor, blind_first=chosen)
        return RedirectResponse(_own_path(form.get("back")), 303)

    for act in ACTS:
        _add_form(router, context.review, act)
    return router


def _calls(context: Context, request: Request, *, page: int, named: bool) -> dict[str, Any]:
    """Return what the page of critical calls shows.

    Args:
        context: What the daemon offers.
        request: Of who looks.
        page: Of the closed calls, from 1.
        named: Whether a blind reader asks which cases wait.
    """
    desk, actor = context.review, actor_of(request)
    closed, total = desk.closed_alerts(limit=CALLS_PER_PAGE, offset=(page - 1) * CALLS_PER_PAGE)
    alerts, waiting = desk.alerts(), desk.waiting(actor)
    if desk.by_arrival(actor, ""):
        waiting = sorted(waiting, key=lambda one: one.since.at)
    cases = [
        *(one.case for one in alerts),
        *(one.case for one in waiting),
        *(one.case for one in closed),
    ]
    kept = kept_back(desk, actor, cases)
    for one in alerts if named else ():
        if one.case.id in kept:  # who has them named reads them less blind, and the audit knows
            saw_case(request, one.case.site, one.case.code)
    return {
        "page": "critical",
        "alerts_shown": alerts,
        "waiting": waiting,
        "blinded": kept,
        "unnamed": frozenset() if named else kept,
        "closed": [one for one in closed if one.case.id not in kept],
        "total": total,
        "number": page,
        "last_page": max(1, -(-total // CALLS_PER_PAGE)),
        "simulated": any(case.simulated for case in cases),
        "needed": context.reader.needing_a_person(),
    }


def _add_form(router: APIRouter, desk: ReviewDesk, act: Act) -> None:
    async def done(
        request: Request,
        site: Site,
        code: Code,
        actor: Annotated[Actor, Depends(needs(act.permission, person=True))],
    ) -> Response:
        form = await request.form()
        fields: dict[str, Any] = {
            name: value for name, value in form.items() if name not in ("csrf", "back", "next")
        }
        if any(isinstance(value, UploadFile) for value in fields.values()):
            raise HTTPException(422, "A file has no place in this form.")
        if "frames" in fields:
            fields["frames"] = form.getlist("frames")
        try:
            body = act.body.model_validate(fields)
        except ValidationError as error:
            raise HTTPException(422, unusable(error)) from None
        await run_in_threadpool(act.do, desk, actor, site, code, body)
        return RedirectResponse(f"/cases/{quote(site)}/{quote(code)}#review", 303)

    router.add_api_route(f"/cases/{{site}}/{{code}}/{act.name}", done, methods=["POST"])


def _own_path(wanted: object) -> str:
    ours = isinstance(wanted, str) and wanted.startswith("/") and not wanted.startswith(("//", "/\\"))
    return wanted if ours and isinstance(wanted, str) and wanted.isprintable() else "/"


def unusable(error: ValidationError) -> str:
    """Return in one sentence what of a form cannot be used; never what was given, which may be a password."""
    first = error.errors(include_input=False, include_url=False)[0]
    field = str(first["loc"][0]).replace("_", " ") if first["loc"] else "the form"
    return (
        f"{field[:1].upper()}{field[1:40]}: {first['msg'][:1].lower()}{first['msg'][1:]}. Nothing was saved."
    )


def version_fields(one: SignedVersion) -> dict[str, Any]:
    """Return a signed version as plain fields, for the JSON API."""
    return {
        "version": one.version,
        "status": one.status,
        "signed_at": one.signed_at,
        "sha256": one.sha256,
        "genuine": one.genuine,
        "content": one.content,
    }


def add_review_errors(app: FastAPI, pages: Pages) -> None:
    """Answer the review's refusals with their sentence, as a page or as JSON."""

    def answer(request: Request, status: int, message: str, **more: Any) -> Response:
        if request.url.path.startswith("/api/"):
            return JSONResponse({"error": message, **more}, status_code=status)
        return pages.error(request, status, message)

    @app.exception_handler(ReviewError)
    def refused(request: Request, error: ReviewError) -> Response:
        more: dict[str, Any] = {"code": error.code}
        if isinstance(error, OutOfDate):
            more["revision"] = error.revision
        if isinstance(error, NotReady):
            more["gates"] = [
                {"code": one.code, "sentence": one.sentence, "link": one.link, "warns": one.warns}
                for one in error.gates
            ]
        return answer(request, error.status, str(error), **more)

    @app.exception_handler(PasswordRefused)
    def wrong(request: Request, error: PasswordRefused) -> Response:
        return answer(request, 403, str(error), code="password")

    @app.exception_handler(TooManyTries)
    def too_many(request: Request, error: TooManyTries) -> Response:
        return answer(request, 429, str(error), code="too_many_tries")
