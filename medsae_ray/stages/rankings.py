"""Stage `rankings`: SAIL's names, and their ranks among five names on images of patients that naming did not use."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from medsae_ray.cluster.demands import task_demand
from medsae_ray.config import Judge, Recipe
from medsae_ray.core.analysis.partial_sums import Labels
from medsae_ray.core.artifacts.artifact import Artifact, Draft
from medsae_ray.core.artifacts.columns import column, readable
from medsae_ray.core.artifacts.metrics import ManifestMetrics, SaeMetrics, metrics_of
from medsae_ray.core.artifacts.rankings import RankingsMetrics
from medsae_ray.core.artifacts.rankings import rows as rankings_rows
from medsae_ray.core.artifacts.schema import METADATA
from medsae_ray.core.artifacts.warnings import RunWarning
from medsae_ray.core.datasets.splits import uniform_hash
from medsae_ray.core.naming.distinct_images import Seen, StoredCodes, StoredCodesWork, StrongestWork, strongest_rows
from medsae_ray.core.naming.engine import Usage, total
from medsae_ray.core.naming.label_tasks import LabelTask, label_tasks
from medsae_ray.core.naming.ledger import replies
from medsae_ray.core.naming.ranking import Arm, described, prompt
from medsae_ray.core.naming.ranking_asking import Answered, Asker, Request
from medsae_ray.core.naming.ranking_rows import (
    Posed,
    Row,
    Subject,
    arm_figures,
    feature_rows,
    label_rows,
    named_by,
    naming_requests,
    posed,
    ranked_by,
    ranking_requests,
)
from medsae_ray.core.report.rankings import ARM_WORDS
from medsae_ray.engine.session import identity_of, naming_of, session
from medsae_ray.runtime.board import Bar
from medsae_ray.runtime.made import Made
from medsae_ray.runtime.run import Run, Stage
from medsae_ray.stages.asking import spent
from medsae_ray.stages.features import features_parents, group_sums, labels_of
from medsae_ray.stages.names import in_flight, ledger_of, pictures_of
from medsae_ray.stages.samples import without_naming

LEAST_ACTIVE = 10
"""The fewest naming images on which a rival is active, as in SAIL."""


def judge_of(recipe: Recipe) -> Judge:
    """Return the settings of the ranking, in a recipe that has them."""
    judge = naming_of(recipe).judge
    assert judge is not None, "the recipe was checked"
    return judge


def arms_of(judge: Judge) -> tuple[Arm, ...]:
    """Return the arms of a run: those with metadata only if some is shown."""
    return ("images", "metadata", "both") if judge.columns or judge.labels else ("images",)


def _make(run: Run, draft: Draft) -> Made:
    judge, labels = judge_of(run.recipe), labels_of(run, draft)
    names = metrics_of(draft.parents["manifest"], ManifestMetrics)["labels"]
    seen, features, codes = _strongest(run, draft, labels, judge)
    tasks = label_tasks(labels.y_NL, names, _in_order(labels, judge.seed), judge.seed)
    work = _Work(
        subjects=_subjects(features, seen, codes, labels.image_N),
        tasks=[(one, labels.image_N[one.row_n].tolist()) for one in tasks],
        metadata=metadata_of(draft.parents["manifest"], judge, labels, names),
        common=frozenset(np.flatnonzero(seen.active_F >= LEAST_ACTIVE).tolist()),
        arms=arms_of(judge),
    )
    rows, usage = _asked(run, draft, work)
    table = pa.Table.from_pylist(rows, schema=rankings_rows())
    metrics = RankingsMetrics(
        features=len(features),
        columns=list(judge.columns),
        labels_shown=judge.labels,
        arms={arm: arm_figures(rows, arm) for arm in work.arms},
        usage=usage.stored(),
    )
    return Made([draft.writer(table.schema).write(0, table, table.num_rows)], metrics)


def _strongest(run: Run, draft: Draft, labels: Labels, judge: Judge) -> tuple[Seen, list[int], StoredCodes]:
    """Find each feature's strongest images in one pass over activations, choose features, and read the codes of their
    images in another pass."""
    activations, ok_N = draft.parents["activations"], readable(draft.parents["embeddings"])
    width = metrics_of(draft.parents["sae"], SaeMetrics)["config"]["width"]
    split_N = column(draft.parents["manifest"].table(["split"]), "split")
    _, patient_N = np.unique(labels.patient_N.astype(str), return_inverse=True)
    masks = [(split_N == split) & ok_N for split in ("naming", "detection")]
    work = StrongestWork(activations, width, labels.shard_N, patient_N, *masks)
    found = run.track(group_sums(run, work), draft.stage, len(work.groups()), "groups", "strongest images")
    seen = reduce(Seen.merge, found, work.nothing())
    features = chosen_features(seen.active_F, seen.images, judge.features)
    rows = np.concatenate([side.rows()[features].ravel() for side in (seen.naming, seen.judging)])
    wanted_N = np.zeros(len(ok_N), dtype=bool)
    wanted_N[rows[rows >= 0]] = True
    reading = StoredCodesWork(activations, width, labels.shard_N, wanted_N)
    parts = run.track(group_sums(run, reading), draft.stage, len(reading.groups()), "groups", "their codes")
    return seen, features, StoredCodes.join(parts, width)


def chosen_features(active_F: np.ndarray, images: int, most: int) -> list[int]:
    """Return the features that are active on the most images but not on all, in ascending order; features that are
    active on as many go by their number."""
    able = np.flatnonzero(active_F < max(images, 1))
    return sorted(able[np.argsort(-active_F[able], kind="stable")][:most].tolist())


def _subjects(features: Sequence[int], seen: Seen, codes: StoredCodes, image_N: np.ndarray) -> list[Subject]:
    naming_FK, judging_FK = seen.naming.rows(), seen.judging.rows()
    found = []
    for feature in features:
        naming, judged = (codes.distinct(strongest_rows(rows, feature)) for rows in (naming_FK, judging_FK))
        values = codes.of(naming)[:, [feature]].toarray().ravel().tolist()
        found.append(Subject(feature, image_N[naming].tolist(), values, image_N[judged].tolist()))
    return found


def _in_order(labels: Labels, seed: int) -> np.ndarray:
    """Return the test images, one of each patient, in an order by a hash of their ids."""
    rows = np.flatnonzero(labels.test_N)
    keys = np.array([uniform_hash(str(seed), image) for image in labels.image_N[rows].tolist()])
    ordered: np.ndarray = rows[np.argsort(keys, kind="stable")]
    return ordered


def metadata_of(manifest: Artifact, judge: Judge, labels: Labels, names: Sequence[str]) -> dict[str, str]:
    """Return the metadata of each image in words, as far as the recipe lets a model see it."""
    if not (judge.columns or judge.labels):
        return {}
    table = manifest.table([METADATA + name for name in judge.columns])
    values = [dict(zip(judge.columns, row.values(), strict=True)) for row in table.to_pylist()]
    if judge.labels:
        values = values or [{} for _ in labels.image_N]
        for row, y_L in zip(values, labels.y_NL, strict=True):
            row["annotated"] = ", ".join(name for name, y in zip(names, y_L, strict=True) if y == 1) or None
    return {image: described(row) for image, row in zip(labels.image_N.tolist(), values, strict=True)}


class _Work(NamedTuple):
    """What is to be asked, and in which arms."""

    subjects: list[Subject]
    tasks: list[tuple[LabelTask, list[str]]]
    """The labels to rank, each with the ids of its images."""
    metadata: Mapping[str, str]
    common: frozenset[int]
    """The features whose names may be rivals."""
    arms: tuple[Arm, ...]


def _asked(run: Run, draft: Draft, work: _Work) -> tuple[list[Row], Usage]:
    """Ask for names, then for the ranks of these and of labels; without a feature to name nothing is asked."""
    seed, identity = judge_of(run.recipe).seed, identity_of(run.recipe)
    wanted = naming_requests(work.subjects, work.arms)
    if not wanted:
        return _rows(work, [], {}, []), Usage()
    ledger, pictures = ledger_of(run, "rankings", replies(), identity), pictures_of(run, draft.parents["manifest"])

    async def answers(asker: Asker, what: str, requests: list[Request]) -> list[Answered]:
        with run.bar(draft.stage, len(requests), what, "asked for") as bar:
            return await asker.each(what, requests, lambda one: _count(bar, one))

    async def ask() -> tuple[list[Answered], dict[Arm, dict[int, Posed]], list[Answered]]:
        async with session(run.recipe, run.engine) as engine:
            asker = Asker(engine, ledger, pictures, work.metadata, seed, in_flight(run))
            named = await answers(asker, "names", wanted)
            questions = {arm: posed(_names(named, arm), work.common, seed) for arm in work.arms}
            requests = ranking_requests(work.subjects, questions, work.tasks)
            return named, questions, await answers(asker, "rankings", requests)

    named, questions, ranked = asyncio.run(ask())
    return _rows(work, named, questions, ranked), total(one.usage for one in [*named, *ranked])


def _names(named: list[Answered], arm: Arm) -> dict[int, str]:
    given = {one.request.feature: named_by(one.reply).text for one in named if one.request.arm == arm}
    return {feature: name for feature, name in sorted(given.items()) if name is not None}


def _rows(
    work: _Work, named: list[Answered], questions: Mapping[Arm, Mapping[int, Posed]], ranked: list[Answered]
) -> list[Row]:
    rows: list[Row] = []
    for arm in work.arms:
        names = {one.request.feature: named_by(one.reply) for one in named if one.request.arm == arm}
        own = {one.request.key[1]: one.reply for one in ranked if one.request.arm == arm}
        given, said = {key: ranked_by(reply) for key, reply in own.items()}, {k: reply.text for k, reply in own.items()}
        rows += feature_rows(work.subjects, arm, names, questions.get(arm, {}), given, said)
        rows += label_rows(work.tasks if own else [], arm, given, said)
    return rows


def _count(bar: Bar, one: Answered) -> None:
    bar.count(failed=one.reply.failed is not None, **spent(one.usage))
    bar.advance()


def _warnings(run: Run, rankings: Artifact) -> Iterator[RunWarning]:
    for arm, figures in metrics_of(rankings, RankingsMetrics)["arms"].items():
        if figures["doubt"]:
            yield RunWarning("rankings_unjudged", f"rankings, {ARM_WORDS[arm]}: {figures['doubt']}", arm)


def _what(run: Run) -> dict[str, Any]:
    judge, naming, what = judge_of(run.recipe), naming_of(run.recipe), run.recipe.what
    asked = {"model": identity_of(run.recipe), "prompt": prompt(), "side": naming.image_size}
    return judge.model_dump() | asked | {"uncertain": what.uncertain, "blank": what.blank}


def without_judge(recipe: Recipe) -> str | None:
    """Return the keys that the recipe lacks for rankings; None if it has them."""
    naming = recipe.what.naming
    return without_naming(recipe) or (None if naming and naming.judge else "what.naming.judge")


RANKINGS = Stage(
    "rankings",
    1,
    features_parents,
    _what,
    _make,
    warnings=_warnings,
    demands=lambda recipe: (task_demand("rankings"),),
    lacks=without_judge,
)
