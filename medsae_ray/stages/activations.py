"""Stage `activations`: the SAE mapped over shards of embeddings."""

from medsae_ray.cluster.demands import pool_demands
from medsae_ray.core.artifacts import schema
from medsae_ray.core.artifacts.artifact import Draft
from medsae_ray.core.sae.activations import EncodeWork
from medsae_ray.runtime.made import Made
from medsae_ray.runtime.run import Run, Stage


def _make(run: Run, draft: Draft) -> Made:
    pool = run.recipe.how.encode
    work = EncodeWork(
        embeddings=draft.parents["embeddings"],
        sae=draft.parents["sae"],
        device=pool.device,
        threads=pool.threads,
        batch_size=pool.batch_size,
    )
    return run.map(work, draft, schema.activations(work.layout.grid is not None), pool)


ACTIVATIONS = Stage(
    "activations",
    1,
    lambda recipe: ("embeddings", "sae"),
    lambda run: {},
    _make,
    demands=lambda recipe: pool_demands("activations", recipe.how.encode, "how.encode"),
)
