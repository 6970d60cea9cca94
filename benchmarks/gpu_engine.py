"""The sections of gpu_check.py that need Ray: the vision-language engine, sweeps, and embeddings through Ray Data."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from engine_paths import MODEL, films, run_questions
from gpu_rows import DEVICE, REHEARSED, NotChecked, Row, at_most, equal

from medsae_ray.config import Vlm
from medsae_ray.core.naming.engine import EngineSettings, ImageAnswers, total, yes_no
from medsae_ray.names import by_name

GPUS = 0 if REHEARSED else 1
P_YES = 2e-3
"""How far p(yes) may be from transformers' in float32."""
FVU = 0.02
"""How far FVU of a sweep's SAEs on GPUs may be from those on CPUs."""


@contextmanager
def cluster() -> Iterator[None]:
    """Start Ray on this machine for the length of the block."""
    import ray

    ray.init(address="local", include_dashboard=False, log_to_driver=False)
    try:
        yield
    finally:
        ray.shutdown()


def settings() -> EngineSettings:
    """Return the packaged model's settings on one GPU, in float32."""
    small = {"max_seqs": 64, "kv_cache_gb": 0.5, "cpus": 0.5 if REHEARSED else 4, "eager": REHEARSED}
    vlm = Vlm.model_validate({"model": str(MODEL), "dtype": "float32", "gpus": GPUS, **small})
    return by_name(EngineSettings, vlm, max_model_len=2048, max_images=12, max_ongoing=64)


async def _ask(engine: Any, images: list[bytes], questions: list[str], at_once: int) -> list[ImageAnswers]:
    places = asyncio.Semaphore(at_once)

    async def one(image: bytes) -> ImageAnswers:
        async with places:
            answers: ImageAnswers = await engine.ask(image, questions)
            return answers

    return list(await asyncio.gather(*(one(image) for image in images)))


def p_yes() -> list[Row]:
    """Compare p(yes) of the packaged model through vLLM with that of transformers on the CPU."""
    from medsae_ray.core.naming.prompts import question
    from medsae_ray.core.phantom.vlm.concepts import CONCEPTS
    from medsae_ray.engine.client import start_engine

    images = films(2 if REHEARSED else 20)
    questions = [question(concept.name, concept.definition) for concept in CONCEPTS]
    with cluster(), start_engine(settings(), print) as engine:
        found = asyncio.run(_ask(engine, images, questions, 8))
    p_NQ = np.array([[answer.p_yes for answer in one.answers] for one in found])
    exact_NQ = _transformers(images, questions)
    rows = [at_most("p(yes) from transformers', largest difference", float(np.abs(p_NQ - exact_NQ).max()), P_YES)]
    between = float(np.mean((exact_NQ > 0.01) & (exact_NQ < 0.99)))
    return [*rows, Row("answers", f"{p_NQ.size}, of which {between:.0%} lie between 0.01 and 0.99")]


def _transformers(images: list[bytes], questions: list[str]) -> np.ndarray:
    """Return p(yes) [N, Q] as transformers computes it on the CPU in float32, each question by itself."""
    import torch
    from PIL import Image
    from transformers import AutoProcessor, Gemma3ForConditionalGeneration

    from medsae_ray.core.naming.engine import spelling
    from medsae_ray.core.naming.prompts import DETECTION

    model: Any = Gemma3ForConditionalGeneration.from_pretrained(MODEL, dtype=torch.float32).eval()
    processor: Any = AutoProcessor.from_pretrained(MODEL)
    vocabulary = processor.tokenizer.get_vocab()
    words = {number: word for token, number in vocabulary.items() if (word := spelling(token))}
    options = {"add_generation_prompt": True, "tokenize": True, "return_dict": True, "return_tensors": "pt"}

    def answer(image: Image.Image, text: str) -> float:
        shown = [{"type": "text", "text": DETECTION}, {"type": "image", "image": image}, {"type": "text", "text": text}]
        inputs = processor.apply_chat_template([{"role": "user", "content": shown}], **options)
        with torch.no_grad():
            logprob_V = model(**inputs).logits[0, -1].log_softmax(-1)
        return yes_no((word, float(logprob_V[number])) for number, word in words.items()).p_yes

    pictures = [Image.open(BytesIO(image)).convert("RGB") for image in images]
    return np.array([[answer(image, text) for text in questions] for image in pictures])


def killed() -> list[Row]:
    """Kill a replica of the engine, and wait until the processes that held GPU memory with it are gone."""
    from medsae_ray.engine.client import start_engine

    with cluster(), start_engine(settings(), print):
        before = _on_gpu()
        replica = _replica()
        os.kill(replica, signal.SIGKILL)
        started = time.monotonic()
        while set(before) & set(_on_gpu()) and time.monotonic() - started < 120:
            time.sleep(1)
        left = set(before) & set(_on_gpu())
        seconds = time.monotonic() - started
    held = ", ".join(f"{mib} MiB" for mib in before.values())
    return [
        Row("held before", held or "nothing", "something", bool(before)),
        equal("processes of it that still hold GPU memory", len(left), 0),
        at_most("seconds until then", seconds, 120),
    ]


