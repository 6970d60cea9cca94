"""`/docs`: Swagger UI over the OpenAPI document, by the files of the package swagger-ui-py and no other host."""

from html import escape
from importlib import resources
from typing import Literal

from fastapi import APIRouter, Response

FILES = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "favicon-32x32.png": "image/png",
}
PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>{title}</title>
<link rel="icon" href="docs/favicon-32x32.png">
<link rel="stylesheet" href="docs/swagger-ui.css">
<main id="swagger-ui"></main>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
"""
START = 'SwaggerUIBundle({url: "openapi.json", dom_id: "#swagger-ui", deepLinking: true});\n'
POLICY = (
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; base-uri 'none'; "
    "frame-ancestors 'none'"
)
"""Swagger UI sets styles in the page, and has its icons in data: URLs."""


def router(title: str) -> APIRouter:
    """Make the routes of the page and its files."""
    made = APIRouter(prefix="/docs", include_in_schema=False)
    page = PAGE.format(title=escape(title))

    @made.get("")
    def docs() -> Response:
        return Response(page, media_type="text/html", headers={"Content-Security-Policy": POLICY})

    @made.get("/start.js")
    def start() -> Response:
        return Response(START, media_type="text/javascript")

    @made.get("/{name}")
    def file(name: Literal["swagger-ui-bundle.js", "swagger-ui.css", "favicon-32x32.png"]) -> Response:
        data = resources.files("swagger_ui").joinpath("static", name).read_bytes()
        return Response(data, media_type=FILES[name])

    return made
