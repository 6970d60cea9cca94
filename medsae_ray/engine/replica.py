"""One replica of the engine: the server of Ray Serve LLM around vLLM, asked by image instead of by question.

Ray Serve LLM and vLLM take many seconds to import, and need not be installed where a run is started; so they are
imported when a replica starts, and never by the driver.
"""

import asyncio
import contextlib
import hashlib
import io
import logging
import uuid
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

from PIL import Image

from medsae_ray.core.naming.engine import (
    BATCH,
    FAILED,
    Clock,
    EngineSettings,
    Event,
    ImageAnswers,
    Usage,
    Writing,
    Written,
    Wrote,
    YesNo,
    model_identity,
    spelling,
    total,
    yes_no,
)
from medsae_ray.core.naming.prompts import DETECTION, question
from medsae_ray.core.naming.server_reply import said_by
from medsae_ray.engine.vllm_options import Apart, Log, report, start_server
from medsae_ray.errors import EngineError

logger = logging.getLogger("ray.serve")

_TOO_LONG = "maximum context length"
"""What vLLM says of a prompt that does not leave room for the tokens that were asked for (vllm/renderers/params.py)."""


class Picture:
    """A decoded image, and the name under which vLLM caches its results for it."""

    def __init__(self, data: bytes) -> None:
        self.name = hashlib.sha256(data).hexdigest()
        with Image.open(io.BytesIO(data)) as image:
            self.image = image.convert("RGB")


def about(settings: EngineSettings, identity: str) -> dict[str, Any]:
    """Return the properties that decide the engine's answers, for comparison with a holder's requirements."""
    return {
        "same": {"model": identity, "dtype": settings.dtype},
        "at_least": {"max_model_len": settings.max_model_len, "images in a prompt": settings.max_images},
    }


