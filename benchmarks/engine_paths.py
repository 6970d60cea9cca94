"""The engine's path through Ray Serve compared with plain `vllm.LLM.chat`, on the same requests in turn.

The requests are phantom films with the questions of a run: the names of all planted concepts with and without
definition, and the trivial name. Both run image-major with the prefix cache; then Serve runs once more without reading
it, which costs as much as feature-major order without a cache. Prints JSON. Usage: python benchmarks/engine_paths.py
[--images 60]
"""

import argparse
import asyncio
import base64
import dataclasses
import json
import multiprocessing
import os
import platform
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np

import medsae_ray
from medsae_ray.config import Vlm
from medsae_ray.core.naming.engine import EngineSettings, ImageAnswers, YesNo, spelling, total, yes_no
from medsae_ray.core.naming.prompts import CONTROL_NAME, DETECTION, question
from medsae_ray.names import by_name

MODEL = Path(medsae_ray.__file__).parent / "core" / "phantom" / "weights" / "vlm"
SEED = 7
"""The hospital of the packaged recipe."""


def films(count: int, side: int = 224) -> list[bytes]:
    """Films of that many patients, as a run sends them."""
    from PIL import Image

    from medsae_ray.core.naming.pictures import picture
    from medsae_ray.core.phantom.cohort import patient
    from medsae_ray.core.phantom.render import render

    return [picture(Image.fromarray(render(patient(SEED, number)[0])), side) for number in range(count)]


def run_questions() -> list[str]:
    """What a run asks: names with and without their definition, and the trivial name."""
    from medsae_ray.core.phantom.vlm.concepts import CONCEPTS

    bare = [question(concept.name) for concept in CONCEPTS]
    return [*bare, *(question(concept.name, concept.definition) for concept in CONCEPTS), question(CONTROL_NAME)]


def through_serve(
    settings: EngineSettings, images: list[bytes], questions: list[str], open_images: int
) -> dict[str, Any]:
    """Ask all questions through Ray Serve, with the prefix cache and then without reading it."""
    import ray

    from medsae_ray.engine.client import start_engine

    async def ask_all(engine: Any, reuse: bool) -> tuple[float, list[ImageAnswers]]:
        places = asyncio.Semaphore(open_images)

        async def ask(image: bytes) -> ImageAnswers:
            async with places:
                answers: ImageAnswers = await engine.ask(image, questions, reuse=reuse)
                return answers

        start = time.perf_counter()
        asked = await asyncio.gather(*(ask(image) for image in images))
        return time.perf_counter() - start, list(asked)

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(address="local", num_cpus=os.cpu_count(), include_dashboard=False, log_to_driver=False)
    start = time.perf_counter()
    with start_engine(settings, print) as engine:
        started = time.perf_counter() - start
        seconds, asked = asyncio.run(ask_all(engine, True))
        plain_seconds, plain = asyncio.run(ask_all(engine, False))
    ray.shutdown()
    cached, uncached = total(one.usage for one in asked), total(one.usage for one in plain)
    return {
        "start_s": round(started, 1),
        "requests_per_s": len(images) * len(questions) / seconds,
        "requests_per_s_without_cache": len(images) * len(questions) / plain_seconds,
        "usage": cached._asdict(),
        "usage_without_cache": uncached._asdict(),
        "computed_tokens_ratio": (cached.prompt_tokens - cached.cached_tokens) / uncached.prompt_tokens,
        "p_yes": p_yes(asked),
        "largest_difference_without_cache": difference(p_yes(asked), p_yes(plain)),
    }


def p_yes(asked: list[ImageAnswers]) -> list[float]:
    """Return every p(yes), image by image."""
    return [answer.p_yes for one in asked for answer in one.answers]


def difference(some: list[float], others: list[float]) -> float:
    """The largest; NaN if any answer is."""
    return float(np.abs(np.subtract(some, others)).max())


