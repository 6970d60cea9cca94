"""OpenAI's chat API on the run's engine: which requests are passed on, and what becomes of their images.

Only what is named here reaches the engine. Images come inside the request; each is decoded within the service's bounds
and sent on as the batch run would send it, small and grey.
"""

import base64
import binascii
import re
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

from medsae_ray.config import Naming
from medsae_ray.service.limits import Limits
from medsae_ray.service.problems import Problem

DATA = ("data:image/png;base64,", "data:image/jpeg;base64,")
_CONTROL = re.compile(r"</?\|?\w+\|?>")
"""What a chat template or tokenizer takes for more than text: <end_of_turn>, <|im_start|>, </s>."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class TextPart(_Strict):
    type: Literal["text"]
    text: str


class ImageUrl(_Strict):
    url: str
    """data:image/png;base64,... or data:image/jpeg;base64,...; nothing is fetched."""
    detail: Literal["auto", "low", "high"] = "auto"
    """Taken for OpenAI's sake; every image has the size that the run uses."""


class ImagePart(_Strict):
    type: Literal["image_url"]
    image_url: ImageUrl


Part = Annotated[TextPart | ImagePart, Field(discriminator="type")]


class Message(_Strict):
    role: Literal["system", "user", "assistant"]
    content: str | Annotated[list[Part], Field(min_length=1, max_length=64)]


class JsonSchema(_Strict):
    name: Annotated[str, Field(max_length=64)]
    schema_: Annotated[dict[str, Any], Field(alias="schema")]
    strict: bool | None = None


class ResponseFormat(_Strict):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class ChatRequest(_Strict):
    """What of OpenAI's chat API is taken. `model` is one of `/v1/models`."""

    model: Annotated[str, Field(max_length=300)]
    messages: Annotated[list[Message], Field(min_length=1, max_length=64)]
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    stop: Annotated[str, Field(max_length=100)] | Annotated[list[str], Field(max_length=4)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    response_format: ResponseFormat | None = None
    n: Literal[1] = 1
    stream: bool | None = None
    """False: an answer comes whole."""
    user: Annotated[str, Field(max_length=300)] | None = None
    """Not passed on."""


class Engine(Protocol):
    """What `Link` offers."""

    identity: str

    async def chat(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]: ...


Draw = Callable[[bytes, str], bytes]
"""An uploaded image and where it stands in the request -> the picture for the engine. Raises Problem."""


def check(request: ChatRequest, models: tuple[str, ...], naming: Naming, limits: Limits) -> None:
    """Problem for what is not answered here, before any image is decoded."""
    if request.stream:
        raise Problem(400, "no_streaming", "answers are not streamed: leave out stream, or send false", "body.stream")
    if request.model not in models:
        raise Problem(404, "no_such_model", f"the model is {models[0]}", "body.model")
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
    form = request.response_format
    if form and (form.type == "json_schema") != (form.json_schema is not None):
        raise Problem(422, "invalid", "json_schema comes with the type json_schema only", "body.response_format")
    if form and len(form.model_dump_json()) > limits.chat_text:
        raise Problem(422, "invalid", f"a schema may have {limits.chat_text} characters", "body.response_format")


def draw_images(request: ChatRequest, draw: Draw) -> None:
    """Put the engine's own picture in the place of every image."""
    for where, image in _images(request):
        if not image.url.startswith(DATA):
            raise Problem(422, "not_a_data_url", f"an image is sent as {' or '.join(DATA)}...", where)
        try:
            data = base64.b64decode(image.url.partition(",")[2], validate=True)
        except (binascii.Error, ValueError):
            raise Problem(422, "not_base64", "what follows base64, is not base64", where) from None
        image.url = DATA[0] + base64.b64encode(draw(data, where)).decode()


async def answer(engine: Engine, request: ChatRequest, limits: Limits) -> dict[str, Any]:
    """The engine's reply, in OpenAI's form. Problem if it refuses."""
    body = request.model_dump(
        exclude_none=True, by_alias=True, exclude={"stream", "user", "model", "max_tokens", "max_completion_tokens"}
    )
    tokens = request.max_completion_tokens or request.max_tokens or limits.tokens // 4
    status, reply = await engine.chat(body | {"model": engine.identity, "max_tokens": tokens})
    if status == 200:
        return reply
    if status >= 500:
        raise Problem(503, "engine_failed", "the engine could not answer this request", retry_s=limits.retry_s)
    said = reply.get("error") or {}
    raise Problem(400, "engine_refused", str(said.get("message") or reply)[:300], "body")


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
