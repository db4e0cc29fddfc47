"""The JSON API under ``/api/v1``, with the frames' images and the live feed."""

from dataclasses import replace
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, HTTPException, Query, Request, Response
from fastapi.responses import FileResponse, StreamingResponse
from pydantic import StringConstraints

from clinician_dashboard.access.web import actor_of, needs, saw_case
from clinician_dashboard.record.worklist import key_of
from clinician_dashboard.web.api_models import CaseFramesOut, CasesOut, ErrorOut, FrameOut
from clinician_dashboard.web.context import Context
from clinician_dashboard.web.events import Listener, stream
from clinician_dashboard.web.picture_routes import add_pictures
from clinician_dashboard.web.quality_api import add_quality
from clinician_dashboard.web.report_routes import add_reports
from clinician_dashboard.web.views import (
    case_fields,
    fleet_fields,
    fleet_member,
    frame_fields,
    missing_fields,
    rejection_fields,
)
from clinician_dashboard.web.worklist_page import Asked

MEDIA_TYPES = {"jpeg": "image/jpeg", "png": "image/png", "webp": "image/webp"}
MAX_LISTENERS = 256
IMMUTABLE = "private, max-age=31536000, immutable"

CASES = [Depends(needs("cases.read"))]
FLEET = [Depends(needs("fleet.read"))]

ERRORS: dict[int | str, dict[str, Any]] = {
    401: {"model": ErrorOut, "description": "nobody is signed in, or the token is not known"},
    403: {"model": ErrorOut, "description": "the role may not"},
    404: {"model": ErrorOut, "description": "there is no such thing"},
    409: {"model": ErrorOut, "description": "it cannot be done as things are"},
    422: {"model": ErrorOut, "description": "the request holds something that cannot be used"},
    503: {"model": ErrorOut, "description": "the record cannot be read or written now"},
}

FrameId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]


def api_router(context: Context) -> APIRouter:
    """Return the routes of the API."""
    router = APIRouter(prefix="/api/v1", responses=ERRORS)
    _add_cases(router, context)
    add_quality(router, context)
    add_reports(router, context)
    _add_fleet(router, context)
    _add_frames(router, context)
    add_pictures(router, context)
    _add_events(router, context)
    return router


def _add_cases(router: APIRouter, context: Context) -> None:

    @router.get("/summary", dependencies=FLEET)
    def summary() -> dict[str, Any]:
        """Figures of the whole record."""
        ready, why = context.ready()
        ingest = context.ingest()
        return {
            **context.reader.summary(),
            "behind_s": round(ingest.behind_s, 1),
            "frames_per_s": round(ingest.frames_per_s, 1),
            "ready": ready,
            "why": why,
        }

    @router.get("/cases", dependencies=CASES, response_model=CasesOut)
    def cases(
        request: Request,
        asked: Asked,
        status: Literal["", "open", "mine", "unclaimed", "claimed", "amend", "signed", "all"] = "all",
        limit: Annotated[int, Query(ge=1, le=500)] = 100,
        offset: Annotated[int, Query(ge=0, le=10_000)] = 0,
    ) -> Any:
        """The worklist: by urgency, stat before routine, then the oldest first; what is signed behind.

        Who reads blind gets it by arrival, stat first, without numbers by urgency.

        Page by ``after``, with ``following`` of the answer before: cases that come meanwhile move nothing.
        """
        actor = actor_of(request)
        wanted = replace(asked, status="" if status == "open" else status).filter(login=actor.name)
        found = context.reader.worklist(
            wanted,
            limit=limit,
            offset=offset,
            after=key_of(asked.after),
            before=key_of(asked.before),
            by_arrival=context.review.by_arrival(actor, asked.site),
        )
        hidden = context.review.hidden_cases(actor, found.cases)
        alone = context.review.alone_cases(actor, found.cases)
        return {
            "matching": found.matching,
            "exact": found.exact,
            "by_urgency": found.by_urgency,
            "by_status": found.by_status,
            "following": str(found.following) if found.following else None,
            "previous": str(found.previous) if found.previous else None,
            "cases": [
                case_fields(case, hidden=case.id in hidden, alone=case.id in alone) for case in found.cases
            ],
        }

    @router.get("/cases/{code}", dependencies=CASES, response_model=CaseFramesOut)
    def case(
        request: Request,
        code: str,
        site: str = "",
        state: str = "",
        limit: Annotated[int, Query(ge=1, le=500)] = 500,
        page: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
    ) -> Any:
        """One case with a page of its frames. Two sites may use one code; then ``?site=`` chooses."""
        found = [one for one in context.reader.cases_with_code(code) if site in ("", one.site)]
        if not found:
            raise HTTPException(404, "no such case")
        if len(found) > 1:
            sites = ", ".join(one.site for one in found)
            raise HTTPException(
                409, f"several sites have a case of that code: add ?site= with one of {sites}"
            )
        saw_case(request, found[0].site, code)
        hidden = bool(context.review.hidden_cases(actor_of(request), found))
        stopped = context.models.stopped()
        frames = context.reader.frames_of(
            found[0].id, state="" if hidden else state, page=page, page_size=limit
        )
        return {
            **case_fields(
                found[0],
                hidden=hidden,
                alone=bool(context.review.alone_cases(actor_of(request), found)),
            ),
            "by_state": {} if hidden else frames.by_state,
            "page": frames.page,
            "last_page": frames.last_page,
            "frames": [
                {
                    "number": listed.number,
                    "state": None if hidden else listed.state,
                    **frame_fields(listed.row, hidden=hidden, stopped=stopped),
                }
                for listed in frames.frames
            ],
        }


