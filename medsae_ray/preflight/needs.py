"""The demands of a run that have to be met at the same time."""

from collections.abc import Collection, Iterator, Mapping

from medsae_ray.cluster.demands import Demand, Phase, hosted, unit_of
from medsae_ray.config import Recipe
from medsae_ray.runtime.run import Stage

ASKING = ("names", "answers", "label_answers", "vocabulary_answers", "rankings")
"""The stages that use the engine. Once it has started it stays for the rest of the run."""
BESIDE_ENGINE = (
    *("features", "probes", "recovery", "monosemanticity", "retrieval", "likeness", "rankings"),
    *("dataset_features", "fingerprints"),
)
"""The stages that compute on the cluster while a whole run holds its engine."""


def phases_of(
    recipe: Recipe, stages: Mapping[str, Stage], to_make: Collection[str], beside: bool = True
) -> list[Phase]:
    """Return the demands that the stages `to_make` hold at once. With `beside`, a whole run keeps its engine during the
    analysis; a single stage does not."""
    engine = hosted(recipe.how.vlm) if set(ASKING) & set(to_make) else ()
    phases = []
    for name in to_make:
        own = tuple(stages[name].demands(recipe)) if recipe.how.engine == "ray" else ()
        held = engine if beside and name in BESIDE_ENGINE else ()
        if own:
            phases.append(Phase(f"{name} and the engine" if held else name, own + held))
    if engine and not any(phase.demands[-1:] == engine for phase in phases):
        phases.append(Phase("the engine", engine))
    return phases


def service_phase(recipe: Recipe, cpus: float, gpus: float, engine: bool) -> Phase:
    """Return the phase of `medsae serve`: one replica with encoder and SAE, and the engine's."""
    larger = "embed" if recipe.how.embed.gpus >= recipe.how.encode.gpus else "encode"
    own = Demand("serve", "replica", unit_of(cpus, gpus), 1, {"GPU": f"how.{larger}.gpus"})
    beside = hosted(recipe.how.vlm) if engine else ()
    return Phase(
        "the service and the engine" if beside else "the service",
        (own, *beside),
        "Serve with how.embed.gpus: 0 and how.encode.gpus: 0 (--set how.embed.gpus=0 --set how.encode.gpus=0), which "
        "encodes on the CPU and changes no artifact's name, or use more GPUs",
    )


def share_problems(recipe: Recipe, to_make: Collection[str]) -> Iterator[str]:
    """Yield the problems of GPU shares that work on no cluster."""
    train = recipe.how.train
    if "sae" in to_make and recipe.how.engine == "ray" and train.workers > 1 and 0 < train.gpus < 1:
        yield (
            f"how.train.gpus is {train.gpus:g} with how.train.workers {train.workers}: two workers may get the same "
            "GPU, and NCCL joins no two ranks on one. Set how.train.gpus: 1, or how.train.workers: 1"
        )