def _on_gpu() -> dict[int, int]:
    """Return the MiB of each process below this one that holds GPU memory, by its number."""
    import psutil

    if REHEARSED:
        return {number: 0 for number in [_replica(required=False)] if number}

    call = ["nvidia-smi", "--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"]
    lines = subprocess.run(call, capture_output=True, text=True, check=True).stdout.splitlines()
    ours = {child.pid for child in psutil.Process().children(recursive=True)}
    pairs = [line.split(",") for line in lines if line.count(",") == 1]
    return {int(pid): int(mib) if mib.strip().isdigit() else -1 for pid, mib in pairs if int(pid) in ours}


def _replica(required: bool = True) -> int:
    """Return the process of the engine's replica, which Ray names after its class; 0 if it need not exist."""
    import psutil

    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if "ray::" in (line := " ".join(child.cmdline())) and "VlmServer" in line:
                return int(child.pid)
    if required:
        raise NotChecked("Ray names no process after the replica")
    return 0


def front_ends() -> list[Row]:
    """Ask one engine from 1, 2 and 4 processes, other images each, and say what the prefix cache served."""
    import ray

    from medsae_ray.engine.client import start_engine

    count = 4 if REHEARSED else 200
    questions, images, rows = run_questions(), films(count * (2 if REHEARSED else 3)), []
    with cluster(), start_engine(settings(), print):
        ask = ray.remote(num_cpus=0)(_front_end)
        for turn, processes in enumerate((1, 2) if REHEARSED else (1, 2, 4)):
            mine = images[turn * count : (turn + 1) * count]  # none that the cache has seen
            ray.get([ask.remote([], questions) for _ in range(processes)])
            started = time.perf_counter()
            parts = ray.get([ask.remote(mine[place::processes], questions) for place in range(processes)])
            seconds = time.perf_counter() - started
            spent = total(usage for part in parts for usage in part)
            text = (
                f"{count * len(questions) / seconds:,.0f} questions/s, {spent.cached_tokens / spent.prompt_tokens:.1%}"
            )
            rows.append(Row(f"{processes} front ends", f"{text} of the prompts' tokens from the cache"))
    return rows


def _front_end(images: list[bytes], questions: list[str]) -> list[Any]:
    """Ask the running engine from another process, and return what each image took."""
    from ray import serve

    from medsae_ray.engine.client import APPLICATION, HandleEngine

    engine = HandleEngine("", serve.get_app_handle(APPLICATION))
    return [one.usage for one in asyncio.run(_ask(engine, images, questions, 16))]


def sweep() -> list[Row]:
    """Train a sweep's SAEs on GPUs and on CPUs, from the same embeddings."""
    from medsae_ray.config import parse_recipe
    from medsae_ray.core.artifacts.artifact import open_artifact
    from medsae_ray.pipeline import run_stage
    from tests.support.small import onnx_encoder, recipe_data, table_dataset

    found: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as made, cluster():
        folder = Path(made)
        recipe = recipe_data(table_dataset(folder / "data", 240), onnx_encoder(folder / "e.onnx"))
        recipe["what"]["sae"] = {"width": 32, "epochs": 6, "batch_size": 32}
        recipe["what"]["sweep"] = {"grid": {"seed": [0, 1, 2], "k": [2, 3]}}
        for gpus in (GPUS, 0):
            recipe["how"] |= {"engine": "ray", "train": {"gpus": gpus}}
            root = folder / f"root-{len(found)}"
            run_stage(parse_recipe(recipe), str(root), "sweep")
            records = [open_artifact(str(path.parent)).record for path in root.glob("sae-*/record.json")]
            found.append({record.name: float(record.metrics["last_epoch"]["fvu"]) for record in records})
    apart = max(abs(fvu - found[1][name]) for name, fvu in found[0].items())
    return [equal("SAEs of the sweep", len(found[0]), 6), at_most("FVU from those on CPUs", apart, FVU)]


def images_through_ray() -> list[Row]:
    """Run embedding_throughput.py, with MedCLIP's own geometry and random weights."""
    script = Path(__file__).with_name("embedding_throughput.py")
    size = ("64", "16", "1") if REHEARSED else ("8192", "256", "2")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.json"
        call = [sys.executable, str(script), "--json", str(out), "--gpus", str(GPUS)]
        subprocess.run([*call, "--images", size[0], "--shard-rows", size[1], "--rounds", size[2]], check=True)
        found: dict[str, Any] = json.loads(out.read_text())
    text = f"loop {found['loop']:,.1f}, Ray Data {found['ray']:,.1f} images/s: ratio {found['ratio']:.2f}"
    return [Row(f"medclip-vit on {DEVICE}, JPEGs of 320 to 512 pixels", text)]
