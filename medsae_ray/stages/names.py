"""Stage `names`: the vision-language model names each feature from two groups of images."""

import asyncio
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from typing import Any

import pyarrow as pa

from medsae_ray.config import Naming, Recipe
from medsae_ray.core.artifacts import schema
from medsae_ray.core.artifacts.artifact import Artifact, Draft
from medsae_ray.core.artifacts.metrics import metrics_of
from medsae_ray.core.artifacts.name_metrics import NamesMetrics, SamplesMetrics
from medsae_ray.core.images.reader import Reading
from medsae_ray.core.naming.asking import Named, NamingGroups, at_most, name_feature
from medsae_ray.core.naming.attempts import NamingRules
from medsae_ray.core.naming.engine import Engine, Usage, total
from medsae_ray.core.naming.failures import Failures
from medsae_ray.core.naming.ledger import Ledger, answers_schema, replies
from medsae_ray.core.naming.pictures import Pictures
from medsae_ray.core.naming.plan import content_address
from medsae_ray.core.naming.prompts import detection_prompt
from medsae_ray.core.naming.verdict import ABSTAINED, DEAD, FAILED, INSUFFICIENT
from medsae_ray.engine.session import identity_of, naming_of, session, vlm_of
from medsae_ray.names import by_name
from medsae_ray.runtime.made import Made
from medsae_ray.runtime.run import Run, Stage
from medsae_ray.stages.asking import spent
from medsae_ray.stages.manifest import image_store
from medsae_ray.stages.name_checks import TAKEN_BACK, checked
from medsae_ray.stages.samples import CHECK, NAMING, by_feature, without_naming

NAMED = "named"
SOURCE = "vlm"
LEDGER = "ledger"
"""The folder below the root that keeps every answer, for all runs."""


def rules_of(naming: Naming) -> NamingRules:
    """Return the rules by which names are asked for."""
    return by_name(NamingRules, naming)


def pictures_of(run: Run, manifest: Artifact) -> Pictures:
    """Return the images of a run as the vision-language model gets them."""
    table, reading = manifest.table(["image_id", "uri"]), Reading.of(run.recipe.what.images)
    return Pictures.of(table, image_store(run), naming_of(run.recipe).image_size, reading)


def ledger_of(run: Run, kind: str, rows: pa.Schema, *identity: object) -> Ledger:
    """Open the ledger of one model and prompt, so that a run reads only answers that it can use."""
    return Ledger(run.root.child(f"{LEDGER}/{kind}-{content_address(*identity)[:12]}"), rows)


def in_flight(run: Run) -> int:
    """Return how many requests may be open at once, over all replicas."""
    vlm = vlm_of(run.recipe)
    return vlm.in_flight * vlm.replicas


def _make(run: Run, draft: Draft) -> Made:
    rules, pictures = rules_of(naming_of(run.recipe)), pictures_of(run, draft.parents["manifest"])
    samples = draft.parents["samples"]
    groups = [_groups(feature, rows) for feature, rows in by_feature(samples.table(), NAMING).items()]
    ledger = ledger_of(run, "names", replies(), identity_of(run.recipe), rules.prompt(naming_of(run.recipe).positives))
    known = {row["address"]: row for row in ledger.load().table.to_pylist()}
    done: list[Named] = []

    failures = Failures("features", len(groups))

    def keep(named: Named) -> None:
        done.append(named)
        bar.count(**spent(named.usage))
        bar.advance()
        failures.add([named.failed])

    async def all_names() -> tuple[list[dict[str, Any]], Usage]:
        async with session(run.recipe, run.engine) as engine:
            await at_most(
                in_flight(run), groups, lambda g: name_feature(engine, g, pictures, ledger, known, rules), keep
            )
            return await _checked([_row(named) for named in done], samples, engine, run, pictures)

    with run.bar(draft.stage, len(groups), "names") as bar:
        # Without a group no engine is needed.
        rows, asked = asyncio.run(all_names()) if groups else ([], total([]))
    rows += _lacking_rows(metrics_of(samples, SamplesMetrics))
    table = pa.Table.from_pylist(sorted(rows, key=lambda row: row["feature"]), schema=schema.names())
    receipt = draft.writer(schema.names()).write(0, table, table.num_rows)
    statuses = table["status"].to_pylist()
    usage = total([*(named.usage for named in done), asked])
    retries = sum(max(0, named.tried.attempts - 1) for named in done)
    taken_back = sum(row["status"] == ABSTAINED and row["evidence"].startswith(TAKEN_BACK) for row in rows)
    chosen = sum(row.get("choice") is not None for row in rows)
    metrics = NamesMetrics(
        named=statuses.count(NAMED),
        abstained=statuses.count(ABSTAINED),
        failed=statuses.count(FAILED),
        insufficient_support=statuses.count(INSUFFICIENT),
        dead=statuses.count(DEAD),
        taken_back=taken_back,
        alternatives_chosen=chosen,
        retries=retries,
        usage=usage.stored(),
    )
    return Made([receipt], metrics)