class VlmServer:
    """The deployment. `llm` is Ray Serve LLM's own server, whose engine client answers here without its HTTP layer."""

    async def __init__(self, settings: EngineSettings, identity: str) -> None:  # type: ignore[misc]
        self._about = about(settings, identity)
        report("checking the model")
        if Path(settings.model).is_dir():
            # A replica that restarts in the middle of a run must not answer with another model under the same name.
            found = await asyncio.to_thread(model_identity, settings.model)
            if found != identity:
                raise EngineError(f"the files in {settings.model} changed: the run uses {identity}, there is {found}")
        report("importing vLLM")
        log = Log()
        try:
            self.llm, self.vllm = await start_server(settings, identity)
        except Exception as error:
            raise EngineError(f"{type(error).__name__}: {error}\n{log.causes()}") from error
        tokens: dict[str, int] = self.vllm.get_tokenizer().get_vocab()
        self.words = {token_id: word for token, token_id in tokens.items() if (word := spelling(token))}
        if missing := {"yes", "no"} - set(self.words.values()):
            raise EngineError(f"{settings.model}: its tokenizer has no token for {' and '.join(sorted(missing))}")
        self.apart, self.clock = Apart(), Clock()
        report("warming up")
        await self.ask(_gray_image(), [question("anything")])
        report("ready")

    async def about(self) -> dict[str, Any]:
        """Return the model, settings and versions of the replica."""
        return self._about

    async def ask(self, image: bytes, questions: list[str], priority: int = BATCH, reuse: bool = True) -> ImageAnswers:
        """Answer as `Engine.ask`; without `reuse` the prefix cache is not read, which tests and measurements need."""
        try:
            picture = await asyncio.to_thread(Picture, image)
        except Exception as error:
            logger.warning("an image cannot be decoded: %s", type(error).__name__)
            return ImageAnswers([FAILED._replace(failed="the image cannot be decoded")] * len(questions), Usage())
        params = self._detection_params(reuse)
        async with self.apart.common():
            first = [await self._answer(picture, text, params, priority) for text in questions[:1]]
            # Before the first questions of other images: the prefix is in the cache now, and would be pushed out.
            others = (self._answer(picture, text, params, priority - 1) for text in questions[1:])
            answers = first + await asyncio.gather(*others)
        return ImageAnswers([answer for answer, _ in answers], total(usage for _, usage in answers))

    async def write(self, writing: Writing, priority: int = BATCH) -> Wrote:
        """Answer as `Engine.write`."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

        params = SamplingParams(
            max_tokens=writing.max_tokens,
            temperature=writing.temperature,
            seed=writing.seed,
            structured_outputs=StructuredOutputsParams(json=writing.schema),
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        try:
            content = [_content(part if isinstance(part, str) else Picture(part)) for part in writing.parts]
            output, usage = await self._generate(content, params, priority)
        except Exception as error:
            return Wrote(Written("", f"error: {_refusal(error)}"), Usage(requests=1))
        answer = output.outputs[0]
        return Wrote(Written(answer.text, answer.finish_reason or "stop"), usage)

    async def chat(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Answer a request of OpenAI's chat API like Ray Serve LLM, without streaming: HTTP status and body.

        An exception of vLLM over a request is the request's fault as long as the engine lives.
        """
        try:
            status, reply = await self._chat({**body, "stream": False})
            if status == 400 and _TOO_LONG in str(reply):
                # The prompt leaves fewer tokens than were asked for. Without a number vLLM takes what is left.
                status, reply = await self._chat({**body, "stream": False, "max_tokens": None})
            return status, reply
        except Exception as error:
            refusal = _refusal(error)
            await self.check_health()  # a dying engine raises various errors; this one names the cause
            return 400, {"error": {"message": refusal, "code": 400}}

    async def stream(self, body: dict[str, Any]) -> AsyncGenerator[Event, None]:
        """Answer a request of OpenAI's chat API piece by piece."""
        for tokens in ({}, {"max_tokens": None}):
            async for event in self._events({**body, **tokens}):
                if not tokens and isinstance(event, tuple) and _TOO_LONG in str(event):
                    break  # as in `chat`
                yield event
            else:
                return

    async def _events(self, body: dict[str, Any]) -> AsyncGenerator[Event, None]:
        try:
            async with contextlib.aclosing(self._replies({**body, "stream": True})) as replies:
                async for pieces in replies:
                    for piece in pieces:
                        error = getattr(piece, "error", None)
                        yield (error.code, piece.model_dump()) if error else piece
        except Exception as error:
            refusal = _refusal(error)
            await self.check_health()
            yield 400, {"error": {"message": refusal, "code": 400}}

    async def _chat(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        async with contextlib.aclosing(self._replies(body)) as replies:
            async for reply in replies:
                error = getattr(reply, "error", None)
                return (error.code if error else 200), reply.model_dump()
        raise RuntimeError("the engine gave no reply")

    async def _replies(self, body: dict[str, Any]) -> AsyncGenerator[Any, None]:
        """Yield Ray Serve LLM's replies: one, or lists of server-sent events and errors."""
        from ray.serve.llm.openai_api_models import ChatCompletionRequest

        request = ChatCompletionRequest.model_validate(body)
        async with self.apart.rare() if request.logprobs else contextlib.nullcontext():
            async for reply in await self.llm.chat(request):
                yield reply if not request.stream or isinstance(reply, list) else [reply]

    async def check_health(self) -> None:
        """Raise if vLLM's engine has died; Ray Serve then replaces the replica."""
        await self.llm.check_health()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self.vllm.shutdown()

    def _detection_params(self, reuse: bool) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        return SamplingParams(
            max_tokens=1,
            temperature=0.0,
            logprob_token_ids=list(self.words),
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
            skip_reading_prefix_cache=not reuse,
        )

    async def _answer(self, picture: "Picture", text: str, params: Any, priority: int) -> tuple[YesNo, Usage]:
        try:
            content = [_content(part) for part in (DETECTION, picture, text)]
            output, usage = await self._generate(content, params, priority)
        except Exception as error:
            refusal = _refusal(error)
            logger.warning("a question failed: %s", type(error).__name__)
            return FAILED._replace(failed=refusal), Usage(requests=1)
        logprobs = output.outputs[0].logprobs[0]
        return yes_no((word, logprobs[token].logprob) for token, word in self.words.items() if token in logprobs), usage

    async def _generate(self, content: list[dict[str, Any]], params: Any, priority: int) -> tuple[Any, Usage]:
        from vllm.renderers import ChatParams

        template = ChatParams(chat_template_kwargs={"add_generation_prompt": True})
        messages: Any = [{"role": "user", "content": content}]
        with self.clock.timed() as seconds:
            _, (prompt,) = await self.vllm.renderer.render_chat_async([messages], template)
            outputs = self.vllm.generate(prompt, params, uuid.uuid4().hex, priority=priority)
            output = [part async for part in outputs][-1]
        written = len(output.outputs[0].token_ids)
        return output, Usage(1, len(output.prompt_token_ids), output.num_cached_tokens or 0, written, seconds[0])


def _content(part: "str | Picture") -> dict[str, Any]:
    """Return a part of a message in vLLM's form of OpenAI's chat API."""
    if isinstance(part, str):
        return {"type": "text", "text": part}
    return {"type": "image_pil", "image_pil": part.image, "uuid": part.name}


def _refusal(error: Exception) -> str:
    """Describe the fault of a request. The death of the engine is not one: it is raised to the caller, who retries
    later."""
    from vllm.v1.engine.exceptions import EngineDeadError

    if isinstance(error, EngineDeadError):
        raise error
    return said_by(f"{type(error).__name__}: {error.__cause__ or error}")


def _gray_image() -> bytes:
    stream = io.BytesIO()
    Image.new("L", (64, 64), 128).save(stream, "PNG")
    return stream.getvalue()
