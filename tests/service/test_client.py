"""The client against the service over a real socket."""

import asyncio
import inspect
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from fastapi.responses import JSONResponse, PlainTextResponse

import medsae_ray
from medsae_ray import AsyncClient, Client, ServiceError
from medsae_ray.client import calls
from medsae_ray.client.attempts import answer_of, retry_after_s
from medsae_ray.config import Naming
from medsae_ray.core.artifacts.store import Store
from medsae_ray.service import responses
from medsae_ray.service.app import make_app
from medsae_ray.service.desk import Desk
from medsae_ray.service.middleware import digest
from tests.conftest import free_port
from tests.service.conftest import LIMITS, Scripted, Small
from tests.support.served import served

TOKEN = "correct-horse-battery"
PAGE = Path(__file__).resolve().parents[2] / "docs/reference/client.md"


@pytest.fixture(scope="module")
def own(small: Small, tmp_path_factory: pytest.TempPathFactory) -> Small:
    """The small run below a root of its own, as judgements are kept there."""
    root = tmp_path_factory.mktemp("own") / "root"
    shutil.copytree(small.root, root)
    artifacts = {name: replace(a, store=Store(str(root)).child(a.name)) for name, a in small.run.artifacts.items()}
    naming = Naming(positives=3, contrasts=2, attempts=2, image_size=32)
    what = small.recipe.what.model_copy(update={"naming": naming})
    recipe = small.recipe.model_copy(update={"what": what})
    return small._replace(root=str(root), run=replace(small.run, recipe=recipe, artifacts=artifacts))


@pytest.fixture(scope="module")
def url(own: Small) -> Iterator[str]:
    engine: Any = Scripted()
    with served(make_app(Desk(own.run, engine, LIMITS), digest(TOKEN))) as url:
        yield url


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    with Client(url, TOKEN) as client:
        yield client


@pytest.fixture
def image(small: Small) -> Path:
    return small.images / "i0000.png"


def is_call(value: object) -> bool:
    return inspect.isfunction(value) and value.__module__ == calls.__name__ and not value.__name__.startswith("_")


def active(client: Client) -> int:
    """A feature that many images have."""
    return client.features(sort="n_active", order="descending", size=1).features[0].feature


def test_each_answer_is_that_of_its_route(client: Client, url: str, image: Path) -> None:
    with httpx.Client(base_url=url, headers={"authorization": f"Bearer {TOKEN}"}) as plain:
        posted = plain.post("/v1/encode?top=3&named=false", files={"image": image.read_bytes()}).json()
        similar = plain.post("/v1/similar?k=2", files={"image": image.read_bytes()}).json()
        asked = {path: plain.get(path).json() for path in ("/v1/features/2", "/v1/features?size=3&text=bright")}
        query = plain.get("/v1/query?text=bright&images=5").json()
    encoded = client.encode(image, top=3, named=False)
    assert isinstance(encoded, responses.Encoded) and encoded.model_dump() == posted
    assert client.encode(image.read_bytes(), top=3, named=False) == encoded
    assert client.feature(2).model_dump() == asked["/v1/features/2"]
    assert client.features(size=3, text="bright").model_dump() == asked["/v1/features?size=3&text=bright"]
    assert client.query("bright", images=5).model_dump() == query
    assert client.similar(image, k=2).model_dump() == similar
    of_run = client.feature(active(client)).top_images[0].image_id
    assert client.similar(image_id=of_run, k=2).image == of_run
    with pytest.raises(ValueError, match="an image, or the id"):
        client.similar(image, image_id=of_run)


def test_the_model_names_and_detects(client: Client, image: Path) -> None:
    assert client.name([image, image], [image]).status == "failed"  # the scripted engine writes no name
    answers = client.detect([image], ["Bright", "Left"], ["light above", ""]).answers
    assert [(one.name, one.definition, one.p_yes) for one in answers] == [
        ("Bright", "light above", 0.25),
        ("Left", None, None),
    ]


def test_a_judgement_is_kept_once(client: Client) -> None:
    first = client.judge(4, "vote", "unsure", reader="r", key="an-own-key")
    assert client.judge(4, "vote", "unsure", reader="r", key="an-own-key") == first
    client.judge(4, "note", "blurred", reader="r")
    assert [one.kind for one in client.judgements(feature=4).judgements] == ["vote", "note"]
    assert client.agreement().votes["r"] == 1


@pytest.mark.parametrize(
    ("ask", "code", "status", "where"),
    [(lambda c: c.encode(b"no image"), "image_not_an_image", 415, "image"),
     (lambda c: c.feature(99), "not_found", 404, None),
     (lambda c: c.features(size=201), "invalid", 422, "query.size"),
     (lambda c: c.judge(1, "vote", "maybe", reader="r"), "invalid", 422, "body.value")],
)  # fmt: skip
def test_a_refusal_has_the_services_code_and_words(
    client: Client, ask: Any, code: str, status: int, where: str | None
) -> None:
    with pytest.raises(ServiceError, match=code) as error:
        ask(client)
    assert (error.value.code, error.value.status, error.value.where) == (code, status, where)
    assert isinstance(error.value, medsae_ray.MedsaeError) and TOKEN not in str(error.value)


def test_without_the_right_token_it_is_unauthorized(url: str) -> None:
    for token in (None, TOKEN + "x"):
        with Client(url, token) as client, pytest.raises(ServiceError) as error:
            client.features()
        assert error.value.code == "unauthorized"


