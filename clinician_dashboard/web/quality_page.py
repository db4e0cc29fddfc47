"""Quality over time: rates and scores by day, and the stop switch of each model version."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Form, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from clinician_dashboard.access.roles import Actor
from clinician_dashboard.access.web import needs
from clinician_dashboard.model_stops import MAX_REASON, ModelSwitchRefused
from clinician_dashboard.record.quality_over_time import GROUPINGS, MEASURES, Grouping
from clinician_dashboard.web import plots
from clinician_dashboard.web.context import Context
from clinician_dashboard.web.pages import Pages
from clinician_dashboard.web.quality_api import read

RANGES = (30, 90, 365)
_Name = Annotated[str, Query(max_length=64)]
_Sha256 = Annotated[str, Query(max_length=64)]
_READ = [Depends(needs("quality.read"))]


def quality_router(pages: Pages, context: Context) -> APIRouter:
    """Return the routes of the page."""
    router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)

    def given(by: str, days: int, site: str, device: str, model: str) -> dict[str, Any]:
        grouping: Grouping = by if by in GROUPINGS else "model"
        days = days if days in RANGES else RANGES[0]
        quality = read(context, by=grouping, days=days, site=site, device=device, model=model)
        return {
            "page": "quality",
            "quality": quality,
            "by": grouping,
            "days": days,
            "ranges": RANGES,
            "groupings": {"model": "Model version", "site": "Site", "device": "Microscope"},
            "measures": MEASURES,
            "plots": {name: plots.plot(quality, name) for name in MEASURES},
            "shown": plots.shown,
            "models": context.models.models(),
            "asked": {"by": grouping, "days": days, "site": site, "device": device, "model": model},
            "needed": context.reader.needing_a_person(),
            "simulated": any(row.simulated for row in context.models.models()),
        }

    @router.get("/quality", dependencies=_READ)
    def quality(
        request: Request,
        by: _Name = "model",
        days: int = 30,
        site: _Name = "",
        device: _Name = "",
        model: _Sha256 = "",
    ) -> Response:
        return pages.answer(request, "quality.html", **given(by, days, site, device, model))

    @router.get("/fragments/quality", dependencies=_READ)
    def quality_parts(
        request: Request,
        by: _Name = "model",
        days: int = 30,
        site: _Name = "",
        device: _Name = "",
        model: _Sha256 = "",
    ) -> Response:
        return pages.parts(request, "parts/quality.html", **given(by, days, site, device, model))

    @router.post("/models/{weights_sha256}/{verb}")
    def switch(
        request: Request,
        weights_sha256: str,
        verb: Literal["stop", "start"],
        actor: Annotated[Actor, Depends(needs("models.stop"))],
        reason: Annotated[str, Form(max_length=MAX_REASON)] = "",
    ) -> Response:
        try:
            context.models.switch(weights_sha256, stopped=verb == "stop", reason=reason, actor=actor)
        except ModelSwitchRefused as refused:
            return pages.error(request, 409, str(refused))
        return RedirectResponse("/quality#models", status_code=303)

    return router
