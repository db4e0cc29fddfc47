"""Quality over time and the stop switch, as JSON."""

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, HTTPException, Query

from clinician_dashboard.access.roles import Actor
from clinician_dashboard.access.web import needs
from clinician_dashboard.model_stops import MAX_REASON, ModelSwitchRefused
from clinician_dashboard.record.quality_over_time import MEASURES, Grouping, Quality
from clinician_dashboard.web.api_models import ModelOut, ModelsOut, QualityOut
from clinician_dashboard.web.context import Context

_Name = Annotated[str, Query(max_length=64)]
_READ = [Depends(needs("quality.read"))]


def add_quality(router: APIRouter, context: Context) -> None:
    """Add the same to the API."""

    @router.get("/quality", dependencies=_READ, response_model=QualityOut)
    def quality(
        by: Grouping = "model",
        days: Annotated[int, Query(ge=1, le=730)] = 30,
        site: _Name = "",
        device: _Name = "",
        model: _Name = "",
    ) -> Any:
        """Rates and mean scores by day with 95 % intervals (Wilson's for rates), and the change of the last seven days."""
        return as_fields(read(context, by=by, days=days, site=site, device=device, model=model))

    @router.get("/models", dependencies=_READ, response_model=ModelsOut)
    def models() -> Any:
        """Every model version that has answered here, and whether it is stopped."""
        return {"models": [_model_fields(row) for row in context.models.models()]}

    @router.post("/models/{weights_sha256}/{verb}", response_model=ModelOut)
    def switch(
        weights_sha256: str,
        verb: Literal["stop", "start"],
        actor: Annotated[Actor, Depends(needs("models.stop"))],
        reason: Annotated[str, Query(max_length=MAX_REASON)],
    ) -> Any:
        """Stop a model version, or let it start again; the reason is audited."""
        try:
            row = context.models.switch(weights_sha256, stopped=verb == "stop", reason=reason, actor=actor)
        except ModelSwitchRefused as refused:
            raise HTTPException(409, str(refused)) from None
        return _model_fields(row)


def _model_fields(row: Any) -> dict[str, Any]:
    return {
        "weights_sha256": row.weights_sha256,
        "name": row.name,
        "version": row.version,
        "simulated": row.simulated,
        "first_at": row.first_at,
        "stopped": row.stopped_at is not None,
        "stopped_at": row.stopped_at,
        "changed_by": row.changed_by,
        "reason": row.reason,
        "cases_follow": row.applied >= row.generation,
    }


def as_fields(quality: Quality) -> dict[str, Any]:
    """Return the figures as plain fields."""

    def measured(value: Any) -> dict[str, Any] | None:
        return asdict(value) if value is not None else None

    return {
        "days": list(quality.days),
        "others": quality.others,
        "whole": {name: measured(quality.whole.measure(name)) for name in MEASURES},
        "groups": [
            {
                "name": group.name,
                "label": group.label,
                "frames": group.whole.frames,
                "whole": {name: measured(group.whole.measure(name)) for name in MEASURES},
                "change": {name: measured(group.change(name)) for name in MEASURES},
                "by_day": {
                    day: {name: measured(sums.measure(name)) for name in MEASURES}
                    for day, sums in sorted(group.days.items())
                },
            }
            for group in quality.groups
        ],
    }


def read(context: Context, *, by: Grouping, days: int, site: str, device: str, model: str) -> Quality:
    """Return the figures up to today, by this machine's clock in UTC."""
    return context.reader.quality(
        by=by, days=days, today=datetime.now(UTC).date(), site=site, device=device, model=model
    )
