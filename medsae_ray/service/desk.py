"""What the routes share: the models of one finished run, the threads that use them, and the engine.

A few threads of their own decode the images, and others encode in one batch all that wait, so no caller stops the
others.
"""

import asyncio
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from typing import Any, NamedTuple, TypeVar

import numpy as np

from medsae_ray.config import Naming, Pool
from medsae_ray.core.analysis.likeness import Judge
from medsae_ray.core.artifacts.likeness import UnlikeTheRun
from medsae_ray.core.naming.pictures import picture
from medsae_ray.core.retrieval.answer import QueryAnswer, Ranking, SimilarAnswer, Way
from medsae_ray.core.retrieval.query import Library
from medsae_ray.core.retrieval.similar import Similar
from medsae_ray.errors import ImageError
from medsae_ray.finished import Finished, library_of
from medsae_ray.service.atlas import Atlas
from medsae_ray.service.batches import Batches
from medsae_ray.service.drift import Drift
from medsae_ray.service.engine import Link
from medsae_ray.service.errors import Problem, of_image
from medsae_ray.service.image_encoder import ActiveFeatures, ImageEncoder
from medsae_ray.service.limits import RequestLimits
from medsae_ray.service.metrics import Metrics
from medsae_ray.service.uploads import Budget, Uploads

T = TypeVar("T")


class _Decoded(NamedTuple):
    """An image before its encoding."""

    size: tuple[int, int]
    pixels: np.ndarray


