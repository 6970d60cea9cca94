"""The checks before every route: the caller, the amount, the speed, and the number of requests at once."""

import asyncio
import contextlib
import hashlib
import hmac
import logging
import time
from collections.abc import Iterator
from urllib.parse import quote, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from medsae_ray.service.errors import Problem, unexpected
from medsae_ray.service.limits import RequestLimits
from medsae_ray.service.visitors import SAFE, SIGN_IN, has_signed_in, is_foreign, looks_around

logger = logging.getLogger(__name__)

OPEN = ("/v1/health/live", SIGN_IN)
"""The paths that need no token."""
LOOPBACK = ("localhost", "127.0.0.1", "::1")
_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",  # with no-referrer, browsers send a form's Origin as null
}
_FRAMES = "frame-ancestors 'none'"
"""The Content-Security-Policy of an answer that has none of its own."""


def digest(token: str) -> str:
    """Return the service's record of its token, a SHA-256 digest."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


class Guard:
    """The ASGI middleware. `token` is the token's digest; without one, only names of the loopback are answered, so
    no web page reaches the service by pointing its own name at this machine."""

    def __init__(self, app: ASGIApp, token: str | None, limits: RequestLimits) -> None:
        self.app, self.token, self.limits, self.under_way = app, token, limits, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check a request, hold a place for it while it is answered, and turn exceptions into error responses."""
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        if scope["type"] != "http":
            return await send({"type": "websocket.close", "code": 1008})
        started, head = False, scope["method"] == "HEAD"
        if head:  # GET's answer without its body
            scope = {**scope, "method": "GET"}

        async def sending(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                headers.update(_HEADERS)
                headers.setdefault("Content-Security-Policy", _FRAMES)
            elif head and message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        try:
            self._check(scope)
            with self._place(scope["method"]):
                await self.app(scope, _Body(receive, self.limits).receive, sending)
        except ClientDisconnect:
            logger.info("a caller left before the request was whole")
        except Exception as error:
            if not started:
                problem = error if isinstance(error, Problem) else unexpected(error)
                await problem.response()(scope, receive, sending)

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        if self.token is None:
            if _hostname(headers.get("host", "")) not in LOOPBACK:
                raise Problem(403, "wrong_host", "without a token the service answers to the name localhost only")
        elif scope["path"] not in OPEN and not self._knows(headers):
            onward = f"{SIGN_IN}?next={quote(_target(scope))}" if looks_around(scope["method"], headers) else None
            raise _Unknown(onward)
        if scope["method"] not in SAFE and is_foreign(headers):
            raise Problem(403, "foreign_origin", "a page of another site sent this; only the service's own pages may")
        length = headers.get("content-length", "0")
        if not length.isascii() or not length.isdigit() or int(length[:20]) > self.limits.body:
            raise _too_much(self.limits)

    def _knows(self, headers: Headers) -> bool:
        kind, _, token = headers.get("authorization", "").partition(" ")
        right = hmac.compare_digest(digest(token), self.token or "")
        return (kind.lower() == "bearer" and right) or has_signed_in(headers, self.token or "")

    @contextlib.contextmanager
    def _place(self, method: str) -> Iterator[None]:
        """Hold one of the places for requests with a body until the answer is sent."""
        if method in SAFE:
            yield
            return
        if self.under_way >= self.limits.requests:
            raise Problem(429, "busy", "as many requests as can be served are under way", retry_s=self.limits.retry_s)
        self.under_way += 1
        try:
            yield
        finally:
            self.under_way -= 1


class _Body:
    """A body that is refused on arrival, once it is too long or takes too long."""

    def __init__(self, receive: Receive, limits: RequestLimits) -> None:
        self.next, self.limits = receive, limits
        self.size, self.whole, self.until = 0, False, time.monotonic() + limits.body_s

    async def receive(self) -> Message:
        if self.whole:
            return await self.next()
        try:
            async with asyncio.timeout(self.until - time.monotonic()):
                message = await self.next()
        except TimeoutError:
            raise Problem(408, "too_slow", f"the body did not arrive within {self.limits.body_s:g} s") from None
        if message["type"] == "http.request":
            self.size += len(message.get("body", b""))
            self.whole = not message.get("more_body", False)
        if self.size > self.limits.body:
            raise _too_much(self.limits)
        return message


class _Unknown(Problem):
    """The refusal of a caller without the token; a browser is led to the sign-in, `onward`."""

    def __init__(self, onward: str | None) -> None:
        super().__init__(401, "unauthorized", "send the header Authorization: Bearer TOKEN")
        self.onward = onward

    def response(self) -> Response:
        return RedirectResponse(self.onward, 303) if self.onward else super().response()


def _target(scope: Scope) -> str:
    """Return path and query of a request."""
    query = scope.get("query_string", b"").decode("latin-1")
    return f"{scope['path']}?{query}" if query else str(scope["path"])


def _too_much(limits: RequestLimits) -> Problem:
    return Problem(413, "too_large", f"a request may have at most {limits.body} bytes")


def _hostname(host: str) -> str | None:
    with contextlib.suppress(ValueError):
        return urlsplit(f"//{host}").hostname
    return None
