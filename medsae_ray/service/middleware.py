"""The checks before every route: the caller, the amount, the speed, and the number of requests at once. Every answer is
counted, and has a line in the access log."""

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

from medsae_ray.service.errors import CODE, Problem, unexpected
from medsae_ray.service.limits import RequestLimits
from medsae_ray.service.metrics import NO_ROUTE, Metrics
from medsae_ray.service.visitors import SAFE, SIGN_IN, has_signed_in, is_foreign, looks_around

access = logging.getLogger("medsae_ray.access")
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")

LIVE = "/v1/health/live"
OPEN = (LIVE, SIGN_IN)
"""The paths that need no token."""
LOOPBACK = ("localhost", "127.0.0.1", "::1")
_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",  # with no-referrer, browsers send a form's Origin as null
}
POLICY = "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
"""The Content-Security-Policy of every answer that has none of its own."""
CLOSES = 2**16
"""The bytes of a body that are still taken after a refusal, so that the connection can go on; beyond, it is closed."""


def digest(token: str) -> str:
    """Return the service's record of its token, a SHA-256 digest."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


class Guard:
    """The ASGI middleware. `token` is the token's digest; without one, only names of the loopback are answered, so
    no web page reaches the service by pointing its own name at this machine."""

    def __init__(self, app: ASGIApp, token: str | None, limits: RequestLimits, metrics: Metrics) -> None:
        self.app, self.token, self.limits, self.metrics, self.under_way = app, token, limits, metrics, 0
        metrics.under_way.set_function(lambda: self.under_way)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check a request, hold a place for it while it is answered, and turn exceptions into error responses."""
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        if scope["type"] != "http":
            return await send({"type": "websocket.close", "code": 1008})
        # HEAD is GET's answer without its body. A copy, so that the route can be read from it afterwards.
        asked = {**scope, "method": "GET" if scope["method"] == "HEAD" else scope["method"]}
        body = _Body(receive, self.limits, Headers(scope=scope))
        reply = Reply(send, scope["method"] == "HEAD", body)
        try:
            self._check(scope)
            with self._place(scope["method"]):
                await self.app(asked, body.receive, reply.send)
        except ClientDisconnect:
            reply.code = "client_left"
        except Exception as error:
            problem = error if isinstance(error, Problem) else unexpected(error)
            if not reply.status:
                await problem.response()(scope, receive, reply.send)
        finally:
            self._note(asked, reply, body.size)

    def _note(self, scope: Scope, reply: "Reply", received: int) -> None:
        """Count an answer and log it, without anything that the caller wrote."""
        route = getattr(scope.get("route"), "path", NO_ROUTE)
        seconds = time.monotonic() - reply.begun
        self.metrics.answered(route, reply.status, reply.code, seconds)
        method = scope["method"] if scope["method"] in METHODS else "other"
        fields = {"method": method, "route": route, "status": reply.status, "code": reply.code}
        fields |= {"ms": round(1000 * seconds, 1), "received": received, "sent": reply.size}
        access.info("%s %s %s", method, route, reply.status, extra={"request": fields})

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


class Reply:
    """An answer on its way: its headers are completed, and its status, its code and its size noted."""

    def __init__(self, send: Send, head: bool, body: "_Body") -> None:
        self._send, self._head, self._body, self.begun = send, head, body, time.monotonic()
        self.status, self.size = 0, 0
        self.code: str | None = None
        """The code of a refusal."""

    async def send(self, message: Message) -> None:
        """Send a message of the answer."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers.update(_HEADERS)
            headers.setdefault("Content-Security-Policy", POLICY)
            self.code = headers.get(CODE)
            del headers[CODE]
            if self._body.left() > CLOSES:
                headers["Connection"] = "close"
        elif message["type"] == "http.response.body":
            if self._head:
                message = {**message, "body": b""}
            self.size += len(message.get("body", b""))
        await self._send(message)


class _Body:
    """A body that is refused on arrival, once it is too long or takes too long."""

    def __init__(self, receive: Receive, limits: RequestLimits, headers: Headers) -> None:
        self.next, self.limits, self.headers = receive, limits, headers
        self.size, self.whole, self.until = 0, False, time.monotonic() + limits.body_s

    def left(self) -> float:
        """Return the bytes that are still to come, as far as is known."""
        if self.whole:
            return 0
        length = self.headers.get("content-length", "")
        if length.isascii() and length.isdigit():
            return int(length[:20]) - self.size
        return float("inf") if "transfer-encoding" in self.headers else 0

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
    if "@" in host:  # no browser sends one
        return None
    with contextlib.suppress(ValueError):
        return urlsplit(f"//{host}").hostname
    return None
