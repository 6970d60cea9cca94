"""The client of a service, in two kinds: Client waits for its answers, and AsyncClient's are awaited."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Concatenate, ParamSpec, Self, TypeVar

import httpx
from pydantic import BaseModel

from medsae_ray.client import calls
from medsae_ray.client.attempts import Attempts, Outcome, answer_of
from medsae_ray.client.calls import Call

P = ParamSpec("P")
T = TypeVar("T", bound=BaseModel)
TIMEOUT_S = 180.0
"""The seconds that the service has for an answer: more than its engine has."""
PATIENCE_S = 60.0


def _waiting(build: Callable[P, Call[T]]) -> "Callable[Concatenate[Client, P], T]":
    @wraps(build)
    def method(self: "Client", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._send(build(*args, **kwargs))

    return _with_self(method)


def _awaited(build: Callable[P, Call[T]]) -> "Callable[Concatenate[AsyncClient, P], Awaitable[T]]":
    @wraps(build)
    async def method(self: "AsyncClient", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._send(build(*args, **kwargs))

    return _with_self(method)


F = TypeVar("F", bound=Callable[..., object])


def _with_self(method: F) -> F:
    """Let `help` show the arguments of the request, which `wraps` took from a function without self."""
    built = inspect.signature(method)
    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    method.__signature__ = built.replace(parameters=[own, *built.parameters.values()])  # type: ignore[attr-defined]
    return method


class Client:
    """A client of the service at `url`, with the token that it asks for, if any.

    Each method sends one request and returns the answer of its route, as `medsae_ray.service.responses` describes it;
    fields that a newer service adds are there too. It waits and tries again for at most `patience_s` while the service
    is busy or away (429, 503 with Retry-After, no connection). Raises ServiceError with the service's code and words.
    """

    def __init__(
        self, url: str, token: str | None = None, *, patience_s: float = PATIENCE_S, timeout_s: float = TIMEOUT_S
    ) -> None:
        self._http = httpx.Client(base_url=url, headers=_headers(token), timeout=timeout_s)
        self._patience_s = patience_s

    encode = _waiting(calls.encode)
    features = _waiting(calls.features)
    feature = _waiting(calls.feature)
    query = _waiting(calls.query)
    similar = _waiting(calls.similar)
    drift = _waiting(calls.drift)
    name = _waiting(calls.name)
    detect = _waiting(calls.detect)
    judge = _waiting(calls.judge)
    judgements = _waiting(calls.judgements)
    agreement = _waiting(calls.agreement)

    def close(self) -> None:
        """Close the connections; `with` does the same."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _send(self, call: Call[T]) -> T:
        attempts = Attempts(self._patience_s)
        while (wait := attempts.wait_s(outcome := self._once(call))) is not None:
            time.sleep(wait)
        return answer_of(call, outcome)

    def _once(self, call: Call[T]) -> Outcome:
        try:
            return self._http.request(call.method, call.path, **call.arguments())
        except httpx.TransportError as error:
            return error


class AsyncClient:
    """The same as Client, with methods to be awaited."""

    def __init__(
        self, url: str, token: str | None = None, *, patience_s: float = PATIENCE_S, timeout_s: float = TIMEOUT_S
    ) -> None:
        self._http = httpx.AsyncClient(base_url=url, headers=_headers(token), timeout=timeout_s)
        self._patience_s = patience_s

    encode = _awaited(calls.encode)
    features = _awaited(calls.features)
    feature = _awaited(calls.feature)
    query = _awaited(calls.query)
    similar = _awaited(calls.similar)
    drift = _awaited(calls.drift)
    name = _awaited(calls.name)
    detect = _awaited(calls.detect)
    judge = _awaited(calls.judge)
    judgements = _awaited(calls.judgements)
    agreement = _awaited(calls.agreement)

    async def close(self) -> None:
        """Close the connections; `async with` does the same."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _send(self, call: Call[T]) -> T:
        attempts = Attempts(self._patience_s)
        while (wait := attempts.wait_s(outcome := await self._once(call))) is not None:
            await asyncio.sleep(wait)
        return answer_of(call, outcome)

    async def _once(self, call: Call[T]) -> Outcome:
        try:
            return await self._http.request(call.method, call.path, **call.arguments())
        except httpx.TransportError as error:
            return error


def _headers(token: str | None) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"} if token else {}
