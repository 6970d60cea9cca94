"""The engine on a real cluster with the small model: right answers, one cost per image, survival, sharing."""

import asyncio
import contextlib
import io
import json
import math
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest
import ray
import torch
from PIL import Image
from ray import serve

import medsae_ray
from medsae_ray.core.naming.engine import ONLINE, Writing, YesNo, spelling
from medsae_ray.core.naming.openai_api import OpenAiEngine
from medsae_ray.core.naming.prompts import DETECTION, naming_message, question
from medsae_ray.engine.client import APPLICATION, ServeEngine, start_engine
from medsae_ray.engine.holding import Hold
from medsae_ray.engine.leases import RUNNING, Lease
from medsae_ray.engine.serve_status import status_of
from medsae_ray.engine.vllm_options import Segment, segments
from medsae_ray.errors import EngineError
from tests.support.usual import engine_settings

MODEL = Path(medsae_ray.__file__).parent / "core" / "phantom" / "weights" / "vlm"
SETTINGS = engine_settings(str(MODEL), dtype="float32", metrics=True)
QUESTIONS = [question(name) for name in ("pleural effusion", "device", "chest radiograph", "large heart", "nodule")]
HANDLE = object()
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 20}, "abstain": {"type": "boolean"}},
    "required": ["name", "abstain"],
    "additionalProperties": False,
}


def picture(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (8, 8), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).resize((224, 224)).save(stream, "PNG")
    return stream.getvalue()


def difference(some: list[YesNo], others: list[YesNo]) -> float:
    pairs = ([answer[:2] for answer in answers] for answers in (some, others))
    return float(np.abs(np.subtract(*pairs)).max())  # NaN if any answer is: the builtin max would pass it over


@pytest.fixture(scope="module")
def engine(vlm_engine: ServeEngine) -> ServeEngine:
    return vlm_engine


def test_p_yes_is_that_of_the_model_in_transformers(engine: ServeEngine) -> None:
    from transformers import AutoProcessor, Gemma3ForConditionalGeneration

    model = Gemma3ForConditionalGeneration.from_pretrained(MODEL, dtype=torch.float32).eval()
    processor = AutoProcessor.from_pretrained(MODEL)
    words = {token_id: word for token, token_id in processor.tokenizer.get_vocab().items() if (word := spelling(token))}

    def forward(image: bytes, text: str) -> YesNo:
        parts = [
            {"type": "text", "text": DETECTION},
            {"type": "image", "image": Image.open(io.BytesIO(image)).convert("RGB")},
        ]
        chat = [{"role": "user", "content": [*parts, {"type": "text", "text": text}]}]
        options = {"add_generation_prompt": True, "tokenize": True, "return_dict": True, "return_tensors": "pt"}
        with torch.no_grad():
            p_V = model(**processor.apply_chat_template(chat, **options)).logits[0, -1].softmax(-1)
        yes, no = (sum(float(p_V[i]) for i, word in words.items() if word == which) for which in ("yes", "no"))
        return YesNo(yes / (yes + no), yes + no)

    for seed in range(10):
        asked = asyncio.run(engine.ask(picture(seed), QUESTIONS))
        assert difference(asked.answers, [forward(picture(seed), text) for text in QUESTIONS]) < 0.002


def test_the_prefix_cache_changes_the_cost_and_not_the_answers(engine: ServeEngine) -> None:
    async def both() -> None:
        many = [question(f"finding number {number}") for number in range(40)]
        pairs = [
            (await engine.ask(picture(s), many), await engine.ask(picture(s), many, reuse=False)) for s in (100, 101)
        ]
        for cached, plain in pairs:
            assert difference(cached.answers, plain.answers) <= 1e-3
            assert plain.usage.cached_tokens == 0
            assert cached.usage[:2] == plain.usage[:2] == (40, plain.usage.prompt_tokens)
            assert cached.usage.prompt_tokens - cached.usage.cached_tokens <= 0.4 * plain.usage.prompt_tokens

    asyncio.run(both())