def _add_fleet(router: APIRouter, context: Context) -> None:
    @router.get("/fleet", dependencies=FLEET)
    def fleet(
        limit: Annotated[int, Query(ge=1, le=1000)] = 500,
        offset: Annotated[int, Query(ge=0, le=10_000_000)] = 0,
    ) -> dict[str, Any]:
        """Devices and workers: whether each is there, its last state, and what of a device's frames never came."""
        devices, workers = context.reader.fleet(limit=limit, offset=offset)
        device_count, worker_count = context.reader.fleet_size()
        missing = {(one.site, one.device): one for one in context.reader.missing()}
        return {
            "device_count": device_count,
            "worker_count": worker_count,
            "devices": [
                fleet_fields(fleet_member(row, missing.get((row.site, row.device)))) for row in devices
            ],
            "workers": [fleet_fields(fleet_member(row)) for row in workers],
            "missing": [
                {"site": one.site, "device": one.device, **missing_fields(one)} for one in missing.values()
            ],
        }

    @router.get("/rejections", dependencies=FLEET)
    def rejections(
        limit: Annotated[int, Query(ge=1, le=500)] = 100,
        offset: Annotated[int, Query(ge=0, le=10_000_000)] = 0,
    ) -> dict[str, Any]:
        """The dead letters that need a person, the latest first."""
        found = context.reader.rejections(limit=limit, offset=offset)
        return {
            "matching": context.reader.unresolved(),
            "rejections": [rejection_fields(view.row) for view in found],
        }


def _add_frames(router: APIRouter, context: Context) -> None:
    @router.get("/frames/{frame_id}", dependencies=CASES, response_model=FrameOut)
    def frame(frame_id: FrameId, request: Request) -> Any:
        """One frame with every diagnosis of it."""
        found = context.reader.frame(frame_id)
        if found is None:
            raise HTTPException(404, "no such frame")
        saw_case(request, found.case.site, found.case.code)
        hidden = bool(context.review.hidden_cases(actor_of(request), [found.case]))
        stopped = context.models.stopped()
        return {"case": found.case.code, **frame_fields(found, hidden=hidden, stopped=stopped)}

    @router.get("/frames/{frame_id}/image", dependencies=CASES, response_class=FileResponse)
    def image(frame_id: FrameId, request: Request) -> Response:
        """The frame's image as it was captured. It never changes, so a browser keeps it."""
        found = context.reader.frame(frame_id)
        if found is None:
            raise HTTPException(404, "no such frame")
        saw_case(request, found.case.site, found.case.code)
        headers = {
            "ETag": f'"{found.image_sha256}"',
            "Cache-Control": IMMUTABLE,
            "Content-Disposition": "inline",
        }
        if headers["ETag"] in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        path = context.reader.image_path(found)
        if not path.is_file():
            raise HTTPException(
                410, "the image is no longer in the record's folder: restore it from a backup"
            )
        return FileResponse(path, media_type=MEDIA_TYPES[found.encoding], headers=headers)


def _add_events(router: APIRouter, context: Context) -> None:
    @router.get("/events", dependencies=FLEET, response_class=StreamingResponse)
    async def events(request: Request, since: Annotated[str, Query(max_length=64)] = "") -> StreamingResponse:
        """The live feed, as server-sent events. ``Last-Event-ID`` goes before ``?since=``."""
        if context.feed.listeners >= MAX_LISTENERS:
            raise HTTPException(503, "too many pages are open on the live feed: close some")
        last = request.headers.get("last-event-id") or since
        return StreamingResponse(
            stream(
                context.feed,
                last_event_id=last,
                metrics=context.metrics,
                listener=Listener(context.access, request.state.identity),
            ),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )
