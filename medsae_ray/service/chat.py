"""OpenAI's chat API on the run's engine: the accepted requests, and the treatment of their images.

Only the fields named here reach the engine. Images come inside the request; each is decoded within the service's bounds
and sent on as the batch run would send it, small and grey.
"""

import base64
import contextlib
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from typing import Any

from pydantic import BaseModel

from medsae_ray.config import Naming
from medsae_ray.core.naming.engine import Engine, Event
from medsae_ray.core.naming.events import DONE, data_of, event
from medsae_ray.core.naming.server_choice import read_usage
from medsae_ray.core.naming.server_reply import said_by
from medsae_ray.service.chat_request import ChatRequest, ImagePart, ImageUrl, ResponseFormat, TextPart
from medsae_ray.service.data_urls import DATA, image_of
from medsae_ray.service.engine import Link
from medsae_ray.service.errors import Problem
from medsae_ray.service.limits import RequestLimits
from medsae_ray.service.schema_bounds import check_schema

PASSED = {"messages", "temperature", "top_p", "seed", "stop", "logprobs", "top_logprobs", "response_format", "n"}
"""The fields of a request that reach the engine; it ignores the others or gets them in another form."""
DEEPEST = 36
"""The most levels of JSON in a request, of which a schema may have 32."""
_CONTROL = re.compile(r"</?\|?\w+\|?>")
"""The texts that a chat template or tokenizer may take for control tokens: <end_of_turn>, <|im_start|>, </s>."""


Draw = Callable[[bytes, str], bytes]
"""A function (uploaded image, its place in the request) -> the picture for the engine. Raises Problem."""


def check(request: ChatRequest, models: tuple[str, ...], naming: Naming, limits: RequestLimits) -> None:
    """Raise Problem for an unsupported request, before any image is decoded."""
    if request.stream_options and not request.stream:
        raise Problem(422, "invalid", "stream_options come with stream: true only", "body.stream_options")
    if request.model not in models:
        raise Problem(404, "no_such_model", f"the model is {models[0]}", "body.model")
    where = not_unicode(request)
    if where is not None:
        raise Problem(422, "invalid", "text with half a surrogate pair is not Unicode", where)
    texts = [(where, text) for where, text in _texts(request)]
    if sum(len(text) for _, text in texts) > limits.chat_text:
        raise Problem(422, "invalid", f"the texts may have {limits.chat_text} characters in all", "body.messages")
    for where, text in texts:
        if _CONTROL.search(text):
            raise Problem(422, "invalid", "control tokens such as <end_of_turn> are not allowed", where)
    images, most = len(list(_images(request))), naming.positives + naming.contrasts
    if images > most:
        raise Problem(422, "invalid", f"{images} images were sent, at most {most} are taken", "body.messages")
    if (request.max_completion_tokens or request.max_tokens or 1) > limits.tokens:
        raise Problem(422, "invalid", f"an answer may have at most {limits.tokens} tokens", "body.max_tokens")
    _check_form(request.response_format, limits)


def _check_form(form: ResponseFormat | None, limits: RequestLimits) -> None:
    if form and (form.type == "json_schema") != (form.json_schema is not None):
        raise Problem(422, "invalid", "json_schema comes with the type json_schema only", "body.response_format")
    if form and len(form.model_dump_json()) > limits.chat_text:
        raise Problem(422, "invalid", f"a schema may have {limits.chat_text} characters", "body.response_format")
    if form and form.json_schema:
        check_schema(form.json_schema.schema_, "body.response_format.json_schema.schema")


def draw_images(request: ChatRequest, draw: Draw) -> None:
    """Replace every image by the engine's own picture."""
    for where, image in _images(request):
        image.url = DATA + base64.b64encode(draw(image_of(image.url, where), where)).decode()


