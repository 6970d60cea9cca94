"""The form of a request of OpenAI's chat API.

Clients send many fields by habit: null, defaults, and a reply's message as it came. Those are accepted if they change
nothing. Any other field that would change the answer is refused by name.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

Zero = Annotated[float, Field(ge=0, le=0)]
One = Annotated[float, Field(ge=1, le=1)]
Empty = Annotated[list[Any], Field(max_length=0)]
Nothing = Annotated[dict[str, Any], Field(max_length=0)]
Label = Annotated[str, Field(max_length=300)]


class _Strict(BaseModel):
    """The base of the request's parts: unknown fields are refused by name, and null counts as absent."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _without_null(cls, data: Any) -> Any:
        return {key: value for key, value in data.items() if value is not None} if isinstance(data, dict) else data


class TextPart(_Strict):
    """A piece of text in a message."""

    type: Literal["text"]
    text: str


class ImageUrl(_Strict):
    """An image inside the request."""

    url: str
    """The image as data:image/png;base64,... or data:image/jpeg;base64,...; nothing is fetched."""
    detail: Literal["auto", "low", "high"] = "auto"
    """Accepted for compatibility and ignored: images are always sent at the run's size."""


class ImagePart(_Strict):
    """An image in a message."""

    type: Literal["image_url"]
    image_url: ImageUrl


ContentPart = Annotated[TextPart | ImagePart, Field(discriminator="type")]


def _system(role: Any) -> Any:
    """Replace OpenAI's newer word "developer" by "system"."""
    return "system" if role == "developer" else role


class Message(_Strict):
    """A message, perhaps one from a reply, which clients send back as it came."""

    role: Annotated[
        Literal["system", "user", "assistant"],
        BeforeValidator(_system, json_schema_input_type=Literal["system", "developer", "user", "assistant"]),
    ]
    content: str | Annotated[list[ContentPart], Field(min_length=1, max_length=64)]
    name: Annotated[Label | None, Field(exclude=True)] = None
    """A field not passed on; the models here know no names of speakers."""
    refusal: Annotated[Literal[""] | None, Field(exclude=True)] = None
    annotations: Annotated[Empty | None, Field(exclude=True)] = None
    audio: Annotated[None, Field(exclude=True)] = None
    function_call: Annotated[None, Field(exclude=True)] = None
    tool_calls: Annotated[Empty | None, Field(exclude=True)] = None
    reasoning: Annotated[str | None, Field(exclude=True)] = None
    """A field not passed on, as chat templates leave out the reasoning of former turns."""
    reasoning_content: Annotated[str | None, Field(exclude=True)] = None

    @model_validator(mode="before")
    @classmethod
    def _empty_answer(cls, data: Any) -> Any:
        """Accept a reply without text: its content is null or missing, and gateways add empty fields."""
        if not isinstance(data, dict) or data.get("role") != "assistant":
            return data
        said = {key: value for key, value in data.items() if key == "content" or value not in ([], {})}
        return said | {"content": ""} if said.get("content") is None else said


class JsonSchema(_Strict):
    """The schema that an answer has to fit."""

    name: Annotated[str, Field(max_length=64)]
    schema_: Annotated[dict[str, Any], Field(alias="schema")]
    strict: bool | None = None
    description: Annotated[Label | None, Field(exclude=True)] = None
    """A field not passed on."""


class ResponseFormat(_Strict):
    """The form of the answer."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class StreamOptions(_Strict):
    """What comes with the pieces of an answer."""

    include_usage: bool | None = None
    """True: one more piece, before the end, has the tokens that were used."""
    include_obfuscation: Literal[False] | None = None


class ChatRequest(_Strict):
    """The supported part of OpenAI's chat API. `model` is one of `/v1/models`."""

    model: Label
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
    """True: the answer comes piece by piece, as server-sent events."""
    stream_options: StreamOptions | None = None
    # None of what follows is passed on: it may only have the value that changes nothing.
    user: Label | None = None
    safety_identifier: Label | None = None
    prompt_cache_key: Label | None = None
    metadata: Annotated[dict[str, Annotated[str, Field(max_length=512)]], Field(max_length=16)] | None = None
    store: Literal[False] | None = None
    frequency_penalty: Zero | None = None
    presence_penalty: Zero | None = None
    repetition_penalty: One | None = None
    length_penalty: One | None = None
    best_of: Literal[1] | None = None
    min_tokens: Literal[0] | None = None
    use_beam_search: Literal[False] | None = None
    ignore_eos: Literal[False] | None = None
    echo: Literal[False] | None = None
    skip_special_tokens: Literal[True] | None = None
    min_p: Zero | None = None
    top_k: Literal[-1, 0] | None = None
    logit_bias: Nothing | None = None
    tools: Empty | None = None
    tool_choice: Literal["none", "auto"] | None = None
    parallel_tool_calls: bool | None = None
    functions: Empty | None = None
    function_call: Literal["none", "auto"] | None = None
    modalities: Annotated[list[Literal["text"]], Field(max_length=1)] | None = None
    service_tier: Literal["auto", "default"] | None = None
