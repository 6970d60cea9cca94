"""An answer of OpenAI's chat API in pieces, as server-sent events."""

import json
from collections.abc import Iterator
from typing import Any

from medsae_ray.core.naming.engine import Event

DONE = "data: [DONE]\n\n"


def event(data: dict[str, Any]) -> str:
    """Return a piece as the text that is sent."""
    return f"data: {json.dumps(data)}\n\n"


def data_of(event: str) -> dict[str, Any]:
    """Return the JSON object in an event's text; {} if it holds none."""
    try:
        found = json.loads(event.strip().removeprefix("data:"))
    except ValueError:  # the end, [DONE]
        return {}
    return found if isinstance(found, dict) else {}


def whole_as_events(status: int, reply: dict[str, Any]) -> Iterator[Event]:
    """Yield the events of an answer that came whole: one piece, what it cost, and the end. A refusal stays one."""
    if status != 200:
        yield status, reply
        return
    head = {key: reply.get(key) for key in ("id", "created", "model")} | {"object": "chat.completion.chunk"}
    choices = [
        {key: choice.get(key) for key in ("index", "finish_reason", "logprobs")} | {"delta": choice.get("message")}
        for choice in reply.get("choices", [])
    ]
    yield event(head | {"choices": choices})
    yield event(head | {"choices": [], "usage": reply.get("usage")})
    yield DONE
