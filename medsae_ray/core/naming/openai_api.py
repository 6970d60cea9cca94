"""The engine behind a URL: any server of OpenAI's chat API with images, log-probabilities and JSON schemas."""

import asyncio
import base64
import os
import re
import time
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from difflib import get_close_matches
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from medsae_ray.core.naming.engine import (
    BATCH,
    FAILED,
    Clock,
    Event,
    ImageAnswers,
    Usage,
    Writing,
    Written,
    Wrote,
    YesNo,
    total,
    yes_no,
)
from medsae_ray.core.naming.events import whole_as_events
from medsae_ray.core.naming.prompts import DETECTION, Content
from medsae_ray.core.naming.server_choice import (
    ServerReply,
    fewer_logprobs,
    has_choice,
    read_choice,
    read_models,
    read_usage,
)
from medsae_ray.core.naming.server_reply import Busy, Refused, Stop, Whole, read_json, read_reply, said_by
from medsae_ray.errors import EngineError

TOP_LOGPROBS = 20
"""The most that OpenAI's API returns."""
SHORTEST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0
LONGEST_REPLY = 8 * 2**20
"""The most bytes of a reply, unpacked."""


class OpenAiEngine:
    """An `Engine` at `url` (".../v1"). The key is read from the environment variable `key_variable`, if one is named.

    A request is retried while the server is full or gone, for `patience_s` in all; then EngineError is raised, as it is
    at once if no request can succeed: a wrong key or address, no money left, no log-probabilities. A refused request,
    or one with an invalid answer, is returned as failed. Use it inside one asyncio loop, as `async with`.
    """

    def __init__(
        self,
        url: str,
        model: str,
        key_variable: str | None = None,
        patience_s: float = 300.0,
        timeout_s: float = 300.0,
        connections: int = 64,
    ) -> None:
        self.url, self.model, self.patience_s, self.timeout_s = url.rstrip("/"), model, patience_s, timeout_s
        self.identity = model
        """After `check`: the model and its origin, as far as the server tells; never the address."""
        self.clock = Clock()
        self.top_logprobs = TOP_LOGPROBS
        """The number of log-probabilities to request, lowered to the server's limit."""
        self._gives_logprobs = False
        key = _key(key_variable) if key_variable else None
        self._secret = key.encode() if key and len(key) >= 8 else None
        try:
            self.http = httpx.AsyncClient(
                headers={"Authorization": f"Bearer {key}"} if key else {},
                timeout=httpx.Timeout(timeout_s, pool=None),
                limits=httpx.Limits(max_connections=connections),
            )
        except (ImportError, ValueError, OSError, httpx.InvalidURL) as error:  # from the environment's settings
            raise self._error(
                f"cannot be asked ({said_by(error)}): check the environment variables HTTP_PROXY, HTTPS_PROXY, "
                "ALL_PROXY, NO_PROXY, SSL_CERT_FILE and SSL_CERT_DIR"
            ) from None

    async def __aenter__(self) -> "OpenAiEngine":
        await self.check()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.http.aclose()

    async def check(self) -> None:
        """Find the model among those of the server. Raises EngineError if it is missing."""
        reply = await self._send("GET", "/models")
        models = read_models(reply.body) if isinstance(reply, Whole) else None
        if models is None:
            said = reply.why if isinstance(reply, Refused) else said_by(reply.body)
            raise self._error(f"gives no list of models: {said}")
        if self.model not in models:
            raise self._error(f"has no model {self.model!r}; it has {_some(models, self.model)}")
        root = models[self.model]
        self.identity = f"{self.model}:{root.rstrip('/').rpartition('/')[2]}" if root else self.model

    async def ask(self, image: bytes, questions: list[str], priority: int = BATCH) -> ImageAnswers:
        """Ask questions about an image, the first one alone, so that a prefix cache has the image for the others.

        OpenAI's API knows no priority. Raises EngineError if the server returns no log-probabilities.
        """
        first = [await self._answer([DETECTION, image, text]) for text in questions[:1]]
        rest = await asyncio.gather(*(self._answer([DETECTION, image, text]) for text in questions[1:]))
        answers = first + rest
        return ImageAnswers([answer for answer, _ in answers], total(usage for _, usage in answers))

    async def write(self, writing: Writing, priority: int = BATCH) -> Wrote:
        """Ask for text in JSON that fits `writing.schema`. OpenAI's API knows no priority. Raises EngineError like the
        class."""
        form = {"type": "json_schema", "json_schema": {"name": "answer", "schema": writing.schema, "strict": True}}
        decoding = {key: getattr(writing, key) for key in ("seed", "temperature", "max_tokens")}
        reply, usage = await self._chat(writing.parts, decoding | {"response_format": form})
        if isinstance(reply, Refused):
            return Wrote(Written("", f"error: {reply.why}"), usage)
        if reply.text is None and reply.finish != "length":
            return Wrote(Written("", "error: the server's answer has no text"), usage)
        return Wrote(Written(reply.text or "", reply.finish), usage)

    async def chat(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Send a request of the API, its model replaced: HTTP status and body. Raises EngineError for a wrong key."""
        status, reply, data = await self._reply("POST", "/chat/completions", {**body, "model": self.model})
        if isinstance(reply, Whole) and isinstance(reply.body, dict) and has_choice(reply.body):
            return status, reply.body
        found = read_json(data)
        if status >= 400 and isinstance(found, dict):
            return status, found
        if isinstance(reply, Refused):
            return reply.status or 502, {"error": {"message": reply.why}}
        return 502, {"error": {"message": "the reply has no answer"}}

    async def stream(self, body: dict[str, Any]) -> AsyncGenerator[Event, None]:
        """Send a request as `chat` does; its answer comes in one piece, after the retries that a server may need."""
        for event in whole_as_events(*await self.chat({k: v for k, v in body.items() if k != "stream_options"})):
            yield event

    async def _answer(self, parts: list[Content]) -> tuple[YesNo, Usage]:
        while True:
            asked = self.top_logprobs
            options = {"temperature": 0, "max_tokens": 1, "logprobs": True, "top_logprobs": asked}
            reply, usage = await self._chat(parts, options)
            if isinstance(reply, ServerReply):
                return self._yes_no(reply), usage
            fewer = fewer_logprobs(reply.why, asked) if 400 <= reply.status < 500 else None
            if fewer is None:
                return FAILED._replace(failed=reply.why), usage
            if not fewer:
                raise self._no_logprobs(reply.why)
            self.top_logprobs = min(self.top_logprobs, fewer)

    def _yes_no(self, choice: ServerReply) -> YesNo:
        if choice.likely:
            self._gives_logprobs = True
            return yes_no(choice.likely)
        if choice.lacks and not self._gives_logprobs:
            raise self._no_logprobs(choice.lacks)
        return FAILED._replace(failed=choice.lacks or "the answer is empty")

    async def _chat(self, parts: list[Content], options: dict[str, Any]) -> tuple[ServerReply | Refused, Usage]:
        """Return the first choice, or the reason for its lack."""
        messages = [{"role": "user", "content": [_content(part) for part in parts]}]
        body = {"model": self.model, "messages": messages, **options}
        with self.clock.timed() as seconds:
            reply = await self._send("POST", "/chat/completions", body)
        if isinstance(reply, Refused):
            return reply, Usage(requests=1)
        return read_choice(reply.body), read_usage(reply.body, seconds[0])

    async def _send(self, method: str, path: str, body: dict[str, Any] | None = None) -> Whole | Refused:
        return (await self._reply(method, path, body))[1]

    async def _reply(self, method: str, path: str, body: Any = None) -> tuple[int, Whole | Refused, bytes]:
        """Return status, kind of the reply, and its bytes. Retries while the server is busy or gone."""
        start, pause = time.monotonic(), SHORTEST_PAUSE_S
        while True:
            asked = None
            try:
                response, data = await self._once(method, path, body)
                reply = _read(response, data)
                if isinstance(reply, Whole | Refused):
                    return response.status_code, reply, data
                if isinstance(reply, Stop):
                    raise self._error(f"cannot be used: {reply.why}")
                said, asked = reply.why, retry_after(response.headers.get("Retry-After", ""))
            except (httpx.UnsupportedProtocol, httpx.LocalProtocolError, httpx.InvalidURL, UnicodeError) as error:
                raise self._error(f"cannot be asked ({type(error).__name__}): check how.vlm.url") from None
            except (httpx.RequestError, TimeoutError) as error:
                said = f"{type(error).__name__}: {said_by(error)}"
            waited = time.monotonic() - start
            if waited >= self.patience_s:
                raise self._error(f"does not answer, after {waited:.0f} s of retries ({said})")
            wait = pause if asked is None else max(asked, SHORTEST_PAUSE_S)
            await asyncio.sleep(min(wait, LONGEST_PAUSE_S, self.patience_s - waited))
            pause *= 2

    async def _once(self, method: str, path: str, body: Any) -> tuple[httpx.Response, bytes]:
        data = bytearray()
        async with self.http.stream(method, self.url + path, json=body) as response:
            async with asyncio.timeout(self.timeout_s):  # httpx bounds the time between two chunks only
                async for chunk in response.aiter_bytes():
                    data += chunk
                    if len(data) > LONGEST_REPLY:
                        raise self._error(f"replies with more than {LONGEST_REPLY} bytes: check how.vlm.url")
        # A server may repeat the key in its text, which is shown and kept.
        return response, bytes(data.replace(self._secret, b"***") if self._secret else data)

    def _no_logprobs(self, lacks: str) -> EngineError:
        return self._error(
            f"gives no log-probabilities for {self.model!r} ({lacks}). An answer is P(yes) out of them, so no name can "
            "be tested there: use a server that gives them, as vLLM does, behind a gateway a provider that does, or "
            "leave out how.vlm.url and run the model on this cluster"
        )

    def _error(self, why: str) -> EngineError:
        address = re.sub(r"//[^/]*@", "//", self.url.partition("?")[0])  # without a password or a key
        return EngineError(f"{address} {why}")


def retry_after(header: str) -> float | None:
    """Return the seconds of a Retry-After of RFC 9110, a number or a date; None if it asks for no wait to come."""
    try:
        if header.strip().replace(".", "", 1).isdigit():
            seconds = float(header)
        else:
            when = parsedate_to_datetime(header)
            seconds = (when.replace(tzinfo=when.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return seconds if 0 < seconds < float("inf") else None


def _read(response: httpx.Response, data: bytes) -> Whole | Refused | Busy | Stop:
    return read_reply(response.status_code, data, response.charset_encoding, response.headers.get("Location", ""))


def _some(models: dict[str, str | None], wanted: str) -> str:
    """List names of the server's models, the nearest first."""
    near = get_close_matches(wanted, models, n=5)
    names = [*near, *(name for name in sorted(models) if name not in near)]
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return f"{[said_by(name)[:80] for name in names[:10]]}{more}"


def _content(part: Content) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    kind = "jpeg" if part.startswith(b"\xff\xd8") else "png"
    data = base64.b64encode(part).decode()
    return {"type": "image_url", "image_url": {"url": f"data:image/{kind};base64,{data}"}}


def _key(variable: str) -> str:
    key = os.environ.get(variable, "").strip()
    if not key:
        raise EngineError(f"the environment variable {variable}, which should hold the key of the engine, is not set")
    if not key.isascii() or not key.isprintable():
        raise EngineError(f"the key in the environment variable {variable} has characters that no HTTP header carries")
    return key