async def answer(engine: Engine, request: ChatRequest, limits: RequestLimits) -> dict[str, Any]:
    """Return the engine's reply, in OpenAI's form. Problem if it refuses."""
    status, reply = await engine.chat(_body(engine, request, limits))
    if status != 200:
        raise _refused(status, reply, limits)
    return reply


async def stream(engine: Link, request: ChatRequest, limits: RequestLimits) -> AsyncIterator[str]:
    """Return the engine's reply as OpenAI's server-sent events. Problem if it refuses; a failure in the middle is the
    last event."""
    events = engine.stream(_body(engine, request, limits) | {"stream_options": {"include_usage": True}})
    first = await anext(events, None)
    if isinstance(first, tuple):
        await events.aclose()
        raise _refused(*first, limits)
    options = request.stream_options
    return _pieces(engine, first or DONE, events, bool(options and options.include_usage), limits)


async def _pieces(
    engine: Link, first: str, events: AsyncGenerator[Event, None], costs: bool, limits: RequestLimits
) -> AsyncIterator[str]:
    """Yield events; the one with the cost is counted, and passed on if `costs`."""
    async with contextlib.aclosing(events):
        try:
            piece: Event | None = first
            while piece is not None:
                if isinstance(piece, tuple):
                    raise _refused(*piece, limits)
                usage = '"usage"' in piece and data_of(piece)
                if usage and not usage.get("choices"):
                    engine.metrics.spent(read_usage(usage, 0.0))
                    piece = piece if costs else ""
                if piece:
                    yield piece
                piece = await anext(events, None)
        except Problem as problem:
            yield event({"error": problem.body()})


def _body(engine: Engine, request: ChatRequest, limits: RequestLimits) -> dict[str, Any]:
    body = request.model_dump(exclude_none=True, by_alias=True, include=PASSED)
    tokens = request.max_completion_tokens or request.max_tokens or limits.tokens // 4
    return body | {"model": engine.identity, "max_tokens": tokens}


def _refused(status: int, reply: dict[str, Any], limits: RequestLimits) -> Problem:
    if status >= 500:
        return Problem(503, "engine_failed", "the engine could not answer this request", retry_s=limits.retry_s)
    said = reply.get("error")
    words = said.get("message") if isinstance(said, dict) else said
    return Problem(400, "engine_refused", said_by(words or reply), "body")


def not_unicode(value: Any, where: str = "body", depth: int = DEEPEST) -> str | None:
    """Where in a request a text stands that UTF-8 cannot carry, as "\\ud800" in JSON is; None if there is none."""
    if isinstance(value, BaseModel):
        value = {name.rstrip("_"): part for name, part in value}
    if isinstance(value, str):
        return None if encodable(value) else where
    if isinstance(value, dict):
        if not all(encodable(key) for key in value):
            return where
        parts = [(f"{where}.{key}", part) for key, part in value.items()]
    else:
        parts = [(f"{where}[{i}]", part) for i, part in enumerate(value)] if isinstance(value, list) else []
    if parts and not depth:
        raise Problem(422, "invalid", f"the request is nested more than {DEEPEST} levels deep", "body")
    return next((found for place, part in parts if (found := not_unicode(part, place, depth - 1))), None)


def encodable(text: str) -> bool:
    """Return True if UTF-8 can encode a text."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _texts(request: ChatRequest) -> Iterator[tuple[str, str]]:
    for i, message in enumerate(request.messages):
        if isinstance(message.content, str):
            yield f"body.messages[{i}].content", message.content
            continue
        for j, part in enumerate(message.content):
            if isinstance(part, TextPart):
                yield f"body.messages[{i}].content[{j}].text", part.text


def _images(request: ChatRequest) -> Iterator[tuple[str, ImageUrl]]:
    for i, message in enumerate(request.messages):
        for j, part in enumerate(message.content if isinstance(message.content, list) else []):
            if isinstance(part, ImagePart):
                yield f"body.messages[{i}].content[{j}].image_url.url", part.image_url