def test_many_at_once_wait_until_the_service_has_room(client: Client, image: Path) -> None:
    refused = []
    client._http.event_hooks["response"].append(lambda answer: refused.append(answer.status_code == 429))
    with ThreadPoolExecutor(12) as threads:
        found = list(threads.map(lambda _: client.encode(image), range(24)))
    assert len(found) == 24 and all(one == found[0] for one in found)
    assert sum(refused) == len(refused) - 24


def test_it_waits_for_a_service_that_starts_later(own: Small) -> None:
    port, kept = free_port(), []

    def judge() -> None:
        with Client(f"http://127.0.0.1:{port}") as client:
            kept.append(client.judge(1, "note", "early", reader="early"))

    thread = threading.Thread(target=judge)
    thread.start()
    time.sleep(0.3)
    app = make_app(Desk(own.run, None, LIMITS), None)
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="error"))
    other = threading.Thread(target=server.run)
    other.start()
    thread.join(20)
    server.should_exit = True
    other.join()
    assert [one.value for one in kept] == ["early"]


@pytest.fixture
def stubborn() -> Iterator[tuple[str, list[str]]]:
    """A service that is away, or answers as a proxy or another version would; and the paths that it was asked for."""
    app, asked = FastAPI(), list[str]()

    @app.get("/v1/features/{number}")
    def feature(number: int) -> Any:
        asked.append(f"{number}")
        if number == 1:  # busy twice
            busy = JSONResponse({"error": {"code": "busy", "message": "later"}}, 429, {"Retry-After": "0"})
            return busy if len(asked) < 3 else JSONResponse({"error": {"code": "gone", "message": "no"}}, 404)
        if number == 2:
            text = {"error": {"code": "no_engine", "message": "no model"}}
            return JSONResponse(text, 503, {"Retry-After": "3600"})
        if number == 3:
            return PlainTextResponse("<h1>Bad gateway</h1>", 503)
        return JSONResponse({"feature": 4})

    with served(app) as url:
        yield url, asked


def test_it_tries_again_when_told_to_and_no_longer_than_its_patience(stubborn: tuple[str, list[str]]) -> None:
    url, asked = stubborn
    with Client(url, patience_s=5) as client:
        for number, code, attempts in ((1, "gone", 3), (2, "no_engine", 1), (3, "http_503", 1), (4, "unexpected", 1)):
            asked.clear()
            with pytest.raises(ServiceError, match=code) as error:
                client.feature(number)
            assert len(asked) == attempts, number
        assert "another version" in str(error.value)
    start = time.monotonic()
    with Client(f"http://127.0.0.1:{free_port()}", patience_s=1) as client, pytest.raises(ServiceError) as lost:
        client.feature(1)
    assert lost.value.code == "unreachable" and 0.4 < time.monotonic() - start < 3


def test_retry_after_is_seconds_or_a_date() -> None:
    def told(text: str) -> float | None:
        return retry_after_s(httpx.Response(503, headers={"retry-after": text}))

    assert (told("7"), told("soon"), told(""), told("-3")) == (7.0, None, None, None)
    assert told("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0


def test_a_field_of_a_newer_service_is_there_too(client: Client) -> None:
    call = calls.feature(2)
    known = client.feature(active(client)).model_dump()
    newer = {**known, "future": "x", "top_images": [{**known["top_images"][0], "percentile": 0.99}]}
    answer: Any = answer_of(call, httpx.Response(200, json=newer))
    assert answer.future == "x" and answer.top_images[0].percentile == 0.99


def test_the_asynchronous_client_has_the_same_methods_and_answers(client: Client, url: str, image: Path) -> None:
    async def ask() -> list[Any]:
        async with AsyncClient(url, TOKEN) as other:
            return await asyncio.gather(*(other.encode(image) for _ in range(10)), other.feature(2))

    *encoded, feature = asyncio.run(ask())
    assert all(one == client.encode(image) for one in encoded) and feature == client.feature(2)
    methods = {name for name, value in vars(calls).items() if is_call(value)}
    for kind in (Client, AsyncClient):
        assert methods <= set(dir(kind))
        assert str(inspect.signature(kind.encode)).startswith("(self, /, image")
        assert list(inspect.signature(kind("http://localhost").encode).parameters) == ["image", "top", "named"]


def test_the_examples_run(url: str, small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, source in (("image.png", "i0000.png"), ("other.png", "i0001.png")):
        shutil.copy(small.images / source, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MEDSAE_TOKEN", TOKEN)
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), flags=re.DOTALL | re.MULTILINE)
    made: list[dict[str, Any]] = [{} for _ in blocks]
    for block, names in zip(blocks, made, strict=True):
        exec(block.replace("http://127.0.0.1:8000", url), names)
    assert len(made[0]["images"]) == 5 and made[0]["alike"] and made[0]["whole"].best_r > 0
    assert len(made[1]["answers"]) == 2 and [one.kind for one in made[2]["kept"]] == ["vote", "rename"]
    assert len(made[3]["found"]) == 2


def test_the_client_needs_no_ray() -> None:
    code = "import sys, medsae_ray; assert 'pydantic' not in sys.modules; medsae_ray.Client('http://localhost')"
    code += "; assert not {'ray', 'torch', 'fastapi'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, env=dict(os.environ))
