"""The contents of a server's reply: the answer with its log-probabilities, its cost, the list of models.

All of it may be missing, null or of another type than in OpenAI's API; no function here raises.
"""

import math
import re
from typing import Any, NamedTuple

from medsae_ray.core.naming.engine import Usage
from medsae_ray.core.naming.server_reply import Refused, said_by

LEAST, ROUNDED, MOST = -1e30, 1e-3, 1e30
"""The bounds of log-probabilities: the first two, with 0 exceeded by rounding only; beyond the third none is read."""
MOST_MASS = 1.1
"""The largest sum of probabilities of distinct tokens, however they were rounded."""
FEWEST = 2
"""The fewest likely tokens that can hold a yes and a no."""


class ServerReply(NamedTuple):
    """The first answer of a reply."""

    text: str | None
    """The text of the answer; None without one."""
    finish: str
    """The reason of its end: "stop", "length" or a server's own word."""
    likely: list[tuple[str, float]]
    """The likely first tokens with their log-probabilities; empty with the reason in `lacks`."""
    lacks: str | None
    """The missing part of the log-probabilities; None also without a token."""


def read_choice(body: object) -> ServerReply | Refused:
    """Return the first choice of a reply of the chat API, or the reason for its lack."""
    if not isinstance(body, dict) or not has_choice(body):
        choices = body.get("choices") if isinstance(body, dict) else None
        return Refused(f"the reply has no answer ('choices' is {_kind(choices)}): {said_by(body)}")
    choice = body["choices"][0]
    message, finish = choice.get("message"), choice.get("finish_reason")
    message = message if isinstance(message, dict) else {}
    finish = said_by(finish)[:40] if isinstance(finish, str) and finish else "stop"
    if finish in ("content_filter", "error"):
        return Refused(f"the server ended its answer with {finish!r}")
    if isinstance(message.get("refusal"), str) and message["refusal"]:
        return Refused(f"the model refuses: {said_by(message['refusal'])}")
    likely, lacks = _likely(choice.get("logprobs"))
    return ServerReply(_text(message.get("content")), finish, likely, lacks)


def has_choice(body: dict[str, Any]) -> bool:
    """Return True if a reply has an answer at all, be it a refusal."""
    choices = body.get("choices")
    return isinstance(choices, list) and bool(choices) and isinstance(choices[0], dict)


def read_usage(body: object, seconds: float) -> Usage:
    """Return the cost of a request, as far as the server counts it."""
    spent = body.get("usage") if isinstance(body, dict) else None
    spent = spent if isinstance(spent, dict) else {}
    details = spent.get("prompt_tokens_details")
    cached = _count(details.get("cached_tokens")) if isinstance(details, dict) else 0
    return Usage(1, _count(spent.get("prompt_tokens")), cached, _count(spent.get("completion_tokens")), seconds)


def read_models(body: object) -> dict[str, str | None] | None:
    """Return each model's origin, None if the server does not tell; None if the reply is not a list of models."""
    cards = body.get("data") if isinstance(body, dict) else body
    if not isinstance(cards, list):
        return None
    named = [card for card in cards if isinstance(card, dict) and isinstance(card.get("id"), str)]
    if cards and not named:
        return None
    return {card["id"]: card["root"] if isinstance(card.get("root"), str) else None for card in named}


def fewer_logprobs(why: str, asked: int) -> int | None:
    """Return a number of likely tokens to retry with; 0 if the server returns none, None if another cause failed."""
    if not re.search(r"log_?probs?", why, re.IGNORECASE):
        return None
    named = [int(number) for number in re.findall(r"(?<![\w.])\d{1,3}(?![\w.]*\w)", why)]
    if allowed := [number for number in named if FEWEST <= number < asked]:
        return max(allowed)
    if re.search(r"not (be )?(support|allow|permit|available|enabl)|unsupported|unknown|unrecogni", why, re.IGNORECASE):
        return 0
    return next((number for number in (5, FEWEST) if number < asked), 0)


def _likely(logprobs: Any) -> tuple[list[tuple[str, float]], str | None]:
    if not isinstance(logprobs, dict):
        return [], f"'logprobs' is {_kind(logprobs)}"
    content = logprobs.get("content")
    if not isinstance(content, list):
        return [], f"'logprobs.content' is {_kind(content)}"
    if not content:
        return [], None
    top = content[0].get("top_logprobs") if isinstance(content[0], dict) else None
    if not isinstance(top, list) or not top:
        return [], f"'top_logprobs' is {_kind(top)}"
    found: dict[tuple[str, str | None], float] = {}
    for token, spelt, logprob in (entry for one in top if (entry := _entry(one)) is not None):
        found[token, spelt] = max(logprob, found.get((token, spelt), -math.inf))  # the chosen token may come again
    if not found:
        return [], "no entry of 'top_logprobs' has a token and a number"
    if max(found.values()) > ROUNDED or sum(math.exp(min(value, 0.0)) for value in found.values()) > MOST_MASS:
        return [], "the numbers of 'top_logprobs' are no logarithms of probabilities: these add up to more than 1"
    return [(token, min(value, 0.0)) for (token, _), value in found.items()], None


def _entry(one: Any) -> tuple[str, str | None, float] | None:
    """Return the token, its bytes as text if given (two tokens may look alike), and its log-probability."""
    if not isinstance(one, dict):
        return None
    token, spelt, logprob = one.get("token"), _of_bytes(one.get("bytes")), one.get("logprob")
    if not isinstance(token, str) or not token:
        token = spelt
    if token is None or isinstance(logprob, bool) or not isinstance(logprob, int | float) or not LEAST < logprob < MOST:
        return None
    return token, spelt, float(logprob)


def _of_bytes(values: Any) -> str | None:
    try:
        return bytes(values).decode("utf-8", "replace") if isinstance(values, list) else None
    except (TypeError, ValueError):
        return None


def _text(content: Any) -> str | None:
    """Return a message's text, which may come in parts."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return None
    parts = [part.get("text") if isinstance(part, dict) else part for part in content]
    texts = [part for part in parts if isinstance(part, str)]
    return "".join(texts) if texts else None


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**53:
        return 0
    return int(value)


def _kind(value: Any) -> str:
    if value is None:
        return "null or missing"
    return "empty" if value in ([], {}, "") else f"a {type(value).__name__}"
