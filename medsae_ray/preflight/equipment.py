"""The needs of a cluster's nodes besides CPUs and GPUs: packages, files, folders, and access to models.

The driver checks itself. Every other node is checked by one small task that takes no CPU, so that a busy one answers as
well.
"""

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.fs as pafs
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from medsae_ray.cluster.demands import Demand, hosted
from medsae_ray.cluster.packing import Node, Unit, place
from medsae_ray.core.artifacts.patience import at_most
from medsae_ray.core.artifacts.store import split_uri
from medsae_ray.core.datasets import Dataset
from medsae_ray.core.encoders.hub import is_id, snapshot
from medsae_ray.engine.session import BUILTIN, model_of, vlm_of
from medsae_ray.engine.vllm_build import misfit
from medsae_ray.errors import one_line
from medsae_ray.preflight.needs import ASKING
from medsae_ray.runtime.run import Run
from medsae_ray.stages.manifest import image_folder

ANSWER_S = 30.0
"""The seconds within which all nodes together have to answer."""
STORE_S = 3.0
"""The seconds that a node retries a store that does not answer."""
MODULE, FILE, FOLDER, MODEL, BUILD = "module", "file", "folder", "model", "build"
MISSING = "does not have it"


class Thing(NamedTuple):
    """A thing that nodes need."""

    kind: str
    """The kind: MODULE, FILE (also a folder or an object of a store), FOLDER (made if missing), MODEL (an id) or BUILD
    (the GPUs that vLLM is to use)."""
    name: str
    said: str
    """The recipe's request for it."""
    unit: Unit
    """The process that needs it: a node without room for it does not."""


def things_of(run: Run, to_make: list[str]) -> Iterator[Thing]:
    """Yield the things that the stages `to_make` need on the nodes that they compute on."""
    for name in to_make:
        for demand in run.stages[name].demands(run.recipe):
            yield from _of_stage(run, name, demand)
    if set(ASKING) & set(to_make):
        for demand in hosted(run.recipe.how.vlm):
            yield from _of_engine(run, demand)


def _of_stage(run: Run, stage: str, demand: Demand) -> Iterator[Thing]:
    recipe, paths = run.recipe, run.recipe.how.paths
    embeds = stage in ("embeddings", "random_embeddings", "second_embeddings")
    reads = (embeds or stage in ("organs", "fingerprints")) and demand.what == "readers"
    for source in recipe.what.sources if reads else ():
        if source.library and (stage != "organs" or source.kind == "totalsegmentator"):
            yield Thing(MODULE, source.library, f"dataset {source.name} ({source.kind})", demand.unit)
        if not source.drawn:
            yield from _images(run, source, demand.unit)
    if reads and recipe.how.cache:
        yield Thing(FOLDER, recipe.how.cache.folder, "how.cache.folder", demand.unit)
    if embeds and demand.what == "actors":
        second = recipe.what.monosemanticity.encoder if stage == "second_embeddings" else None
        encoder, key = (second, "second_weights") if second else (recipe.what.encoder, "weights")
        if encoder.library:
            yield Thing(MODULE, encoder.library, f"encoder {encoder.kind}", demand.unit)
        given = getattr(paths, key)
        weights = given or encoder.published
        if weights and not weights.startswith(("builtin:", "http:", "https:")):
            kind = MODEL if encoder.takes_ids and is_id(weights) else FILE
            said = f"how.paths.{key}" if given else f"encoder {encoder.kind}"
            yield Thing(kind, weights, said, demand.unit)
    if stage in ("sae", "sweep") and recipe.how.train.scratch:
        yield Thing(FOLDER, recipe.how.train.scratch, "how.train.scratch", demand.unit)


def _images(run: Run, source: Dataset, unit: Unit) -> Iterator[Thing]:
    folder, said = image_folder(run, source)
    if not folder.uri.startswith(("http:", "https:")):
        yield Thing(FILE, folder.uri, said.partition(" is ")[0], unit)


def _of_engine(run: Run, demand: Demand) -> Iterator[Thing]:
    vlm = vlm_of(run.recipe)
    yield Thing(MODULE, "vllm", "how.vlm", demand.unit)
    yield Thing(BUILD, str(vlm.gpus), "how.vlm.gpus", demand.unit)
    model = model_of(vlm)
    if vlm.model in BUILTIN:
        return
    if is_id(model):
        yield Thing(MODEL, f"{model}@{vlm.revision}" if vlm.revision else model, "how.vlm.model", demand.unit)
    else:
        yield Thing(FILE, model, "how.vlm.model", demand.unit)


