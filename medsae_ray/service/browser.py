"""The browser's pages behind the service: the same bytes as in a folder, made when they are asked for."""

import threading
from functools import cached_property

from fastapi import APIRouter
from fastapi.responses import Response

from medsae_ray.core.browser.frame import POLICY
from medsae_ray.core.browser.site import KINDS, Site
from medsae_ray.finished import Finished, open_site
from medsae_ray.service.errors import Problem

HEADERS = {
    "Content-Security-Policy": f"{POLICY}; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""The headers of every page and file."""


class Pages:
    """The site of a finished run, opened on first use: it holds all activations and answers."""

    def __init__(self, run: Finished) -> None:
        self._run, self._opening = run, threading.Lock()

    def file(self, path: str) -> bytes | None:
        """Return the file at a path; None if there is none."""
        with self._opening:
            site = self._site
        return site.file(path)

    @cached_property
    def _site(self) -> Site:
        return open_site(self._run.recipe, self._run.root, self._run.images)


def browser(run: Finished) -> APIRouter:
    """Return the route of all pages. It takes every path, so it comes after all other routes."""
    router, pages = APIRouter(include_in_schema=False), Pages(run)

    @router.get("/{path:path}")
    def page(path: str) -> Response:
        """Return a page or a file of the browser; / is the grid."""
        name = path or "index.html"
        data = pages.file(name)
        if data is None:
            raise Problem(404, "not_found", "there is no such path; / leads to the pages and /docs to the routes")
        return Response(data, media_type=KINDS[name.rpartition(".")[2]], headers=HEADERS)

    return router
