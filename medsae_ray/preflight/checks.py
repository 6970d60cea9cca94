"""The problems of a run that show in its manifest, all at once, before any expensive stage."""

from collections.abc import Iterable, Iterator

from medsae_ray.config import Recipe, Sae
from medsae_ray.core.artifacts.artifact import Artifact
from medsae_ray.core.artifacts.metrics import ManifestMetrics, metrics_of
from medsae_ray.core.artifacts.schema import SPLITS
from medsae_ray.errors import DatasetError, MedsaeError, RecipeError
from medsae_ray.preflight.judge_columns import column_problems
from medsae_ray.runtime.run import Run

ROLES = dict(zip(SPLITS, ("train the SAE", "name features", "test"), strict=True))


def check(run: Run, *stages: str) -> None:
    """Make the manifest, and compare it with the needs of `stages` and all before them.

    Raises DatasetError if the dataset is at fault, RecipeError if other settings would do; either has every problem.
    """
    needed = set(stages).union(*(run.ancestors(stage) for stage in stages))
    if not needed & {"sae", "sweep"}:
        return
    manifest = run.artifact("manifest")
    problems = [*_of_splits(run.recipe, manifest), *_of_training(run.recipe, manifest, needed)]
    problems += column_problems(run.recipe, manifest) if "rankings" in needed else []
    if problems:
        lines = [str(problem) for problem in problems]
        said = lines[0] if len(lines) == 1 else "\n  ".join([f"{len(lines)} problems:", *lines])
        raise type(problems[0])(said)


def _of_splits(recipe: Recipe, manifest: Artifact) -> Iterator[MedsaeError]:
    found = metrics_of(manifest, ManifestMetrics)["audit"]
    empty = [name for name in SPLITS if not found["splits"][name]["patients"]]
    if not empty:
        return
    there = f"{found['patients']} patients with {manifest.record.rows:,} images"
    if recipe.what.split.held_out_by and found["patients"] >= len(SPLITS):
        left = found["patients"] - found["splits"][SPLITS[-1]]["patients"]
        yield RecipeError(
            f"what.split.held_out leaves {left} of {there} to train on and to name from; it takes two at least: hold "
            "out fewer values"
        )
        return
    missing = ", ".join(f"{name} (to {ROLES[name]})" for name in empty)
    own = " Without what.dataset.patient each image counts as a patient." if _has_column(recipe) else ""
    yield DatasetError(f"there are {there}, and none is left for {missing}: it takes three patients at least.{own}")


def _has_column(recipe: Recipe) -> bool:
    return any(getattr(source, "patient", None) for source in recipe.what.sources)


def _of_training(recipe: Recipe, manifest: Artifact, needed: set[str]) -> Iterator[MedsaeError]:
    """Yield the problems of training. With patches, an image has a row per patch, of unknown number here."""
    what, workers = recipe.what, recipe.how.train.workers
    splits = metrics_of(manifest, ManifestMetrics)["audit"]["splits"]
    images = {name: splits[name]["images"] for name in ("sae", "naming")}
    saes = [(f"what.sweep, {m.changes}: ", m.sae, 1) for m in what.members().members] if "sweep" in needed else []
    saes += [("", what.sae, workers)] if "sae" in needed else []
    if not what.encoder.patches:
        yield from _of_batches(saes, images["sae"])
    few = min(images, key=lambda name: images[name])
    if "sae" in needed and 0 < images[few] < workers and not what.encoder.patches:
        yield RecipeError(f"how.train.workers = {workers} is above the {images[few]} images of split {few}; lower it")


def _of_batches(saes: Iterable[tuple[str, Sae, int]], rows: int) -> Iterator[MedsaeError]:
    for whose, sae, workers in saes:
        batch = sae.batch_size
        if batch is None:  # chosen from the data
            continue
        if batch > rows > 0:
            most = max(rows // workers * workers, workers)
            yield RecipeError(f"{whose}batch_size = {batch} is above the {rows} training images; take {most} or less")
        elif batch % workers:
            near = max(workers, batch // workers * workers)
            yield RecipeError(f"{whose}batch_size = {batch} cannot be split over {workers} workers; take {near}")
