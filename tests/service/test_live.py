"""Naming and detection over HTTP on the real engine: the caller gets what a batch run would get."""

import asyncio
import contextlib
import io
import json
import os
import re
import subprocess
import time
from base64 import b64encode
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import ray
from PIL import Image
from ray._private import worker

from medsae_ray.core.naming.engine import yes_no
from medsae_ray.core.naming.pictures import picture
from medsae_ray.core.naming.prompts import DETECTION, question
from medsae_ray.core.naming.reply import parse_name
from medsae_ray.engine.client import ServeEngine
from medsae_ray.service.command import http
from medsae_ray.stages.names import rules_of
from tests.service.conftest import Small
from tests.service.live import PHANTOM, TOKEN, films, service

ROOT = Path(__file__).resolve().parents[2]
COSTS = {"include_usage": True}

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def url(small: Small, vlm_engine: ServeEngine, http_port: int) -> Iterator[str]:
    with service(small, http_port) as url:
        yield url


@pytest.fixture
def client(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, headers={"authorization": f"Bearer {TOKEN}"}, timeout=150) as client:
        yield client


def as_asked(films: list[bytes]) -> list[bytes]:
    assert PHANTOM.what.naming is not None
    return [picture(Image.open(io.BytesIO(film)), PHANTOM.what.naming.image_size) for film in films]


def test_the_engine_is_found_by_its_name(client: httpx.Client) -> None:
    assert client.get("/v1/health/ready").json() == {"ready": True, "engine": "ok"}


def test_detection_sees_what_is_there_and_says_what_a_run_would_store(
    client: httpx.Client, vlm_engine: ServeEngine
) -> None:
    sent = films("Pleural Effusion", True, 3) + films("Pleural Effusion", False, 3)
    names = {"names": ["Pleural Effusion", "Cardiomegaly"], "definitions": ["fluid in the angle", ""]}
    answer = client.post("/v1/detect", files=[("images", film) for film in sent], data=names)
    assert answer.status_code == 200 and answer.json()["model"] == vlm_engine.identity
    asked = [question("Pleural Effusion", "fluid in the angle"), question("Cardiomegaly")]

    async def straight() -> list[float]:
        return [one.p_yes for film in as_asked(sent) for one in (await vlm_engine.ask(film, asked)).answers]

    p_yes = [row["p_yes"] for row in answer.json()["answers"]]
    assert p_yes == pytest.approx(asyncio.run(straight()), abs=1e-3)
    assert min(p_yes[0:6:2]) > 0.5 > max(p_yes[6::2])
    assert answer.json()["usage"]["requests"] == 18 and answer.json()["usage"]["cached_tokens"] > 0


def test_a_name_is_the_one_that_a_run_would_find(client: httpx.Client, vlm_engine: ServeEngine) -> None:
    naming = PHANTOM.what.naming
    assert naming is not None
    a = films("Cardiomegaly", True, naming.positives)
    b = films("Cardiomegaly", False, naming.contrasts)
    answer = client.post("/v1/name", files=[("group_a", film) for film in a] + [("group_b", film) for film in b])
    assert answer.status_code == 200
    found = answer.json()
    assert found["status"] in ("named", "abstained") and len(found["name"]["per_image"]) == naming.positives
    writing = rules_of(naming).writing(as_asked(a), as_asked(b), found["attempts"] - 1)
    name = parse_name(asyncio.run(vlm_engine.write(writing)).written.text, naming.positives)
    assert (found["name"]["name"], found["name"]["abstain"]) == (name.name, name.abstain)


def test_the_openai_package_works_as_it_is(url: str, vlm_engine: ServeEngine) -> None:
    from openai import BadRequestError, NotFoundError, OpenAI, UnprocessableEntityError

    with OpenAI(base_url=f"{url}/v1", api_key=TOKEN, max_retries=0) as client:
        assert vlm_engine.identity in [model.id for model in client.models.list()]
        (film,) = films("Pleural Effusion", True, 1)
        image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{b64encode(film).decode()}"}}
        texts = [{"type": "text", "text": text} for text in (DETECTION, question("Pleural Effusion"))]
        ask = partial(client.chat.completions.create, model=vlm_engine.identity)
        messages = [{"role": "user", "content": [texts[0], image, texts[1]]}]
        reply = ask(messages=messages, max_tokens=1, temperature=0, logprobs=True, top_logprobs=20)
        (choice,) = reply.choices
        likely = [(one.token, one.logprob) for one in choice.logprobs.content[0].top_logprobs]
        straight = asyncio.run(vlm_engine.ask(as_asked([film])[0], [question("Pleural Effusion")]))
        assert yes_no(likely).p_yes == pytest.approx(straight.answers[0].p_yes, abs=1e-3)
        assert reply.usage.prompt_tokens == straight.usage.prompt_tokens and reply.model == vlm_engine.identity
        seen = {"type": "object", "properties": {"seen": {"type": "boolean"}}, "required": ["seen"]}
        form = {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": seen | {"additionalProperties": False}},
        }
        written = ask(messages=messages, max_tokens=20, response_format=form, seed=1)
        assert set(json.loads(written.choices[0].message.content)) == {"seen"}
        whole = ask(messages=messages, max_tokens=12, temperature=0)
        pieces = list(ask(messages=messages, max_tokens=12, temperature=0, stream=True, stream_options=COSTS))
        said = "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices)
        assert said == whole.choices[0].message.content and len(pieces) > 3
        assert pieces[-1].usage.completion_tokens == whole.usage.completion_tokens
        with pytest.raises(NotFoundError, match=vlm_engine.identity):
            client.chat.completions.create(model="gpt-4o", messages=messages)
        for where in ("http://localhost/x.png", "file:///etc/passwd"):
            fetched = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": where}}]}]
            with pytest.raises(UnprocessableEntityError, match="data:image/png"):
                ask(messages=fetched)
        with pytest.raises(BadRequestError) as error:
            ask(messages=[{"role": "user", "content": "word " * 9000}])
        assert error.value.code == "engine_refused"
        # More tokens than the model has left are as many as it has left.
        assert ask(messages=messages, max_tokens=2048).choices[0].message.content


