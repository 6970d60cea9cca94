"""The engine behind a URL: anything that speaks OpenAI's chat API with images, log-probabilities and JSON schemas."""

import asyncio
import base64
import os
import time
from typing import Any

import httpx

from medsae_ray.core.naming.engine import (
    BATCH,
    FAILED,
    Asked,
    Clock,
    Usage,
    Writing,
    Written,
    Wrote,
    YesNo,
    total,
    yes_no,
)
from medsae_ray.core.naming.prompts import DETECTION, Part
from medsae_ray.errors import EngineError

TOP_LOGPROBS = 20
"""The most that OpenAI's API gives."""
COME_BACK = (408, 425, 429, 500, 502, 503, 504)
"""Statuses after which the same request may succeed."""
REFUSED = {
    401: "the key is missing or wrong: set the environment variable that the recipe names",
    403: "the key may not use this model",
    404: "no such model or address",
}
LONGEST_PAUSE_S = 30.0


class OpenAiEngine:
    """An `Engine` at `url` (".../v1"). The key is read from the environment variable `key_variable`, if one is named.

    Repeats a request while the server is full or gone, for `patience_s` in all; then raises EngineError. A request
    that the server refuses comes back as failed. Use it inside one asyncio loop, as `async with`.
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
        self.url, self.model, self.patience_s = url.rstrip("/"), model, patience_s
        self.identity = model
        """After `connect`: the model and what it is made from, as far as the server says; never the address."""
        self.clock = Clock()
        self.http = httpx.AsyncClient(
            headers={"Authorization": f"Bearer {_key(key_variable)}"} if key_variable else {},
            timeout=httpx.Timeout(timeout_s, pool=None),
            limits=httpx.Limits(max_connections=connections),
        )

    async def __aenter__(self) -> "OpenAiEngine":
        await self.connect()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.http.aclose()

    async def connect(self) -> None:
        """Find the model among those that the server has. Raises EngineError if it is not there."""
        response = await self._send("GET", "/models")
        _check(response, self.url)
        cards = {card["id"]: card for card in response.json().get("data", [])}
        if self.model not in cards:
            raise EngineError(f"{self.url} has no model {self.model!r}; it has {sorted(cards)}")
        root = cards[self.model].get("root")
        self.identity = f"{self.model}:{root.rstrip('/').rpartition('/')[2]}" if root else self.model

    async def ask(self, image: bytes, questions: list[str], priority: int = BATCH) -> Asked:
        """The first question goes alone, so that a server with a prefix cache has the image when the others come.

        OpenAI's API knows no priority.
        """
        first = [await self._answer([DETECTION, image, text]) for text in questions[:1]]
        rest = await asyncio.gather(*(self._answer([DETECTION, image, text]) for text in questions[1:]))
        answers = first + rest
        return Asked([answer for answer, _ in answers], total(usage for _, usage in answers))

    async def write(self, writing: Writing, priority: int = BATCH) -> Wrote:
        form = {"type": "json_schema", "json_schema": {"name": "answer", "schema": writing.schema, "strict": True}}
        decoding = {key: getattr(writing, key) for key in ("seed", "temperature", "max_tokens")}
        reply, usage = await self._chat(writing.parts, decoding | {"response_format": form})
        if isinstance(reply, str):
            return Wrote(Written("", f"error: {reply}"), usage)
        return Wrote(Written(reply["message"].get("content") or "", reply.get("finish_reason") or "stop"), usage)

    async def chat(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """A request of the API, as it is but for the model: HTTP status and body. EngineError for a wrong key."""
        response = await self._send("POST", "/chat/completions", {**body, "model": self.model})
        if response.status_code in REFUSED:
            _check(response, self.url)
        return response.status_code, response.json()

    async def _answer(self, parts: list[Part]) -> tuple[YesNo, Usage]:
        options = {"temperature": 0, "max_tokens": 1, "logprobs": True, "top_logprobs": TOP_LOGPROBS}
        reply, usage = await self._chat(parts, options)
        if isinstance(reply, str) or not (reply.get("logprobs") or {}).get("content"):
            return FAILED, usage
        likely = reply["logprobs"]["content"][0]["top_logprobs"]
        return yes_no((token["token"], token["logprob"]) for token in likely), usage

    async def _chat(self, parts: list[Part], options: dict[str, Any]) -> tuple[dict[str, Any] | str, Usage]:
        """The first choice, or the reason why the server refuses."""
        messages = [{"role": "user", "content": [_content(part) for part in parts]}]
        body = {"model": self.model, "messages": messages, **options}
        with self.clock.timed() as seconds:
            response = await self._send("POST", "/chat/completions", body)
        if response.status_code in REFUSED:
            _check(response, self.url)
        if response.status_code != 200:
            return f"HTTP {response.status_code}: {response.text[:300]}", Usage(requests=1)
        reply = response.json()
        spent = reply.get("usage") or {}
        cached = (spent.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
        usage = Usage(1, spent.get("prompt_tokens", 0), cached, spent.get("completion_tokens", 0), seconds[0])
        return reply["choices"][0], usage

    async def _send(self, method: str, path: str, body: dict[str, Any] | None = None) -> httpx.Response:
        start, pause = time.monotonic(), 0.5
        while True:
            try:
                response = await self.http.request(method, self.url + path, json=body)
                if response.status_code not in COME_BACK:
                    return response
                said, asked = f"HTTP {response.status_code}: {response.text[:300]}", _retry_after(response)
            except httpx.TransportError as error:
                said, asked = f"{type(error).__name__}: {error}", None
            waited = time.monotonic() - start
            if waited > self.patience_s:
                raise EngineError(f"{self.url} does not answer, after {waited:.0f} s of asking again ({said})")
            await asyncio.sleep(min(asked or pause, LONGEST_PAUSE_S))
            pause *= 2


def _content(part: Part) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    kind = "jpeg" if part.startswith(b"\xff\xd8") else "png"
    data = base64.b64encode(part).decode()
    return {"type": "image_url", "image_url": {"url": f"data:image/{kind};base64,{data}"}}


def _key(variable: str) -> str:
    key = os.environ.get(variable)
    if not key:
        raise EngineError(f"the environment variable {variable}, which should hold the key of the engine, is not set")
    return key


def _check(response: httpx.Response, url: str) -> None:
    if response.status_code != 200:
        why = REFUSED.get(response.status_code, "unexpected answer")
        raise EngineError(f"{url}: {why} (HTTP {response.status_code}: {response.text[:300]})")


def _retry_after(response: httpx.Response) -> float | None:
    try:
        return float(response.headers.get("Retry-After", ""))
    except ValueError:
        return None
