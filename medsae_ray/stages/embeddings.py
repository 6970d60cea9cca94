"""Stage `embeddings`: the encoder mapped over shards of images."""

from dataclasses import replace
from typing import Any

from medsae_ray.cluster.demands import pool_demands
from medsae_ray.core.artifacts import schema
from medsae_ray.core.artifacts.artifact import Draft, total
from medsae_ray.core.artifacts.metrics import EmbeddingsMetrics
from medsae_ray.core.encoders import ENCODERS, encoder_preprocess
from medsae_ray.core.encoders.embedding import EmbedWork
from medsae_ray.core.encoders.hub import pinned
from medsae_ray.core.images.decode import Preprocess
from medsae_ray.core.images.reader import Reading
from medsae_ray.runtime.made import Made
from medsae_ray.runtime.run import Run, Stage
from medsae_ray.stages.doubts import of_embeddings
from medsae_ray.stages.first_images import FirstImages, refuse_none
from medsae_ray.stages.manifest import image_store


def _embed_what(run: Run) -> dict[str, Any]:
    what = run.recipe.what
    encoder = ENCODERS[what.encoder.kind]
    digest = encoder.content_hash(encoder.locate(encoder.local(_weights(run))))
    return {"encoder": what.encoder.identity(), "weights": digest, "images": what.images.model_dump()}


def _weights(run: Run) -> str:
    """The encoder's weights: the recipe's or the published ones, of a Hugging Face id the commit that it means now."""
    given = run.recipe.how.paths.weights
    return pinned(given or ENCODERS[run.recipe.what.encoder.kind].published or "")


def preprocess_of(run: Run) -> Preprocess:
    """What the run's encoder takes of an image."""
    encoder = run.recipe.what.encoder
    return encoder_preprocess(encoder.kind, ENCODERS[encoder.kind].local(_weights(run)), **encoder.options())


def _embed(run: Run, draft: Draft) -> Made:
    what, how, weights, options = run.recipe.what, run.recipe.how, _weights(run), run.recipe.what.encoder.options()
    side = preprocess_of(run).size
    work = EmbedWork(
        manifest=draft.parents["manifest"],
        images=image_store(run),
        encoder=what.encoder.kind,
        weights=weights,
        options=options,
        reading=Reading.of(what.images, side),
        device=how.embed.device,
        threads=how.embed.threads,
        batch_size=how.embed.batch_size,
        readers=how.embed.readers,
        patches=what.encoder.patches,
    )
    # The driver may have no GPU; it needs the shape of the embeddings, not the embeddings.
    probe = replace(work, device="cpu").load()
    first = FirstImages(run, draft)
    made = refuse_none(run.map(work, draft, schema.embeddings(*probe.layout), how.embed, first.look))
    notes = EmbeddingsMetrics(notes=total(receipt.noted for receipt in made.files))
    return replace(made, metrics={**notes, **probe.encoder.notes})


EMBEDDINGS = Stage(
    "embeddings",
    4,
    lambda recipe: ("manifest",),
    _embed_what,
    _embed,
    warnings=of_embeddings,
    demands=lambda recipe: pool_demands("embeddings", recipe.how.embed, "how.embed"),
)
