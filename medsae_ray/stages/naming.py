"""Stage `names`: the vision-language model names each feature from two groups of images."""

import asyncio
from dataclasses import asdict
from typing import Any

import pyarrow as pa

from medsae_ray.config import Naming, Recipe
from medsae_ray.core import schema
from medsae_ray.core.artifact import Artifact, Draft
from medsae_ray.core.naming.engine import total
from medsae_ray.core.naming.failures import Failures
from medsae_ray.core.naming.ledger import Ledger, replies
from medsae_ray.core.naming.pictures import Pictures
from medsae_ray.core.naming.questions import content_address
from medsae_ray.core.naming.rules import NamingRules
from medsae_ray.core.naming.talk import Groups, Named, at_most, name_feature
from medsae_ray.core.naming.verdict import ABSTAINED, FAILED, INSUFFICIENT
from medsae_ray.core.reading import Reading
from medsae_ray.stages.datasets import image_store
from medsae_ray.stages.run import Made, Run, Stage
from medsae_ray.stages.samples import NAMING, by_feature
from medsae_ray.stages.vlm import identity_of, session

NAMED = "named"
SOURCE = "vlm"
LEDGER = "ledger"
"""Folder below the root where every answer is kept, whichever run asked for it."""


def naming_of(run: Run) -> Naming:
    naming = run.recipe.what.naming
    assert naming is not None, "the stage is part of a naming run only"
    return naming


def rules_of(naming: Naming) -> NamingRules:
    return NamingRules(naming.attempts, naming.temperature, naming.max_tokens, naming.seed)


def pictures_of(run: Run, manifest: Artifact) -> Pictures:
    table, reading = manifest.table(["image_id", "uri"]), Reading.of(run.recipe.what.images)
    return Pictures.of(table, image_store(run), naming_of(run).image_size, reading)


def ledger_of(run: Run, kind: str, rows: pa.Schema, *identity: object) -> Ledger:
    """One folder per model and prompt, so that a run reads no answers that it cannot use."""
    return Ledger(run.root.child(f"{LEDGER}/{kind}-{content_address(*identity)[:12]}"), rows)


def in_flight(run: Run) -> int:
    vlm = run.recipe.how.vlm
    assert vlm is not None, "the recipe was checked"
    return vlm.in_flight * vlm.replicas


def _make(run: Run, draft: Draft) -> Made:
    rules, pictures = rules_of(naming_of(run)), pictures_of(run, draft.parents["manifest"])
    samples = by_feature(draft.parents["samples"].table(), NAMING)
    groups = [_groups(feature, rows) for feature, rows in samples.items()]
    ledger = ledger_of(run, "names", replies(), identity_of(run.recipe), rules.prompt(naming_of(run).positives))
    known = {row["address"]: row for row in ledger.load().table.to_pylist()}
    done: list[Named] = []

    failures = Failures("features", len(groups))

    def keep(named: Named) -> None:
        done.append(named)
        bar.advance()
        failures.add([named.failed])

    async def all_names() -> None:
        async with session(run) as engine:
            await at_most(
                in_flight(run), groups, lambda g: name_feature(engine, g, pictures, ledger, known, rules), keep
            )

    with run.bar("names", len(groups)) as bar:
        if groups:  # or no engine need start
            asyncio.run(all_names())
    metrics = draft.parents["samples"].record.metrics
    lacking = {int(feature): counts for feature, counts in metrics["insufficient"][NAMING].items()}
    rows = [*map(_row, done), *(_lacking_row(*item) for item in lacking.items())]
    table = pa.Table.from_pylist(sorted(rows, key=lambda row: row["feature"]), schema=schema.names())
    receipt = draft.writer(schema.names()).write(0, table, table.num_rows)
    counts = {status: table["status"].to_pylist().count(status) for status in (NAMED, ABSTAINED, FAILED, INSUFFICIENT)}
    usage = total(named.usage for named in done)
    retries = sum(max(0, named.tried.attempts - 1) for named in done)
    return Made([receipt], counts | {"retries": retries, "usage": usage._asdict()})


def _groups(feature: int, rows: list[dict[str, Any]]) -> Groups:
    a = [row["image_id"] for row in rows if row["role"] != "contrast"]
    return Groups(feature, a, [row["image_id"] for row in rows if row["role"] == "contrast"])


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


def _lacking_row(feature: int, counts: list[int]) -> dict[str, Any]:
    why = f"{counts[0]} naming patients with an active image, {counts[1]} without"
    return {
        "feature": feature,
        "source": SOURCE,
        "status": INSUFFICIENT,
        "alternatives": [],
        "attempts": 0,
        "evidence": why,
    }


def _what(run: Run) -> dict[str, Any]:
    naming = naming_of(run)
    prompt = rules_of(naming).prompt(naming.positives)
    return {"model": identity_of(run.recipe), "prompt": prompt, "attempts": naming.attempts, "side": naming.image_size}


def _parents(recipe: Recipe) -> tuple[str, ...]:
    return ("samples", "manifest")


NAMES = Stage("names", 3, _parents, _what, _make)