class Desk:
    """What the routes share: the models of one finished run, and the threads that use them."""

    def __init__(self, run: Finished, engine: Link | None, limits: RequestLimits) -> None:
        self.run, self.engine, self.limits, self.metrics = run, engine, limits, Metrics()
        if engine is not None:
            engine.metrics = self.metrics
        self.atlas, self.encoder = Atlas(run.atlas), ImageEncoder(run)
        self.judge = Judge(run.likeness) if run.likeness else None
        self.drift = Drift(len(self.atlas.rates), limits.window)
        images = run.recipe.what.images
        budget = Budget(limits.pixels)
        self.to_encode = Uploads.of(images, limits, budget, self.encoder.side)
        self.to_show = Uploads.of(images, limits, budget)
        self._threads = ThreadPoolExecutor(limits.threads, "image")
        embed = run.recipe.how.embed
        self.batches = Batches(self._encoded, embed.batch_size, _workers(embed, limits), self.metrics.batch.observe)
        self.metrics.watch(lambda: self.batches.waiting)
        self._opening = threading.Lock()

    async def work(self, do: Callable[..., T], *arguments: Any) -> T:
        """Run `do` in one of the threads."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, do, *arguments)

    async def encode(self, data: bytes, top: int, named: bool) -> dict[str, Any]:
        """Decode and encode an image: its strongest `top` features (with `named`, of those with a name) and their
        counts. Problem if the image cannot be used."""
        size, active = await self._active(data)
        unlike = await self.work(self._judged, active)
        features = self._described(active)
        known = [feature for feature in features if feature["name"] is not None]
        counts = {"width": size[0], "height": size[1], "active": len(features), "named": len(known)}
        made_by = {"sae": self.run.sae.name, "atlas": self.run.atlas.name}
        shown = await self.work(self._placed, (known if named else features)[:top])
        return counts | {"unlike_the_run": unlike, "features": shown} | made_by

    def _placed(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Add the percentile of each activation; the first call reads the run's activations."""
        return [row | {"percentile": self._similar.percentile(row["feature"], row["activation"])} for row in rows]

    async def similar(self, data: bytes, k: int, images: int, split: str | None) -> SimilarAnswer:
        """Decode and encode an image, and find those of the run that share its strongest features. Problem if the image
        cannot be used."""
        _, active = await self._active(data)
        return await self.work(self._similar_to, active, k, images, split)

    def _similar_to(self, active: ActiveFeatures, k: int, images: int, split: str | None) -> SimilarAnswer:
        query = self._similar.of_activations("image", active.feature, active.value, self._judged(active))
        return self._similar.ask(query, k, images, split)

    def _judged(self, active: ActiveFeatures) -> UnlikeTheRun | None:
        """Judge an upload, and count it."""
        unlike = self.judge.of_embedding(active.embedding_D) if self.judge else None
        self.drift.add(active.feature, unlike["flag"] if unlike else None)
        return unlike

    async def _active(self, data: bytes) -> tuple[tuple[int, int], ActiveFeatures]:
        """Decode an image in a thread, and encode it with those that wait; return its size and features."""
        try:
            return await self.batches.add(partial(self._decoded, data), self._threads)
        except ImageError as error:
            raise of_image(error, "image") from None

    def _decoded(self, data: bytes) -> "_Decoded":
        image = self.to_encode.image(data, "image")
        return _Decoded(image.size, self.encoder.pixels(image))

    def _encoded(self, images: Sequence["_Decoded"]) -> list[tuple[tuple[int, int], ActiveFeatures] | Exception]:
        found = self.encoder.active_of([image.pixels for image in images])
        return [
            one if isinstance(one, Exception) else (image.size, one) for image, one in zip(images, found, strict=True)
        ]

    def similar_of_run(self, image_id: str, k: int, images: int, split: str | None) -> SimilarAnswer:
        """Find the images of other patients that share the strongest features of one of the run. Problem 404 if it has
        no image of that id."""
        query = self._similar.of_run(image_id)
        if query is None:
            raise Problem(404, "not_found", "the run has no image of that id", "query.image_id")
        return self._similar.ask(query, k, images, split)

    @cached_property
    def _similar(self) -> Similar:
        return Similar(self.run.artifacts)

    @cached_property
    def _library(self) -> Library:
        return library_of(self.run)

    def query(
        self, text: str, features: int, images: int, split: str | None, by: Way | None, ranking: Ranking
    ) -> QueryAnswer:
        """Answer a query in words; the first one loads all activations. See `Library.ask`."""
        return self._opened().ask(text, features, images, split, by, ranking)

    async def query_model(
        self, text: str, features: int, images: int, split: str | None, ranking: Ranking, exactly: bool
    ) -> QueryAnswer:
        """Answer a query by the engine's picks. See `Library.ask_model`. Problem 503 without an engine."""
        engine, _ = self.vlm()
        library = await self.work(self._opened)
        return await library.ask_model(engine, text, features, images, split, ranking, exactly)

    def _opened(self) -> Library:
        with self._opening:  # made on first use: it holds all activations, and perhaps a text encoder
            return self._library

    async def pictures(self, files: list[bytes], where: str, side: int) -> list[bytes]:
        """Decode uploads into the pictures that the engine gets, of at most `side` pixels. Problem names the one at
        fault. One after the other, so that other requests have their turn in between."""
        return [await self.work(self.picture, data, f"{where}[{i}]", side) for i, data in enumerate(files)]

    def picture(self, data: bytes, where: str, side: int) -> bytes:
        """Decode one upload into the picture that the engine gets, as `pictures` does."""
        return picture(self.to_show.image(data, where), side)

    def models(self) -> tuple[str, ...]:
        """List the names by which a caller may ask for the engine's model: its identity and the recipe's name."""
        engine, _ = self.vlm()
        asked = self.run.recipe.how.vlm
        return (engine.identity, asked.model) if asked else (engine.identity,)

    def vlm(self) -> tuple[Link, Naming]:
        """Return the engine and the recipe's naming. Problem 503 if the run has none."""
        naming = self.run.recipe.what.naming
        if self.engine is None or naming is None:
            raise Problem(503, "no_engine", "this run's recipe names no vision-language model", retry_s=3600)
        return self.engine, naming

    def _described(self, active: ActiveFeatures) -> list[dict[str, Any]]:
        """Describe the features, the strongest first."""
        pairs = sorted(zip(active.value, active.feature, strict=True), key=lambda pair: (-pair[0], pair[1]))
        return [self.atlas.name(feature) | {"activation": value} for value, feature in pairs]


def _workers(embed: Pool, limits: RequestLimits) -> int:
    """Return how many batches are computed at once: one on a GPU, as many as the cores allow on a CPU."""
    if embed.device != "cpu":
        return 1
    return max(1, min(limits.threads, len(os.sched_getaffinity(0)) // embed.threads))
