"""The errors of the service in one form: {"error": {"code", "message", "where"?}}. Nothing of a request is ever
logged."""

import logging
import traceback
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from medsae_ray.errors import ImageError, one_line

logger = logging.getLogger(__name__)

LONGEST_WHERE = 200
CODE = "X-Medsae-Code"
"""The header by which a refusal's code reaches the access log and the metrics; no caller gets it."""
_CODES = {400: "bad_request", 404: "not_found", 405: "method_not_allowed"}
_IMAGE_STATUS = {"not_an_image": 415, "too_large": 413}
_IMAGE_WORDS = {
    "corrupt": "the file is damaged, or of a form that is not read: its image cannot be decoded",
    "truncated": "the file ends before its image does",
}
"""The words for what libraries report in their own."""


class Problem(Exception):
    """The refusal of a request: HTTP status, a short stable code, and the caller's remedy."""

    def __init__(
        self, status: int, code: str, message: str, where: str | None = None, retry_s: int | None = None
    ) -> None:
        super().__init__(code)
        self.status, self.code, self.message, self.where, self.retry_s = status, code, message, where, retry_s

    def body(self) -> dict[str, str]:
        """Return code, message and place; the last two are shortened to one line each."""
        # Both may repeat a word of the request, which may be long, or no Unicode at all.
        error = {"code": self.code, "message": one_line(self.message)}
        return error | ({"where": one_line(self.where[:LONGEST_WHERE])} if self.where else {})

    def response(self) -> Response:
        """Build the HTTP response."""
        headers = {CODE: self.code}
        if self.retry_s is not None:
            headers["Retry-After"] = str(self.retry_s)
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return JSONResponse({"error": self.body()}, self.status, headers)


def of_image(error: ImageError, where: str) -> Problem:
    """Return the Problem of an unusable image: the file is at fault, so the same request fails again."""
    words = _IMAGE_WORDS.get(error.reason, str(error))
    return Problem(_IMAGE_STATUS.get(error.reason, 422), f"image_{error.reason}", words, where)


def unexpected(error: Exception) -> Problem:
    """Return the Problem of a fault of the service. The log has its place, not the values, which may come from an
    image."""
    logger.error("%s\n%s", type(error).__name__, "".join(traceback.format_tb(error.__traceback__)))
    return Problem(500, "internal", "the service failed on this request; its log says where")


def _let_go(error: Exception) -> None:
    """Forget where an error of the framework comes from. A frame in its traceback has both the error and the body: they
    would hold each other until Python looks for cycles."""
    error.__traceback__ = error.__cause__ = error.__context__ = None


def install(app: FastAPI) -> None:
    """Give every refusal of the framework the service's form."""

    async def refused(request: Request, error: Any) -> Response:
        _let_go(error)
        code = _CODES.get(error.status_code, f"http_{error.status_code}")
        response = Problem(error.status_code, code, str(error.detail)).response()
        response.headers.update(error.headers or {})
        return response

    async def invalid(request: Request, error: Any) -> Response:
        _let_go(error)
        first = max(error.errors(), key=lambda one: len(one["loc"]))  # where text or a list may stand, the list's error
        where = ".".join(str(step) for step in first["loc"])
        if where == "body" and "json" not in request.headers.get("content-type", "").lower():
            return Problem(415, "wrong_content_type", "Content-Type is application/json").response()
        return Problem(422, "invalid", first["msg"], where).response()

    async def own(request: Request, error: Any) -> Response:
        problem: Problem = error
        return problem.response()

    app.add_exception_handler(HTTPException, refused)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(Problem, own)