def lacking_here(things: list[Thing], alone: bool) -> list[str]:
    """Return the things that this machine lacks. A driver names artifacts by the content of files and models in any
    case; it needs the rest if it is `alone`, or its node is one of the cluster's with room for it."""
    if not alone:
        here = [node["Resources"] for node in ray.nodes() if node["NodeID"] == ray.get_runtime_context().get_node_id()]
        things = [t for t in things if t.kind in (FILE, MODEL) or any(place([t.unit], [Node("", r)]) for r in here)]
    things = [*dict.fromkeys(things)]
    found = look([(thing.kind, thing.name) for thing in things])
    return [f"{_shown(thing)}: this machine {problem}" for thing, problem in zip(things, found, strict=True) if problem]


def lacking(things: list[Thing]) -> tuple[list[str], list[str]]:
    """Return the things that other nodes lack, and the nodes that did not answer."""
    here = ray.get_runtime_context().get_node_id()
    asked: dict[Any, tuple[str, list[Thing]]] = {}
    for node in ray.nodes():
        own = [thing for thing in dict.fromkeys(things) if place([thing.unit], [Node("", node["Resources"])])]
        if node["Alive"] and node["NodeID"] != here and own:
            asked[_ask(node["NodeID"], own)] = f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})", own
    answered, silent = ray.wait(list(asked), num_returns=len(asked), timeout=ANSWER_S) if asked else ([], [])
    problems = [problem for one in answered for problem in _problems(one, *asked[one])]
    return problems, [asked[one][0] for one in silent]


def _ask(node: str, things: list[Thing]) -> Any:
    # The engine's replicas get these of the driver's variables; see `environment` of engine_vllm.
    passed = {name: os.environ[name] for name in ("HF_TOKEN", "HF_HOME", "HF_HUB_OFFLINE") if name in os.environ}
    variables = passed if any(thing.kind == MODEL and thing.said == "how.vlm.model" for thing in things) else {}
    task = ray.remote(num_cpus=0, max_retries=0)(look).options(
        scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False),
        **({"runtime_env": {"env_vars": variables}} if variables else {}),
    )
    return task.remote([(thing.kind, thing.name) for thing in things])


def _problems(one: Any, node: str, things: list[Thing]) -> Iterator[str]:
    try:
        found = ray.get(one)
    except Exception as error:  # of many kinds: the node was lost, or has no such package
        said = one_line(str(error).strip().rpartition("\n")[2])[:300]
        yield f"node {node} of the cluster cannot check the recipe's needs: {said}"
        return
    for thing, problem in zip(things, found, strict=True):
        if problem:
            remedy = ": put it on a disk that all nodes mount, or on an object store" if problem == MISSING else ""
            yield f"{_shown(thing)}: node {node} of the cluster {problem}{remedy}"


def _shown(thing: Thing) -> str:
    return f"{thing.said} needs the package {thing.name}" if thing.kind == MODULE else f"{thing.said} is {thing.name}"


def look(things: list[tuple[str, str]]) -> list[str]:
    """Check each thing on a node, and return its problem there, or ""."""
    return [_LOOKS[kind](name) for kind, name in things]


def _module(name: str) -> str:
    return "" if importlib.util.find_spec(name) else "does not have it: install medsae-ray[gpu] or [cpu] on every node"


def _file(name: str) -> str:
    folder, inner = split_uri(name)
    try:
        with at_most(STORE_S):
            found = folder.info(inner).type
    except Exception as error:  # of many kinds: the store's, the network's
        return f"cannot reach it ({type(error).__name__}): give every node the driver's rights and network"
    return MISSING if found == pafs.FileType.NotFound else ""


def _folder(name: str) -> str:
    nearest = next(folder for folder in (Path(name), *Path(name).parents) if folder.exists())
    return "" if nearest.is_dir() and os.access(nearest, os.W_OK) else f"cannot write there (to {nearest})"


def _model(name: str) -> str:
    try:
        snapshot(name, ("config.json",))
    except Exception as error:  # EncoderError has the cause and the remedy
        return f"cannot read it: {str(error).removeprefix(f'weights {name}: ')}"
    return ""


def _build(gpus: str) -> str:
    return misfit(int(gpus))


_LOOKS = {MODULE: _module, FILE: _file, FOLDER: _folder, MODEL: _model, BUILD: _build}