def test_an_image_that_cannot_be_read_fails_alone(engine: ServeEngine) -> None:
    async def three() -> list[list[YesNo]]:
        asked = await asyncio.gather(*(engine.ask(data, QUESTIONS[:2]) for data in (picture(0), b"junk", picture(1))))
        return [one.answers for one in asked]

    first, bad, last = asyncio.run(three())
    assert all(math.isnan(value) for answer in bad for value in answer[:2])
    assert all(0 <= answer.p_yes <= 1 for answer in first + last)


def test_written_text_is_json_of_the_schema_and_a_seed_repeats_it(engine: ServeEngine) -> None:
    parts = naming_message([picture(0), picture(1)], [picture(2)])

    async def twice() -> None:
        one, same = [await engine.write(Writing(parts, SCHEMA, 1, 1.0, 120), ONLINE) for _ in range(2)]
        assert one.written.finish == "stop"
        assert set(json.loads(one.written.text)) == {"name", "abstain"}
        assert one.written == same.written
        assert one.usage.requests == 1 and one.usage.output_tokens > 3
        wrong = await engine.write(Writing(["word " * 5000], SCHEMA, 1, 1.0, 10))
        assert wrong.written.text == "" and wrong.written.finish.startswith("error: ")

    asyncio.run(twice())


def test_the_likeliest_tokens_are_the_same_beside_other_questions(engine: ServeEngine) -> None:
    """In one batch of vLLM, questions for given tokens would take the likeliest ones away."""

    async def likeliest() -> list[dict[str, float]]:
        content = [{"type": "text", "text": text} for text in QUESTIONS]
        body = {"model": engine.identity, "messages": [{"role": "user", "content": content}], "max_tokens": 1}
        status, reply = await engine.chat(body | {"temperature": 0, "logprobs": True, "top_logprobs": 20})
        assert status == 200
        return reply["choices"][0]["logprobs"]["content"][0]["top_logprobs"]

    async def both() -> None:
        alone = await likeliest()
        asks = [engine.ask(picture(seed), QUESTIONS) for seed in range(200, 230)]
        *asked, beside = await asyncio.gather(*asks, likeliest())
        assert len(alone) == 20
        assert [one["token"] for one in alone] == [one["token"] for one in beside]
        assert [one["logprob"] for one in alone] == pytest.approx([one["logprob"] for one in beside], abs=1e-3)
        assert all(0 <= answer.p_yes <= 1 for one in asked for answer in one.answers)

    asyncio.run(both())


def test_the_openai_client_gets_the_same_answers(engine: ServeEngine) -> None:
    async def compare() -> None:
        async with openai_server(engine) as url, OpenAiEngine(url, engine.identity, patience_s=20) as client:
            answers = await client.ask(picture(0), QUESTIONS[:3])
            straight = await engine.ask(picture(0), QUESTIONS[:3])
            assert difference(answers.answers, straight.answers) < 0.01
            assert answers.usage.prompt_tokens == straight.usage.prompt_tokens
            wrote = await client.write(Writing(["Name it.", picture(0)], SCHEMA, 1, 1.0, 120))
            assert set(json.loads(wrote.written.text)) == {"name", "abstain"}

    asyncio.run(compare())


def test_nothing_is_fetched_for_a_caller(engine: ServeEngine) -> None:
    body = {"model": engine.identity, "messages": fetching("http://example.org/x.png")}
    status, reply = asyncio.run(engine.chat(body))
    assert status == 400 and "allowed domains" in json.dumps(reply)


def fetching(url: str) -> list[dict[str, object]]:
    return [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]


@contextlib.asynccontextmanager
async def openai_server(engine: ServeEngine) -> AsyncIterator[str]:
    """OpenAI's API over HTTP in front of the engine."""
    import uvicorn
    from fastapi import FastAPI, Request, Response

    app = FastAPI()

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> Response:
        status, body = await engine.chat(await request.json())
        return Response(json.dumps(body), status, media_type="application/json")

    @app.get("/v1/models")
    async def models() -> dict[str, object]:
        return {"data": [{"id": engine.identity}]}

    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.05)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/v1"
    finally:
        server.should_exit = True
        await task


