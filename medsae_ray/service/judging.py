"""The judgements of the run that is served: its log, its studies, and what a reader judges."""

import logging
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from rich.console import Console

from medsae_ray.core.artifacts.patience import at_most
from medsae_ray.core.artifacts.store import Store, split_uri
from medsae_ray.core.images.reader import Reading
from medsae_ray.core.judgements.agreement import Agreement, agreement, votes_of
from medsae_ray.core.judgements.log import Log, Read
from medsae_ray.core.judgements.record import Judgement, Kind
from medsae_ray.core.judgements.study import Study, drawn, every, keep, opened
from medsae_ray.core.naming.pictures import Pictures
from medsae_ray.errors import ArtifactError, JudgementError
from medsae_ray.pipeline import STAGES
from medsae_ray.runtime.run import Run
from medsae_ray.service.desk import Desk
from medsae_ray.service.errors import Problem
from medsae_ray.stages.manifest import image_store

logger = logging.getLogger(__name__)
SIDE = 256
STORE_S = 10.0
"""The seconds that a store may be away before the caller is told to retry."""


class Judging:
    """The judgements of the desk's run. What cannot be answered is a Problem."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk

    @property
    def atlas(self) -> str:
        """The name of the atlas that is judged."""
        return self.desk.run.atlas.name

    @cached_property
    def root(self) -> Store:
        """The run's root, which holds the log."""
        return split_uri(self.desk.run.atlas.store.uri)[0]

    @cached_property
    def _log(self) -> Log:
        return Log(self.root)

    def judge(
        self,
        reader: str,
        feature: int,
        kind: Kind,
        value: str | None = None,
        reason: str | None = None,
        blind: bool = False,
        study: str | None = None,
        key: str | None = None,
    ) -> Judgement:
        """Keep a judgement of a feature, and return it once it is safe; `key` is its idempotency key."""
        name = self.desk.atlas.name(feature)["name"]
        if study is not None and feature not in self.study(study).features:
            raise Problem(422, "invalid", f"the study {study} does not have this feature", "body.feature")
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        told = (reader, now, self.atlas, self.desk.run.sae.name, feature, name, kind, value, reason, blind, study)
        with _refusing("body"), _storing():
            given = Judgement(key or uuid.uuid4().hex, *told)
            kept = self._log.add(given)
        if not kept.same_as(given):
            raise Problem(409, "key_taken", "this key belongs to another judgement; give each its own", "body.key")
        return kept

    def of_run(self, feature: int | None = None, reader: str | None = None, study: str | None = None) -> Read:
        """Return the judgements of this run, perhaps only those of a feature, a reader or a study."""
        with _storing():
            found = self._log.read()
        wanted = {"atlas": self.atlas, "feature": feature, "reader": reader, "study": study}
        conditions = [(name, value) for name, value in wanted.items() if value is not None]
        return Read([one for one in found.judgements if all(getattr(one, n) == v for n, v in conditions)], found[1])

    def blind(self, feature: int) -> dict[str, Any]:
        """Return what a reader is shown of a feature before the verdict: its name and its strongest images."""
        whole = self.desk.atlas.one(feature)
        return {key: whole[key] for key in ("feature", "name", "definition", "top_images")}

    def picture(self, feature: int, rank: int) -> bytes:
        """Return the feature's image of a rank as a grey PNG of at most SIDE pixels, without any metadata."""
        ids = [image["image_id"] for image in self.desk.atlas.one(feature)["top_images"]]
        shown = self.desk.run.images != "none" and rank < len(ids)
        data = self._pictures.png(ids[rank]) if shown else None
        if data is None:
            raise Problem(404, "not_found", "there is no such image")
        return data

    @cached_property
    def _pictures(self) -> Pictures:
        recipe, manifest = self.desk.run.recipe, self.desk.run.artifacts["manifest"]
        with Run(recipe, self.root, STAGES, Console(quiet=True)) as run:
            table = manifest.table(["image_id", "uri"])
            return Pictures.of(table, image_store(run), SIDE, Reading.of(recipe.what.images))

    def agreement(self, study: str | None, blind: bool) -> Agreement:
        """Compare the readers with each other and with the model."""
        return agreement(votes_of(self.of_run().judgements, blind, study), self.desk.atlas.verdicts())

    def start(self, name: str, seed: int, size: int) -> Study:
        """Make a study of features that have a tested name. The same request again changes nothing."""
        tested = [feature for feature, v in self.desk.atlas.verdicts().items() if v in ("verified", "rejected")]
        with _refusing("body"), _storing():
            given = drawn(name, seed, self.atlas, tested, size)
            if (kept := keep(self.root, given)) != given:
                raise Problem(409, "name_taken", "there is another study of this name", "body.name")
        return kept

    def studies(self) -> list[str]:
        """Return the names of the studies of this run."""
        with _storing():
            return [one.name for one in every(self.root) if one.atlas == self.atlas]

    def study(self, name: str) -> Study:
        """Return a study of this run."""
        with _storing():
            found = opened(self.root, name)
        if found is None or found.atlas != self.atlas:
            raise Problem(404, "not_found", "this run has no study of that name")
        return found


@contextmanager
def _refusing(where: str) -> Iterator[None]:
    try:
        yield
    except JudgementError as error:
        raise Problem(422, "invalid", error.message, f"{where}.{error.field}") from None


@contextmanager
def _storing() -> Iterator[None]:
    """Answer 503 for a store that is away, full or read-only: its own words hold a path."""
    try:
        with at_most(STORE_S):
            yield
    except (ArtifactError, OSError) as error:
        logger.error("the judgements cannot be reached: %s", type(error).__name__)
        text = "the store of the judgements does not take this now; nothing that was acknowledged is lost"
        raise Problem(503, "store_lost", text, retry_s=2) from None
