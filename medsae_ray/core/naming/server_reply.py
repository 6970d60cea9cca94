"""The validation of a foreign server's reply.

Gateways answer 200 with an error inside, with a page to sign in, or with null where OpenAI's API has a list. Every
reply is sorted here into four kinds, and none can raise an exception.
"""

import contextlib
import json
import math
import re
from dataclasses import dataclass
from typing import Any

from medsae_ray.errors import one_line

SHOWN = 300
"""The most characters of a server's text in a message."""
DEEPEST = 64
"""The nesting of JSON beyond which it is not read."""
COME_BACK = (408, 409, 425, 429, 500, 502, 503, 504)
"""The statuses after which the same request may succeed; so may gateways' own ones, from 520 on."""
STOPS = {
    401: "the key is missing or wrong: set the environment variable that how.vlm.key_variable names",
    402: "the account has no money or quota left: top it up, or use another server",
    403: "the key may not use this model",
    404: "no such model or address: check how.vlm.url (it ends in /v1 for most servers) and how.vlm.model",
    405: "this is not the address of OpenAI's API: check how.vlm.url (it ends in /v1 for most servers)",
    407: "a proxy on the way requires a login",
    410: "the model or the address was removed",
}
"""The statuses that every further request would meet as well, with the remedy."""
_MONEY = re.compile(
    r"insufficient[\s_-]*(quota|credit|balance|fund)|exceeded your current quota|quota[\s_-]*(has been |was )?exceeded|"
    r"exceeded\b.{0,40}\bquota|out of (credit|quota)|credit balance|(more|enough|no) credits?\b|billing|"
    r"payment[\s_-]*required|\btop[\s_-]*up\b",
    re.IGNORECASE,
)
_FOR_A_WHILE = re.compile(r"per[\s_-]*(min|sec)|\b[rt]pm\b|(retry|try again) (in|after) [\d.]+ ?m?s", re.IGNORECASE)
"""The words of a quota that renews itself: the server is busy, and not out of money."""
_FLAGGED = re.compile(r"flagged|moderation|content[\s_-]*(policy|filter)", re.IGNORECASE)
"""The words of a 403 about this one request's content, and not about the key."""
_NAMED = {
    r"rate_?limit|too_?many": 429,
    r"overloaded|unavailable": 503,
    r"time_?d?_?out": 504,
    r"server_?error|internal": 500,
    r"api_?key|authenticat|unauthori": 401,
    r"permission|forbidden": 403,
    r"not_?found": 404,
}
"""The status of an error by its name, if it has no number."""


@dataclass(frozen=True)
class Whole:
    """A reply that is JSON without an error inside."""

    body: dict[str, Any] | list[Any]


@dataclass(frozen=True)
class Refused:
    """A failed request; another one may succeed."""

    why: str
    status: int = 0
    """The HTTP status or the number of the server's error; 0 without one."""


@dataclass(frozen=True)
class Busy:
    """A busy server; the same request may succeed later."""

    why: str


@dataclass(frozen=True)
class Stop:
    """A failure of every request until a person acts."""

    why: str


Read = Whole | Refused | Busy | Stop


def read_reply(status: int, data: bytes, charset: str | None = None, location: str = "") -> Read:
    """Sort a reply by its HTTP status and its body; `charset` and `location` are from its headers."""
    if 300 <= status < 400:
        place = said_by(location.partition("?")[0]) or "another address"
        return Stop(f"the server redirects to {place} (HTTP {status}), perhaps to sign in: check how.vlm.url")
    body = read_json(data, charset)
    fault = _fault(body)
    if not 200 <= status < 300:
        return _sorted(status, fault[1] if fault else _words(body, data, charset))
    if fault is not None:
        return _sorted(*fault)
    if isinstance(body, dict | list):
        return Whole(body)
    if re.match(rb"\s*(\xef\xbb\xbf)?\s*<(!doctype|html|head|body|\?xml|!--)", data[:200], re.IGNORECASE):
        said = _words(body, data, charset)
        return Stop(f"the server answers with a web page ({said}) and not with JSON: check how.vlm.url, and sign in")
    return Refused(f"the reply is not a JSON object: {_words(body, data, charset) or 'it is empty'}")


