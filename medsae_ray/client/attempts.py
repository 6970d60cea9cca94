"""What came of a request: an answer, an error with the service's own words, or another attempt later."""

import random
import time
from email.utils import parsedate_to_datetime
from typing import TypeAlias, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from medsae_ray.client.calls import Call
from medsae_ray.errors import ServiceError

T = TypeVar("T", bound=BaseModel)
Outcome: TypeAlias = httpx.Response | httpx.TransportError
FIRST_S, LONGEST_S = 0.5, 8.0
"""The seconds before the next attempt where the service does not say any; they double each time."""


class Attempts:
    """The attempts at one request. They end `patience_s` after the first."""

    def __init__(self, patience_s: float) -> None:
        self._until, self._backoff_s = time.monotonic() + patience_s, FIRST_S

    def wait_s(self, outcome: Outcome) -> float | None:
        """Return the seconds before the next attempt, or None if there is none."""
        wait = self._asked_s(outcome)
        if wait is None:
            return None
        wait *= random.uniform(1, 1.25)  # or all who were refused would come back at once
        return wait if time.monotonic() + wait < self._until else None

    def _asked_s(self, outcome: Outcome) -> float | None:
        if isinstance(outcome, httpx.Response):
            if outcome.status_code not in (429, 503):
                return None
            told = retry_after_s(outcome)
            if told is not None or outcome.status_code == 503:
                return told
        wait, self._backoff_s = self._backoff_s, min(2 * self._backoff_s, LONGEST_S)
        return wait


def retry_after_s(response: httpx.Response) -> float | None:
    """Return the seconds in Retry-After, which may be a number or a date; None without one."""
    text = response.headers.get("retry-after", "")
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return None


def answer_of(call: Call[T], outcome: Outcome) -> T:
    """Return the answer; what this version does not know of it is kept. Raises ServiceError for anything else."""
    if isinstance(outcome, httpx.TransportError):
        raise ServiceError(f"the service does not answer ({type(outcome).__name__})", "unreachable") from outcome
    if outcome.is_success:
        try:
            return call.answer.model_validate_json(outcome.content, extra="allow")
        except ValidationError as error:
            text = f"the answer of {call.path} is not as expected; is the service of another version?"
            raise ServiceError(text, "unexpected_answer", outcome.status_code) from error
    raise _refusal(outcome)


def _refusal(response: httpx.Response) -> ServiceError:
    status, retry_s = response.status_code, retry_after_s(response)
    try:
        error = response.json()["error"]
        return ServiceError(error["message"], error["code"], status, error.get("where"), retry_s)
    except (ValueError, KeyError, TypeError):  # of a proxy
        return ServiceError(f"HTTP {status}: {response.text[:200]}", f"http_{status}", status, None, retry_s)
