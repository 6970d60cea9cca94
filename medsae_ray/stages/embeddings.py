"""Stage `embeddings`: the encoder mapped over shards of images."""

from dataclasses import asdict, replace
from typing import Any

from medsae_ray.cluster.demands import pool_demands
from medsae_ray.core.artifacts.artifact import Draft, part_schema, total
from medsae_ray.core.artifacts.layout import Layout
from medsae_ray.core.artifacts.metrics import EmbeddingsMetrics
from medsae_ray.core.encoders.embedding import EmbedWork
from medsae_ray.core.images.decode import Preprocess
from medsae_ray.core.images.reader import Reading
from medsae_ray.runtime.made import Made
from medsae_ray.runtime.run import Run, Stage
from medsae_ray.stages.doubts import of_embeddings
from medsae_ray.stages.first_images import FirstImages, refuse_none
from medsae_ray.stages.manifest import image_store


def _embed_what(run: Run) -> dict[str, Any]:
    what, encoder = run.recipe.what, run.recipe.what.encoder
    digest = encoder.content_hash(encoder.locate(encoder.local(_weights(run))))
    return {"encoder": encoder.identity(), "weights": digest, "images": asdict(what.images)}


def _weights(run: Run) -> str:
    return run.recipe.what.encoder.pinned(run.recipe.how.paths.weights)


def preprocess_of(run: Run) -> Preprocess:
    """Return the preprocessing of the run's encoder."""
    encoder = run.recipe.what.encoder
    return encoder.preprocess(encoder.local(_weights(run)))


def _embed(run: Run, draft: Draft) -> Made:
    what, how = run.recipe.what, run.recipe.how
    work = EmbedWork(
        manifest=draft.parents["manifest"],
        images=image_store(run),
        encoder=what.encoder,
        weights=_weights(run),
        reading=Reading.of(what.images, preprocess_of(run).size),
        device=how.embed.device,
        threads=how.embed.threads,
        batch_size=how.embed.batch_size,
        readers=how.embed.readers,
    )
    first = FirstImages(run, draft)
    # Only the workers load the encoder, so only they know its layout: the driver may have neither a GPU nor the memory.
    made = refuse_none(run.map(work, draft, None, how.embed, first.look))
    dim = Layout.of(part_schema(draft.store, made.files[0])).dim
    notes = EmbeddingsMetrics(notes=total(receipt.noted for receipt in made.files))
    return replace(made, metrics={**notes, **what.encoder.notes(work.weights, dim)})


EMBEDDINGS = Stage(
    "embeddings",
    4,
    lambda recipe: ("manifest",),
    _embed_what,
    _embed,
    warnings=of_embeddings,
    demands=lambda recipe: pool_demands("embeddings", recipe.how.embed, "how.embed"),
)