def read_json(data: bytes, charset: str | None = None) -> Any:
    """Return the JSON in a body of any encoding, or None. NaN and infinities become null, text becomes Unicode."""
    texts: list[str | bytes] = [data]
    if charset:
        with contextlib.suppress(LookupError, ValueError):  # a name without a codec, or with one that is not for text
            texts.append(data.decode(charset, "replace"))
    for text in texts:
        try:
            return _clean(json.loads(text, parse_constant=lambda _: None), DEEPEST)
        except (ValueError, RecursionError):
            continue
    return None


def said_by(server: object) -> str:
    """Return a server's text as one short line without control characters."""
    line = one_line(str(server)[: 10 * SHOWN])
    return line if len(line) <= SHOWN else line[:SHOWN] + "..."


def _clean(value: Any, depth: int) -> Any:
    if depth < 0:
        raise ValueError("nested too deeply")
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list):
        return [_clean(item, depth - 1) for item in value]
    if isinstance(value, dict):
        return {_clean(key, depth): _clean(item, depth - 1) for key, item in value.items()}
    return value


def _fault(body: Any) -> tuple[int, str] | None:
    """Return status and words of an error inside a body, wherever gateways put it; status 0 without a number."""
    if isinstance(body, list) and len(body) == 1 and isinstance(body[0], dict) and "error" in body[0]:
        body = body[0]  # Google's gateway puts it into a list
    if not isinstance(body, dict):
        return None
    choices = body.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    for place in (body, first):
        if isinstance(place, dict) and (error := place.get("error")):
            inner = error if isinstance(error, dict) else {"message": error}
            return _status(inner) or _status({"code": body.get("code")}), _error_words(inner)
    if body.get("object") == "error":
        return _status(body), _error_words(body)
    if not first and "data" not in body and (words := _field_with_words(body)):
        return _status(body), words  # a gateway's own form, as {"code": 401, "message": "..."}
    return None


def _status(error: dict[str, Any]) -> int:
    named = [error.get(key) for key in ("code", "status", "status_code", "type")]
    for value in named:
        if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) == 3:
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool) and 400 <= value < 600:
            return value
    for value in named:
        for pattern, status in _NAMED.items():
            if isinstance(value, str) and re.search(pattern, value, re.IGNORECASE):
                return status
    return 0


def _error_words(error: dict[str, Any]) -> str:
    message, code, kind = (error.get(key) for key in ("message", "code", "type"))
    if not isinstance(message, str) or not message:
        return said_by(json.dumps(error, ensure_ascii=False))
    named = kind if isinstance(kind, str) and _MONEY.search(kind) else code
    if not isinstance(named, str) or named.isdigit() or named in message:
        return said_by(message)
    return f"{said_by(message)} ({said_by(named)[:80]})"


def _words(body: Any, data: bytes, charset: str | None) -> str:
    """Return the words of a body not in OpenAI's form: a field with words, a page's title, or itself."""
    if isinstance(body, dict) and (words := _field_with_words(body)):
        return words
    text = _text(data[:50_000], charset)
    if title := re.search(r"<title[^>]*>(.*?)</title", text, re.IGNORECASE | re.DOTALL):
        return said_by(title[1])
    return said_by(re.sub(r"<[^<>]{0,2000}>", " ", text) if text.lstrip().startswith("<") else text)


def _field_with_words(body: dict[str, Any]) -> str | None:
    keys = ("message", "detail", "error_description", "title", "msg")
    return next((said_by(body[key]) for key in keys if isinstance(body.get(key), str) and body[key]), None)


def _text(data: bytes, charset: str | None) -> str:
    try:
        return data.decode(charset or "utf-8", "replace")
    except (LookupError, ValueError):
        return data.decode("utf-8", "replace")


def _sorted(status: int, words: str) -> Refused | Busy | Stop:
    said = f"HTTP {status}: {words}" if status else words
    if status == 402 or (_MONEY.search(words) and not _FOR_A_WHILE.search(words)):
        return Stop(f"{STOPS[402]} ({said})")
    if status == 403 and _FLAGGED.search(words):
        return Refused(said, status)
    if status in STOPS:
        return Stop(f"{STOPS[status]} ({said})")
    return Busy(said) if status in COME_BACK or status >= 520 else Refused(said, status)