def through_llm(settings: EngineSettings, images: list[bytes], questions: list[str]) -> dict[str, Any]:
    """Ask all questions by `LLM.chat`: the first of each image, then the rest."""
    from medsae_ray.engine.vllm_options import engine_arguments, environment

    os.environ.update(environment(settings))
    from vllm import LLM, SamplingParams

    start = time.perf_counter()
    llm = LLM(model=settings.model, **engine_arguments(settings), disable_log_stats=True)
    tokens = {i: word for token, i in llm.get_tokenizer().get_vocab().items() if (word := spelling(token))}
    params = SamplingParams(max_tokens=1, temperature=0.0, logprob_token_ids=list(tokens), detokenize=False)
    warm = [_chat(images[0], question("anything"))]
    llm.chat(warm, params, use_tqdm=False)
    started = time.perf_counter() - start
    start = time.perf_counter()
    first = llm.chat([_chat(image, questions[0]) for image in images], params, use_tqdm=False)
    rest = llm.chat([_chat(image, text) for image in images for text in questions[1:]], params, use_tqdm=False)
    seconds = time.perf_counter() - start
    outputs: list[Any] = []
    for number, output in enumerate(first):
        outputs += [output, *rest[number * (len(questions) - 1) : (number + 1) * (len(questions) - 1)]]
    answers = [_answer(output.outputs[0].logprobs[0], tokens) for output in outputs]
    return {
        "start_s": round(started, 1),
        "requests_per_s": len(outputs) / seconds,
        "prompt_tokens": sum(len(output.prompt_token_ids) for output in outputs),
        "cached_tokens": sum(output.num_cached_tokens or 0 for output in outputs),
        "p_yes": [answer.p_yes for answer in answers],
    }


def _chat(image: bytes, text: str) -> list[Any]:
    url = f"data:image/png;base64,{base64.b64encode(image).decode()}"
    shown = {"type": "image_url", "image_url": {"url": url}}
    return [{"role": "user", "content": [{"type": "text", "text": DETECTION}, shown, {"type": "text", "text": text}]}]


def _answer(logprobs: dict[int, Any], tokens: dict[int, str]) -> YesNo:
    return yes_no((word, logprobs[token].logprob) for token, word in tokens.items() if token in logprobs)


def _apart(function: Any, *arguments: Any) -> dict[str, Any]:
    """Run in a process of its own, so that one path leaves nothing behind for the other."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        result: dict[str, Any] = pool.submit(function, *arguments).result()
        return result


def main() -> None:
    """Measure both paths on the same requests and print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(MODEL))
    parser.add_argument("--images", type=int, default=60)
    parser.add_argument("--open-images", type=int, default=16)
    parser.add_argument("--cpus", type=float, default=0.5)
    parser.add_argument("--gpus", type=int, default=0)
    options = parser.parse_args()
    dtype: Literal["bfloat16", "float32"] = "bfloat16" if options.gpus else "float32"
    vlm = Vlm(
        model=options.model,
        dtype=dtype,
        cpus=options.cpus,
        gpus=options.gpus,
        max_seqs=16,
        kv_cache_gb=0.5,
        eager=True,
    )
    settings = by_name(EngineSettings, vlm, max_model_len=2048, max_images=12, max_ongoing=64)
    images, questions = films(options.images), run_questions()
    llm = _apart(through_llm, settings, images, questions)
    serve = through_serve(settings, images, questions, options.open_images)
    answers = serve.pop("p_yes")
    largest = difference(llm.pop("p_yes"), answers)
    result = {
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        "settings": dataclasses.asdict(settings) | {"model": Path(settings.model).name},
        "images": options.images,
        "questions": len(questions),
        "llm_chat": llm,
        "serve": serve,
        "serve_over_llm": serve["requests_per_s"] / llm["requests_per_s"],
        "largest_difference_of_p_yes": largest,
        "distinct_answers": len(set(answers)),
        "share_between_0.01_and_0.99": float(np.mean([0.01 < p < 0.99 for p in answers])),
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
