"""One small finished run for all tests of the service, made by the plain loop."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import pytest
from fastapi.testclient import TestClient

from medsae_ray.config import Naming, Recipe, parse_recipe
from medsae_ray.core.naming.engine import FAILED, ImageAnswers, Usage, Writing, Written, Wrote, YesNo
from medsae_ray.core.naming.prompts import Content
from medsae_ray.finished import Finished, open_run
from medsae_ray.pipeline import run_recipe
from medsae_ray.service.app import make_app
from medsae_ray.service.desk import Desk
from medsae_ray.service.engine import Link
from medsae_ray.service.errors import Problem
from medsae_ray.service.limits import RequestLimits
from medsae_ray.service.metrics import Metrics
from tests.support.small import onnx_encoder, recipe_data, table_dataset

LIMITS = RequestLimits(body=2**20, pixels=200_000, requests=4, threads=2, body_s=0.5)


class Small(NamedTuple):
    recipe: Recipe
    root: str
    images: Path
    run: Finished


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Small:
    folder = tmp_path_factory.mktemp("service")
    table = table_dataset(folder / "data", 60)
    data = recipe_data(table, onnx_encoder(folder / "e.onnx"), engine="loop")
    data["what"]["likeness"] = {"level": 0.8}  # five patients of the split naming are enough for it
    recipe = parse_recipe(data)
    root = str(folder / "root")
    run_recipe(recipe, root)
    return Small(recipe, root, folder / "data", open_run(recipe, root))


@pytest.fixture(scope="session")
def desk(small: Small) -> Desk:
    return Desk(small.run, None, LIMITS)


@pytest.fixture(scope="session")
def client(desk: Desk) -> Iterator[TestClient]:
    """No token, so the service has to be called by a name of the loopback."""
    with TestClient(make_app(desk, None), "http://localhost", raise_server_exceptions=False) as client:
        yield client


class Scripted:
    """An engine that gives the answers it was told, and notes what it was asked."""

    identity = "scripted-1"

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.asked: list[tuple[bytes, list[str]]] = []
        self.parts: list[list[Content]] = []
        self.chats: list[dict[str, Any]] = []
        self.chat_answer: tuple[int, dict[str, Any]] = 200, {"object": "chat.completion"}
        self.ready = True
        self.events: list[Any] = []
        self.said: list[YesNo] = []
        self.metrics = Metrics()

    async def ask(self, image: bytes, questions: list[str], priority: int) -> ImageAnswers:
        self.asked.append((image, questions))
        said = self.said or [YesNo(0.25, 0.9), *[FAILED] * (len(questions) - 1)]
        return ImageAnswers(said, Usage(len(questions), 10, 5, 1, 0.1))

    async def write(self, writing: Writing, priority: int) -> Wrote:
        self.parts.append(writing.parts)
        text = self.texts.pop(0) if self.texts else "{}"
        written = Written("", text) if text.startswith("error") else Written(text, "stop")
        return Wrote(written, Usage(1, 100, 0, 50, 1.0))

    async def chat(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        self.chats.append(body)
        return self.chat_answer

    async def stream(self, body: dict[str, Any]) -> AsyncIterator[Any]:
        self.chats.append(body)
        for event in self.events:
            if isinstance(event, Exception):
                raise event
            yield event

    async def check(self) -> None:
        if not self.ready:
            raise Problem(503, "engine_lost", "it does not run", retry_s=2)


@pytest.fixture
def engine() -> Scripted:
    return Scripted()


@pytest.fixture
def naming_desk(small: Small, engine: Scripted) -> Desk:
    """The run as if its recipe had a vision-language model."""
    naming = Naming(positives=3, contrasts=2, attempts=2, image_size=32)
    what = small.recipe.what.model_copy(update={"naming": naming})
    recipe = small.recipe.model_copy(update={"what": what})
    return Desk(replace(small.run, recipe=recipe), cast(Link, engine), LIMITS)


@pytest.fixture
def naming_client(naming_desk: Desk) -> Iterator[TestClient]:
    with TestClient(make_app(naming_desk, None), "http://localhost", raise_server_exceptions=False) as client:
        yield client
