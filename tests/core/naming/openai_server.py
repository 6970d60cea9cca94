"""A server of OpenAI's API that answers as a test says, and the client that asks it."""

import asyncio
import math
from collections.abc import Callable
from typing import Any

import httpx

from medsae_ray.core.naming.engine import ImageAnswers
from medsae_ray.core.naming.openai_api import OpenAiEngine

IMAGE = b"\x89PNG picture"


def engine(serve: Callable[[httpx.Request], httpx.Response], **options: Any) -> OpenAiEngine:
    made = OpenAiEngine("http://server/v1/", "tiny", **options)
    made.http = httpx.AsyncClient(transport=httpx.MockTransport(serve), headers=made.http.headers)
    return made


def answer(request: httpx.Request, p_yes: float = 0.75) -> httpx.Response:
    """As a server that is sure: 80 % of the mass on yes and no."""
    likely = {"Yes": 0.8 * p_yes, " no": 0.8 * (1 - p_yes), "well": 0.2}
    content = [{"top_logprobs": [{"token": token, "logprob": math.log(p)} for token, p in likely.items()]}]
    usage = {"prompt_tokens": 90, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 64}}
    choice = {"message": {"content": '{"a": 1}'}, "finish_reason": "stop", "logprobs": {"content": content}}
    return httpx.Response(200, json={"choices": [choice], "usage": usage})


def ask(made: OpenAiEngine, questions: int = 3) -> ImageAnswers:
    return asyncio.run(made.ask(IMAGE, [f"question {i}?" for i in range(questions)]))
