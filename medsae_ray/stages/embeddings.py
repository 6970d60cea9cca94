"""Stage `embeddings`: the encoder mapped over shards of images.

`random_embeddings` are those of the same encoder with random weights, a control, and `second_embeddings` those of
another encoder, a judge.
"""

from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any, NamedTuple, Self

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


class Source(NamedTuple):
    """An encoder and its weights."""

    encoder: EncoderOptions
    weights: str
    """As pinned: a file, a folder, a URI, or one commit of a Hugging Face id."""

    @classmethod
    def of(cls, encoder: EncoderOptions, weights: str | None) -> Self:
        """Pin the weights."""
        return cls(encoder, encoder.pinned(weights))

    def preprocess(self) -> Preprocess:
        """Return the encoder's preprocessing."""
        return self.encoder.preprocess(self.encoder.local(self.weights))

    def identity(self) -> dict[str, Any]:
        """Return what decides the embedding of an image."""
        digest = self.encoder.content_hash(self.encoder.locate(self.encoder.local(self.weights)))
        return {"encoder": self.encoder.identity(), "weights": digest}


Which = Callable[[Recipe], Source]


def _own(recipe: Recipe) -> Source:
    return Source.of(recipe.what.encoder, recipe.how.paths.weights)


def _random(recipe: Recipe) -> Source:
    """Return the recipe's encoder with weights drawn anew."""
    own = _own(recipe)
    assert isinstance(own.encoder, TorchOptions), "a recipe is checked for it"
    return own._replace(encoder=replace(own.encoder, random_weights=recipe.what.recovery.random_weights))


def _second(recipe: Recipe) -> Source:
    """Return the encoder that judges how alike images are."""
    encoder = recipe.what.monosemanticity.encoder
    assert encoder is not None, "the stage lacks it otherwise"
    return Source.of(encoder, recipe.how.paths.second_weights)


def preprocess_of(run: Run) -> Preprocess:
    """Return the preprocessing of the run's encoder."""
    return _own(run.recipe).preprocess()


def _what(run: Run, which: Which) -> dict[str, Any]:
    return {**which(run.recipe).identity(), "images": asdict(run.recipe.what.images)}


def _embed(run: Run, draft: Draft, which: Which) -> Made:
    what, how, source = run.recipe.what, run.recipe.how, which(run.recipe)
    work = EmbedWork(
        manifest=draft.parents["manifest"],
        images=image_store(run),
        encoder=source.encoder,
        weights=source.weights,
        reading=Reading.of(what.images, source.preprocess().size),
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
    return replace(made, metrics={**notes, **source.encoder.notes(work.weights, dim)})


def _stage(name: str, version: int, which: Which, **more: Any) -> Stage:
    return Stage(
        name,
        version,
        lambda recipe: ("manifest",),
        lambda run: _what(run, which),
        lambda run, draft: _embed(run, draft, which),
        demands=lambda recipe: pool_demands(name, recipe.how.embed, "how.embed"),
        **more,
    )


def _without_random(recipe: Recipe) -> str | None:
    return None if recipe.what.recovery.random_weights is not None else "what.recovery.random_weights"


def _without_second(recipe: Recipe) -> str | None:
    return None if recipe.what.monosemanticity.encoder else "what.monosemanticity.encoder"


EMBEDDINGS = _stage("embeddings", 4, _own, warnings=of_embeddings)
RANDOM_EMBEDDINGS = _stage("random_embeddings", 1, _random, lacks=_without_random)
SECOND_EMBEDDINGS = _stage("second_embeddings", 1, _second, lacks=_without_second)
