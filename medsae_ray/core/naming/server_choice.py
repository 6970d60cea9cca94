"""What stands in a server's reply: the answer with its log-probabilities, what it cost, the models that there are.

All of it may be missing, null or of another type, whatever OpenAI's API says; nothing here raises.
"""

import math
import re
from typing import Any, NamedTuple

from medsae_ray.core.naming.engine import Usage
from medsae_ray.core.naming.server_reply import Refused, said_by

LEAST, ROUNDED, MOST = -1e30, 1e-3, 1e30
"""Log-probabilities lie between the first two, and 0 is exceeded by rounding only; beyond the third nothing is read."""
MOST_MASS = 1.1
"""Probabilities of distinct tokens add up to no more, however they were rounded."""
FEWEST = 2
"""Likely tokens that a yes and a no need."""


class ServerReply(NamedTuple):
    """The first answer of a reply."""

    text: str | None
    """None if it has none."""
    finish: str
    """ "stop", "length" or a server's own word."""
    likely: list[tuple[str, float]]
    """The likely first tokens with their log-probabilities; empty if `lacks` says why."""
    lacks: str | None
    """What of the log-probabilities is missing; None also where there is no token to have any."""


def read_choice(body: object) -> ServerReply | Refused:
    """The first choice of a reply of the chat API, or why there is no answer in it."""
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
    """Whether a reply has an answer at all, be it a refusal."""
    choices = body.get("choices")
    return isinstance(choices, list) and bool(choices) and isinstance(choices[0], dict)


def read_usage(body: object, seconds: float) -> Usage:
    """What a request cost, as far as the server counts."""
    spent = body.get("usage") if isinstance(body, dict) else None
    spent = spent if isinstance(spent, dict) else {}
    details = spent.get("prompt_tokens_details")
    cached = _count(details.get("cached_tokens")) if isinstance(details, dict) else 0
    return Usage(1, _count(spent.get("prompt_tokens")), cached, _count(spent.get("completion_tokens")), seconds)


def read_models(body: object) -> dict[str, str | None] | None:
    """Model -> what it is made from, if the server says; None if the reply is no list of models."""
    cards = body.get("data") if isinstance(body, dict) else body
    if not isinstance(cards, list):
        return None
    named = [card for card in cards if isinstance(card, dict) and isinstance(card.get("id"), str)]
    if cards and not named:
        return None
    return {card["id"]: card["root"] if isinstance(card.get("root"), str) else None for card in named}


def fewer_logprobs(why: str, asked: int) -> int | None:
    """How many likely tokens to ask for after a refusal; 0 if the server gives none, None if that was not the cause."""
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
    """Token, its bytes as text where the server gives them (two tokens may look alike), and its log-probability."""
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
    """A message's text, which may come in parts."""
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