def test_tasks_of_a_whole_cpu_run_beside_the_engine(engine: ServeEngine) -> None:
    @ray.remote(num_cpus=1)
    def work() -> float:
        return time.time()

    async def beside() -> None:
        asks = asyncio.gather(*(engine.ask(picture(seed), QUESTIONS) for seed in range(300, 320)))
        done = await asyncio.gather(*(work.remote() for _ in range(3)))
        answered = await asks
        assert len(done) == 3 and len(answered) == 20

    asyncio.run(beside())


def test_an_engine_that_runs_already_is_shared_and_left_running(engine: ServeEngine) -> None:
    with start_engine(SETTINGS) as shared:
        assert shared.identity == engine.identity
        answers = asyncio.run(shared.ask(picture(0), QUESTIONS)).answers
    assert status_of(APPLICATION)[0] == RUNNING
    assert difference(asyncio.run(engine.ask(picture(0), QUESTIONS)).answers, answers) <= 1e-3
    with pytest.raises(EngineError, match="runs an engine with"), start_engine(SETTINGS, identity="another-model"):
        pass


def test_answers_survive_the_death_of_the_replica(engine: ServeEngine) -> None:
    seeds = range(400, 460)

    async def killed() -> list[list[YesNo]]:
        asks = [asyncio.ensure_future(engine.ask(picture(seed), QUESTIONS)) for seed in seeds]
        await asyncio.wait(asks, return_when=asyncio.FIRST_COMPLETED)
        replica = next(p for p in psutil.Process().children(recursive=True) if "VlmServer" in " ".join(p.cmdline()))
        children = replica.children(recursive=True)
        replica.kill()
        answers = [(await ask).answers for ask in asks]
        gone, alive = psutil.wait_procs(children, timeout=20)
        assert gone and not alive
        return answers

    async def undisturbed() -> list[list[YesNo]]:
        return [(await engine.ask(picture(seed), QUESTIONS)).answers for seed in seeds]

    survived = asyncio.run(killed())
    for some, others in zip(survived, asyncio.run(undisturbed()), strict=True):
        assert difference(some, others) <= 1e-3


def test_an_engine_that_is_deleted_under_its_calls_is_started_again(engine: ServeEngine) -> None:
    told: list[str] = []

    async def deleted(shared: ServeEngine) -> list[list[YesNo]]:
        asks = [asyncio.ensure_future(shared.ask(picture(seed), QUESTIONS)) for seed in range(500, 540)]
        await asyncio.wait(asks, return_when=asyncio.FIRST_COMPLETED)
        serve.delete(APPLICATION, _blocking=False)
        return [(await ask).answers for ask in asks]

    with start_engine(SETTINGS, on_loss=lambda text: told.append(f"{text}, at {time.time():.1f}")) as shared:
        answers = asyncio.run(deleted(shared))
    assert len(answers) == 40 and all(0 <= answer.p_yes <= 1 for asked in answers for answer in asked)
    assert len(told) == 1 and "went away" in told[0], told
    assert asyncio.run(engine.ask(picture(500), QUESTIONS)).answers  # by the handle of before


def test_all_who_notice_a_loss_start_one_engine_though_serve_gives_them_the_same_handle(ray_cluster: None) -> None:
    started, told = list[object](), list[str]()
    lease = Lease("engine", "one", about={"same": {"model": "m-1"}})

    def start() -> object:
        started.append(HANDLE)
        time.sleep(0.2)
        return HANDLE

    shared = ServeEngine(start, Hold(lease, EngineError), SETTINGS, told.append)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda lost: shared._again(lost, "gone"), [shared.taken] * 4))
    assert len(started) == 2 and len(told) == 1
    shared._again(shared.taken, "gone")
    assert len(started) == 3 and len(told) == 2


def test_segments_cover_the_new_tokens_and_only_images_see_ahead() -> None:
    assert segments(0, 0, 10, []) == [Segment(0, 10, 10, True)]
    assert segments(1, 0, 10, [(3, 6)]) == [Segment(1, 3, 3, True), Segment(1, 7, 4, False), Segment(1, 10, 3, True)]
    assert segments(0, 5, 10, [(3, 6)]) == [Segment(0, 7, 2, False), Segment(0, 10, 3, True)]
    assert segments(0, 8, 10, [(3, 6)]) == [Segment(0, 10, 2, True)]
