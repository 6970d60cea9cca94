"""The routes of the drift view: its figures, and a page of them."""

from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse

from medsae_ray.service import responses as answers
from medsae_ray.service.desk import Desk
from medsae_ray.service.drift import FEW, shifts, unlike_figures
from medsae_ray.service.html import page

SHOWN = 30
"""The features on the page."""


def drift_routes(desk: Desk) -> APIRouter:
    """Return the routes."""
    router = APIRouter(tags=["images"])

    @router.get("/v1/drift", response_model=answers.Drift)
    def drift(top: Annotated[int, Query(ge=1, le=200)] = 20) -> dict[str, Any]:
        """Return the share of the last uploads that are unlike the run, and the features whose rate among them differs
        most from the run's. Counts alone are kept, and are lost with the process."""
        return drift_of(desk, top)

    @router.get("/drift", response_class=HTMLResponse, include_in_schema=False)
    def drift_page() -> HTMLResponse:
        """Show the same as a page."""
        return HTMLResponse(page("drift.html.j2", **drift_of(desk, SHOWN), few=FEW))

    return router


def drift_of(desk: Desk, top: int) -> dict[str, Any]:
    """Return the figures, with `top` features."""
    counts, level = desk.drift.counts(), desk.judge.level if desk.judge else None
    features = [desk.atlas.name(row["feature"]) | row for row in shifts(counts, desk.atlas.rates, top)]
    unlike = unlike_figures(counts, level)
    return {"uploads": counts.uploads, "window": desk.drift.window, "unlike_the_run": unlike, "features": features}
