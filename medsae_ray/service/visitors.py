"""Who sends a request: a client, a page of the service, a page of another site, or a browser that has signed in."""

import hmac
import re
from urllib.parse import quote, unquote

from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.responses import Response

SIGN_IN = "/sign-in"
SESSION, READER = "medsae_session", "medsae_reader"
"""The cookies of a browser: that it has shown the token, and the name of who reads there."""
SAFE = ("GET", "HEAD", "OPTIONS")
"""The methods that change nothing."""
_OWN_PATH = re.compile(r"/(?![/\\])[!-~]*")


def is_foreign(headers: Headers) -> bool:
    """Return True if a page of another origin sent the request. A client that is no browser sends neither header."""
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site not in (None, "same-origin", "none"):
        return True
    if origin is None or (origin == "null" and site is not None):
        return False
    return origin.partition("://")[2].lower() != headers.get("host", "").lower()


def looks_around(method: str, headers: Headers) -> bool:
    """Return True if a person opens a page in a browser, who can follow a redirect but send no header."""
    return method in ("GET", "HEAD") and "text/html" in headers.get("accept", "")


def session_of(token: str) -> str:
    """Return the value of the cookie that opens the service like the token of this digest, but does not tell it."""
    return hmac.new(token.encode(), b"browser session", "sha256").hexdigest()


def has_signed_in(headers: Headers, token: str) -> bool:
    """Return True if the request has the cookie of the token of this digest."""
    given = cookie_parser(headers.get("cookie", "")).get(SESSION, "")
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), session_of(token).encode())


def reader_of(headers: Headers) -> str:
    """Return the name that the reader gave at the sign-in, or an empty one."""
    return unquote(cookie_parser(headers.get("cookie", "")).get(READER, ""))


def set_cookies(response: Response, headers: Headers, token: str | None, reader: str) -> None:
    """Give a browser the cookies, until it is closed. No script reads them, and no other site's request has them."""
    secure = headers.get("origin", "").startswith("https:")  # the browser's own word, also behind a proxy with TLS
    for name, value in ((SESSION, session_of(token) if token else ""), (READER, quote(reader))):
        if value:
            response.set_cookie(name, value, httponly=True, samesite="strict", secure=secure)


def drop_cookies(response: Response) -> None:
    """Take both cookies back."""
    for name in (SESSION, READER):
        response.delete_cookie(name, httponly=True, samesite="strict")


def own_path(text: str) -> str:
    """Return a path of this service to go on to; "/" in place of an address elsewhere."""
    return text if _OWN_PATH.fullmatch(text) else "/"
