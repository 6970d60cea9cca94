"""The plan of a run by `medsae plan`: stages and cost, by the same checks that begin a run. No stage is made."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console

from medsae_ray.cluster.capacity import Capacity
from medsae_ray.cluster.demands import Demand, hosted
from medsae_ray.cluster.packing import spelt
from medsae_ray.config import Recipe
from medsae_ray.core.artifacts.artifact import Artifact
from medsae_ray.core.artifacts.metrics import SaeMetrics, metrics_of
from medsae_ray.core.artifacts.store import Store
from medsae_ray.core.datasets.privacy import KEY_FILE
from medsae_ray.engine.session import check_engine
from medsae_ray.errors import MedsaeError
from medsae_ray.pipeline import STAGES, goals_of
from medsae_ray.preflight.estimates import (
    ImageCounts,
    Rate,
    bytes_of,
    images_of,
    questions_of,
    rate_of,
    records_of,
    total,
)
from medsae_ray.preflight.needs import ASKING, share_problems
from medsae_ray.preflight.papers import paper_plan
from medsae_ray.preflight.ready import KnownStage, capacity_of, judgement, survey, unmade
from medsae_ray.runtime.run import Run


def plan(recipe: Recipe, root: str, address: str | None = None) -> dict[str, Any]:
    """Return the plan of `medsae run` with `recipe` below `root`, for a reader or a program.

    `address` is a Ray cluster to join; without one here, in the recipe or in RAY_ADDRESS, this machine counts and no
    Ray is started. The obstacles of the run are in `problems`.
    """
    if address:
        recipe = recipe.model_copy(update={"how": recipe.how.model_copy(update={"address": address})})
    with Run(recipe, Store(root), STAGES, Console(quiet=True)) as run:
        found = survey(run, *goals_of(recipe), forgiving=True, skip=_unnamed(run))
        to_make = unmade(run, found, *goals_of(recipe))
        capacity = capacity_of(run)
        problems, waits = judgement(run, capacity, to_make)
        problems = [*share_problems(recipe, to_make), *_of_engine(run), *problems]
        problems += [f"{name}: {one.problem}" for name, one in found.items() if one.problem]
        return _whole(run, found, to_make, capacity) | {"problems": list(dict.fromkeys(problems)), "waits": waits}


def _of_engine(run: Run) -> list[str]:
    """Return the problems that the run's own check of the engine finds."""
    try:
        check_engine(run.recipe, run.console)
    except MedsaeError as error:
        return [str(error)]
    return []


def _unnamed(run: Run) -> tuple[str, ...]:
    """Return stages whose name a plan cannot know: the run makes the key that hides identifiers."""
    key = run.recipe.how.id_key
    made = run.recipe.what.hashed and not (key.file or key.variable or run.root.exists(KEY_FILE))
    return ("manifest",) if made else ()


def _whole(run: Run, found: Mapping[str, KnownStage], to_make: list[str], capacity: Capacity) -> dict[str, Any]:
    recipe, records = run.recipe, records_of(run.root)
    artifacts = {name: one.artifact for name, one in found.items()}
    images, paper = images_of(recipe, artifacts.get("manifest")), paper_plan(recipe)
    if paper and images.total is None:
        images = ImageCounts(paper["images"])
    asked = questions_of(recipe, artifacts) if recipe.what.naming else None
    asks = {name: asked.of_stage[name] for name in ASKING if asked and name in to_make}
    sae = artifacts.get("sae")
    features = metrics_of(sae, SaeMetrics)["config"]["width"] if sae else recipe.what.sae.settings()["width"]
    stages = []
    for name, one in found.items():
        if one.artifact:
            stages.append(_there(name, one.artifact))
        elif name in to_make:
            work = {"images": images.total, "features": features, "questions": asks.get(name)}
            size = bytes_of(name, recipe, images.total, run.root, records)
            stages.append(_to_make(name, one, recipe, work, rate_of(name, records)) | {"bytes": size})
    return {
        "recipe": recipe.name,
        "root": run.root.uri,
        "images": images._asdict(),
        "prompts_for_names_at_most": asked.names if asked and "names" in to_make else None,
        "questions_at_most": total(list(asks.values())),
        "bytes": total([stage["bytes"] for stage in stages]),
        "seconds": total([stage["seconds"] for stage in stages]),
        "seconds_unknown_for": [stage["stage"] for stage in stages if not stage["there"] and stage["seconds"] is None],
        "saes": len(recipe.what.members().members) or None,
        "place": _place(capacity),
        "paper": paper,
        "stages": stages,
    }


def _there(name: str, artifact: Artifact) -> dict[str, Any]:
    unknown = dict.fromkeys(("questions_at_most", "bytes", "rate", "seconds"))
    known = {"stage": name, "artifact": artifact.name, "there": True, "rows": artifact.record.rows}
    return {**known, "after": [], "resources": [], **unknown}


def _to_make(
    name: str, one: KnownStage, recipe: Recipe, work: dict[str, int | None], rate: Rate | None
) -> dict[str, Any]:
    own = tuple(STAGES[name].demands(recipe)) if recipe.how.engine == "ray" else ()
    engine = hosted(recipe.how.vlm) if name in ASKING else ()
    amount = work[rate.unit] if rate else None
    return {
        "stage": name,
        "artifact": one.name,
        "there": False,
        "after": list(one.after),
        "rows": None,
        "resources": [_resource(demand) for demand in (*own, *engine)],
        "questions_at_most": work["questions"],
        "rate": rate and rate._asdict(),
        "seconds": amount / rate.per_second if rate and amount is not None else None,
    }


def _resource(demand: Demand) -> dict[str, Any]:
    bundles = [dict(bundle.amounts) for bundle in demand.unit.bundles]
    each = spelt(demand.unit.total)
    return {"what": demand.what, "count": demand.times, "each": each, "bundles": bundles, "key": demand.key}


def _place(capacity: Capacity) -> dict[str, Any]:
    nodes = [{"name": node.name, "resources": dict(node.amounts)} for node in capacity.nodes]
    return {"joined": capacity.joined, "nodes": nodes, "held_by": list(capacity.held)}