def test_a_chat_needs_the_token(url: str) -> None:
    from openai import AuthenticationError, OpenAI

    with OpenAI(base_url=f"{url}/v1", api_key="wrong", max_retries=0) as client, pytest.raises(AuthenticationError):
        client.models.list()


def shown_requests() -> list[str]:
    blocks = re.findall(r"```sh\n(curl .*?)```", (ROOT / "docs/reference/http.md").read_text(), flags=re.DOTALL)
    return [command.strip() for block in blocks for command in re.split(r"\n(?=curl )", block)]


def run(command: str, url: str, folder: Path, **variables: str) -> tuple[int, Any]:
    """Status and JSON of a command as docs/reference/http.md has it, but for the address."""
    there = command.replace("http://127.0.0.1:8000", url).replace("curl ", "curl -w '\\n%{http_code}' ", 1)
    done = subprocess.run(
        ["bash", "-c", there], cwd=folder, env={**os.environ, **variables}, capture_output=True, text=True, timeout=150
    )
    assert done.returncode == 0, done.stderr
    body, _, status = done.stdout.rpartition("\n")
    return int(status), json.loads(body) if body[:1] in ("{", "[") else body


def test_the_documented_requests_are_answered(url: str, client: httpx.Client, tmp_path: Path) -> None:
    a1, a2 = films("Cardiomegaly", True, 2)
    (b1,) = films("Cardiomegaly", False, 1)
    for name, film in (("image", a1), ("a1", a1), ("a2", a2), ("b1", b1)):
        (tmp_path / f"{name}.png").write_bytes(film)
    answers = {command: run(command, url, tmp_path, MEDSAE_TOKEN=TOKEN) for command in shown_requests()}
    assert {command: status for command, (status, _) in answers.items() if status != 200} == {}
    found = {command: body for command, (_, body) in answers.items()}
    paths = client.get("/openapi.json").json()["paths"]
    described = [path for path in paths if "/judgements" not in path and "/studies" not in path]  # test_judgements.py
    shown = [re.sub(r"/features/\d+", "/features/{feature}", command) for command in found]
    assert not [path for path in described if not any(re.search(rf"{re.escape(path)}(?![/\w])", c) for c in shown)]
    (chat,) = (body for command, body in found.items() if "/chat/" in command)
    assert chat["choices"][0]["message"]["role"] == "assistant" and chat["usage"]["prompt_tokens"] > 40
    locked = [run(command, url, tmp_path, MEDSAE_TOKEN="wrong")[0] for command in found]
    assert locked == [200] + [401] * (len(found) - 1)


def test_the_proxy_stays_where_the_engine_needs_it(http_port: int, url: str) -> None:
    from medsae_ray.service.limits import RequestLimits

    with http("127.0.0.1", http_port, RequestLimits()):
        pass
    assert httpx.get(f"{url}/v1/health/live", timeout=60).json() == {"live": True}


def test_a_schema_that_the_engine_cannot_follow_is_the_callers_mistake(client: httpx.Client) -> None:
    """The engine's grammars know no numbers with so many digits."""
    canary = "".join(("CAN", "ARY"))
    seen = {"type": "object", "properties": {canary: {"type": "number", "multipleOf": 0.92000000000000002}}}
    form = {"type": "json_schema", "json_schema": {"name": "answer", "schema": seen}}
    model = client.get("/v1/models").json()["data"][0]["id"]
    body = {"model": model, "messages": [{"role": "user", "content": "What is shown?"}], "max_tokens": 5}
    refused = client.post("/v1/chat/completions", json=body | {"response_format": form})
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "engine_refused")
    assert "retry-after" not in refused.headers
    logs = Path(worker._global_node.get_logs_dir_path())
    assert not [file for file in logs.rglob("*") if file.is_file() and canary in file.read_text(errors="replace")]
    whole = client.post("/v1/chat/completions", json=body)
    (choice,) = whole.json()["choices"]
    again = [*body["messages"], choice["message"], {"role": "user", "content": "Why?"}]
    assert client.post("/v1/chat/completions", json=body | {"messages": again}).status_code == 200
    assert client.get("/v1/health/ready").json() == {"ready": True, "engine": "ok"}


def test_what_rays_agent_tells_to_everyone_holds_nothing_of_a_request(client: httpx.Client) -> None:
    """Its metrics need no token. They name routes, and the text of no caller."""
    canary = "".join(("CAN", "ARY2"))
    for path in (f"/v1/features?text={canary}", f"/{canary}", f"/v1/features/{canary}", f"/v1/features/1?{canary}=1"):
        client.get(path, headers={"user-agent": canary, "x-request-id": canary})
    client.post("/v1/encode", files={canary: (canary, canary.encode(), f"image/{canary}")})
    (node,) = ray.nodes()
    address, said = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics", ""
    until = time.monotonic() + 60
    while "ray_serve_num_http_requests" not in said and time.monotonic() < until:
        time.sleep(1)
        with contextlib.suppress(httpx.HTTPError):
            said = httpx.get(address, timeout=20).text
    assert "ray_serve_num_http_requests" in said and canary not in said
