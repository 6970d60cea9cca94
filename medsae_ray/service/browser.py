"""The browser's pages behind the service: the same bytes as in a folder, made when they are asked for."""

import threading
from functools import cached_property

from fastapi import APIRouter, Request
from fastapi.responses import Response

from medsae_ray.core.browser.site import KINDS, PLACES, Site
from medsae_ray.finished import open_site
from medsae_ray.service.desk import Desk
from medsae_ray.service.errors import Problem


class Pages:
    """The site of a finished run, opened on first use: it holds all activations and answers."""

    def __init__(self, desk: Desk) -> None:
        self._desk, self._opening = desk, threading.Lock()

    def file(self, path: str) -> bytes | None:
        """Return the file at a path; None if there is none."""
        with self._opening:
            site = self._site
        return site.file(path)

    @cached_property
    def _site(self) -> Site:
        run = self._desk.run
        return open_site(run.recipe, run.root, run.images)


def browser(desk: Desk) -> APIRouter:
    """Return the routes of the pages."""
    router, pages = APIRouter(include_in_schema=False), Pages(desk)

    def page(request: Request) -> Response:
        """Return a page or a file of the browser; / is the grid."""
        name = request.url.path.removeprefix("/") or "index.html"
        data = pages.file(name)
        if data is None:
            raise Problem(404, "not_found", "the pages of this run have no such file")
        return Response(data, media_type=KINDS[name.rpartition(".")[2]])

    for place in PLACES:
        router.add_api_route(place, page)
    return router
