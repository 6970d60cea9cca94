"""What a vision-language engine is asked and answers, whatever runs it: the types, and who a model is."""

import contextlib
import hashlib
import math
import time
from collections.abc import AsyncGenerator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

from medsae_ray.core.artifacts.name_metrics import UsageFigures
from medsae_ray.core.encoders.hub import commit_of
from medsae_ray.core.naming.prompts import Content
from medsae_ray.errors import EncoderError

ONLINE, BATCH = 0, 10
"""Priorities of requests; the smaller goes first."""


class Usage(NamedTuple):
    """What an engine spent. `prompt_tokens - cached_tokens` is what it computed."""

    requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    seconds: float = 0.0
    """Seconds of the engine's time; what runs together shares it, so that the sum is the time it was busy."""

    def stored(self) -> UsageFigures:
        """Return the figures by name."""
        return cast(UsageFigures, self._asdict())


class YesNo(NamedTuple):
    """One detection answer."""

    p_yes: float
    """P(yes) / (P(yes) + P(no)), each summed over its spellings; NaN if the request failed or neither word was seen."""
    mass: float
    """P(yes) + P(no); NaN if the request failed."""
    failed: str | None = None
    """Why there is no answer."""


class ImageAnswers(NamedTuple):
    """The answers to questions about one image, in their order."""

    answers: list[YesNo]
    usage: Usage


class Writing(NamedTuple):
    """A request for one free answer."""

    parts: list[Content]
    schema: dict[str, Any]
    """JSON schema that the answer has to fit."""
    seed: int
    temperature: float
    max_tokens: int


class Written(NamedTuple):
    """One free answer."""

    text: str
    finish: str
    """"stop", "length" or "error: ..."."""


class Wrote(NamedTuple):
    """A free answer and its cost."""

    written: Written
    usage: Usage


Event = str | tuple[int, dict[str, Any]]
"""A piece of an answer as a server-sent event ("data: ..."), or status and body of a refusal, which ends it."""
FAILED = YesNo(math.nan, math.nan, "the request failed")
NEITHER = "neither yes nor no is among the likeliest first tokens"


class Engine(Protocol):
    """Answers questions about images. A request at fault comes back as failed, with the reason; EngineError is for the
    loss of the engine, and for what every request would meet as well."""

    @property
    def identity(self) -> str:
        """Model and revision or content hash: part of every answer's address."""

    async def ask(self, image: bytes, questions: list[str], priority: int = BATCH) -> ImageAnswers:
        """p(yes) of each question about one image. The first goes alone, so that the rest find its prefix computed."""

    async def write(self, writing: Writing, priority: int = BATCH) -> Wrote:
        """Text in JSON about text and images."""

    async def chat(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Pass on a request of OpenAI's chat API: HTTP status and body."""

    async def check(self) -> None:
        """Return if the engine answers."""


class StreamingEngine(Engine, Protocol):
    """An engine for callers who want to read an answer while it is written."""

    def stream(self, body: dict[str, Any]) -> AsyncGenerator[Event, None]:
        """Pass on a request of OpenAI's chat API, and its answer piece by piece."""


@dataclass(frozen=True)
class EngineSettings:
    """How to run a model on a cluster."""

    model: str
    """A folder that every node can read, or an id on Hugging Face."""
    revision: str | None
    """Branch, tag or commit of an id."""
    dtype: str
    max_model_len: int | None
    """Tokens of one prompt and its answer; None where only the model's files, yet to be fetched, can tell."""
    max_images: int
    """Images in one prompt."""
    max_seqs: int
    """Sequences computed together."""
    kv_cache_gb: float
    """GiB of key-value cache on a CPU; a GPU gives what gpu_memory leaves."""
    gpu_memory: float
    """Share of a GPU's memory that the engine takes."""
    gpus: int
    """GPUs of one replica, which share the model (tensor parallel); 0 runs on the CPU."""
    cpus: float
    """CPUs that a replica reserves; it computes with as many threads, rounded up."""
    model_impl: str
    """Whose implementation of the model; "auto" is vLLM's own choice, on a CPU "transformers"."""
    eager: bool
    replicas: int
    start_timeout_s: float
    """Longest wait for the first answer, and for an engine that was lost to come back."""
    max_ongoing: int
    """Calls inside one replica; as many more wait in a queue, and the rest are told to come back."""
    prefix_caching: bool = True
    metrics: bool = False
    """Whether vLLM's own metrics go to those of Ray, which somebody collects on a cluster that stays."""


class Clock:
    """Time with something to do, shared equally among what is done meanwhile; so the shares add up to it."""

    def __init__(self) -> None:
        self.active, self.share, self.at = 0, 0.0, time.perf_counter()

    @contextlib.contextmanager
    def timed(self) -> Iterator[list[float]]:
        """A list that holds the block's seconds after it."""
        begun, seconds = self._change(1), [0.0]
        try:
            yield seconds
        finally:
            seconds[0] = self._change(-1) - begun

    def _change(self, by: int) -> float:
        now = time.perf_counter()
        self.share += (now - self.at) / max(self.active, 1)
        self.at, self.active = now, self.active + by
        return self.share


def total(usages: Iterable[Usage]) -> Usage:
    """The sum of what several requests spent."""
    return Usage(*(sum(column) for column in zip(Usage(), *usages, strict=True)))


def spelling(token: str) -> str | None:
    """ "yes" or "no" if that is what a token spells, in any case and behind any space or word mark."""
    word = token.strip(" \t\n\u2581\u0120\u010a").lower()
    return word if word in ("yes", "no") else None


def yes_no(token_logprobs: Iterable[tuple[str, float]]) -> YesNo:
    """The answer in the log-probabilities of distinct tokens; those that spell neither word are passed over."""
    mass = {"yes": 0.0, "no": 0.0}
    for token, logprob in token_logprobs:
        word = spelling(token)
        if word:
            mass[word] += math.exp(logprob)
    both = mass["yes"] + mass["no"]
    return YesNo(mass["yes"] / both, both) if both > 0 else YesNo(math.nan, both, NEITHER)


def model_identity(model: str, revision: str | None = None) -> str:
    """A folder's name and 12 hex digits of its contents, or an id and the commit that its revision means today."""
    folder = Path(model)
    if folder.is_dir():
        return f"{folder.resolve().name}-{_contents(folder)}"
    try:
        return f"{model}@{commit_of(model, revision)}"
    except EncoderError:  # gated, unknown or unreachable: the start of the engine says which
        return f"{model}@{revision or 'main'}"


def _contents(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")):
        with path.open("rb") as stream:
            content = hashlib.file_digest(stream, "sha256").hexdigest()
        digest.update(f"{path.relative_to(folder)}\0{content}\n".encode())
    return digest.hexdigest()[:12]
