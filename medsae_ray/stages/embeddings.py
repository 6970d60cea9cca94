"""Stage `embeddings`: the encoder mapped over shards of images. `random_embeddings`: the same with random weights."""

from dataclasses import asdict, replace
from typing import Any

from medsae_ray.cluster.demands import pool_demands
from medsae_ray.config import Recipe
from medsae_ray.core.artifacts.artifact import Draft, part_schema, total
from medsae_ray.core.artifacts.layout import Layout
from medsae_ray.core.artifacts.metrics import EmbeddingsMetrics
from medsae_ray.core.encoders.base import EncoderOptions
from medsae_ray.core.encoders.embedding import EmbedWork
from medsae_ray.core.encoders.torch_encoder import TorchOptions
from medsae_ray.core.images.decode import Preprocess
from medsae_ray.core.images.reader import Reading
from medsae_ray.runtime.made import Made
from medsae_ray.runtime.run import Run, Stage
from medsae_ray.stages.doubts import of_embeddings
from medsae_ray.stages.first_images import FirstImages, refuse_none
from medsae_ray.stages.manifest import image_store


def _embed_what(run: Run, encoder: EncoderOptions | None = None) -> dict[str, Any]:
    encoder = encoder or run.recipe.what.encoder
    digest = encoder.content_hash(encoder.locate(encoder.local(_weights(run))))
    return {"encoder": encoder.identity(), "weights": digest, "images": asdict(run.recipe.what.images)}


def _random(recipe: Recipe) -> EncoderOptions:
    """Return the recipe's encoder with weights drawn anew."""
    encoder = recipe.what.encoder
    assert isinstance(encoder, TorchOptions), "a recipe is checked for it"
    return replace(encoder, random_weights=recipe.what.recovery.random_weights)


def _weights(run: Run) -> str:
    return run.recipe.what.encoder.pinned(run.recipe.how.paths.weights)


def preprocess_of(run: Run) -> Preprocess:
    """Return the preprocessing of the run's encoder."""
    encoder = run.recipe.what.encoder
    return encoder.preprocess(encoder.local(_weights(run)))


def _embed(run: Run, draft: Draft, encoder: EncoderOptions | None = None) -> Made:
    what, how = run.recipe.what, run.recipe.how
    work = EmbedWork(
        manifest=draft.parents["manifest"],
        images=image_store(run),
        encoder=encoder or what.encoder,
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
RANDOM_EMBEDDINGS = Stage(
    "random_embeddings",
    1,
    lambda recipe: ("manifest",),
    lambda run: _embed_what(run, _random(run.recipe)),
    lambda run, draft: _embed(run, draft, _random(run.recipe)),
    demands=lambda recipe: pool_demands("random_embeddings", recipe.how.embed, "how.embed"),
    lacks=lambda recipe: None if recipe.what.recovery.random_weights is not None else "what.recovery.random_weights",
)
