"""The sign-in of a browser, by the token that clients send as Bearer: a plain form, which needs no script."""

import hmac
from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from medsae_ray.service.html import page
from medsae_ray.service.middleware import digest
from medsae_ray.service.visitors import SIGN_IN, drop_cookies, own_path, reader_of, set_cookies

READER_LENGTH = 60
"""The most characters of a reader's name."""


def router(token: str | None) -> APIRouter:
    """Return the routes. `token` is the digest of the service's token; without one only the reader's name is asked."""
    found = APIRouter(include_in_schema=False)

    @found.get(SIGN_IN)
    def form(request: Request, next: str = "/") -> HTMLResponse:
        """Show the form."""
        return _form(token, own_path(next), reader_of(request.headers), wrong=False)

    @found.post(SIGN_IN)
    def sign_in(
        request: Request,
        given: Annotated[str, Form(alias="token", max_length=1000)] = "",
        reader: Annotated[str, Form(max_length=READER_LENGTH)] = "",
        next: Annotated[str, Form(max_length=2000)] = "/",
    ) -> Response:
        """Set the cookies and go on, or show the form again."""
        if token and not hmac.compare_digest(digest(given), token):
            return _form(token, own_path(next), reader, wrong=True)
        response = RedirectResponse(own_path(next), 303)
        set_cookies(response, request.headers, token, " ".join(reader.split()))
        return response

    @found.post("/sign-out")
    def sign_out() -> Response:
        """Take the cookies back."""
        response = RedirectResponse(SIGN_IN, 303)
        drop_cookies(response)
        return response

    return found


def _form(token: str | None, onward: str, reader: str, wrong: bool) -> HTMLResponse:
    text = page("sign_in.html.j2", asks_token=token is not None, next=onward, reader=reader, wrong=wrong)
    return HTMLResponse(text, 401 if wrong else 200)