async def _checked(
    rows: list[dict[str, Any]], samples: Artifact, engine: Engine, run: Run, pictures: Pictures
) -> tuple[list[dict[str, Any]], Usage]:
    """Return the rows, each named one with the best of its names, or as an abstention if none passes the check."""
    named = [row for row in rows if row["status"] == NAMED]
    images, identity = by_feature(samples.table(), CHECK), identity_of(run.recipe)
    ledger = ledger_of(run, "answers", answers_schema(), identity, detection_prompt())
    bars = partial(run.bar, NAMES.name)
    kept, usage = await checked(named, images, engine, identity, pictures, ledger, in_flight(run), bars)
    return [row for row in rows if row["status"] != NAMED] + kept, usage


def _groups(feature: int, rows: list[dict[str, Any]]) -> NamingGroups:
    a = [row["image_id"] for row in rows if row["role"] != "contrast"]
    return NamingGroups(feature, a, [row["image_id"] for row in rows if row["role"] == "contrast"])


def _row(named: Named) -> dict[str, Any]:
    name, reply, attempts, problem = named.tried
    base = {"feature": named.feature, "source": SOURCE, "attempts": attempts, "alternatives": []}
    if name is None:
        said = f"; the last answer: {reply}" if reply else ""
        return base | {"status": FAILED, "evidence": f"{problem}{said}"}
    if name.abstain:
        return base | {"status": ABSTAINED, "evidence": reply or ""}
    known = {k: v for k, v in asdict(name).items() if k in schema.names().names}
    return base | known | {"alternatives": list(name.alternatives), "status": NAMED, "evidence": reply or ""}


def _lacking_rows(samples: SamplesMetrics) -> Iterator[dict[str, Any]]:
    """Yield the rows of features that cannot be named: active on no image at all, or on too few naming patients."""
    dead = set(samples["dead"])
    for feature, (active, silent) in ((int(f), counts) for f, counts in samples["insufficient"][NAMING].items()):
        why = f"{active} naming patients with an active image, {silent} without"
        status, evidence = (DEAD, "active on no image") if feature in dead else (INSUFFICIENT, why)
        base = {"feature": feature, "source": SOURCE, "alternatives": [], "attempts": 0}
        yield base | {"status": status, "evidence": evidence}


def _what(run: Run) -> dict[str, Any]:
    naming = naming_of(run.recipe)
    prompt = rules_of(naming).prompt(naming.positives)
    asked = {"model": identity_of(run.recipe), "prompt": prompt, "attempts": naming.attempts}
    return asked | {"side": naming.image_size, "check": detection_prompt()}


def _parents(recipe: Recipe) -> tuple[str, ...]:
    return ("samples", "manifest")


NAMES = Stage("names", 4, _parents, _what, _make, lacks=without_naming)
