"""Stage `names`: the vision-language model names each feature from two groups of images."""

import asyncio
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa

from medsae_ray.config import Naming, Recipe
from medsae_ray.core import schema
from medsae_ray.core.artifact import Artifact, Draft
from medsae_ray.core.naming.engine import Asked, Engine, Usage, total
from medsae_ray.core.naming.failures import Failures
from medsae_ray.core.naming.ledger import Ledger, answers, replies
from medsae_ray.core.naming.pictures import Pictures
from medsae_ray.core.naming.prompts import detection_prompt
from medsae_ray.core.naming.questions import Addresses, Concept, Need, Plan, content_address
from medsae_ray.core.naming.rules import NamingRules
from medsae_ray.core.naming.scores import answered, score
from medsae_ray.core.naming.self_check import SelfCheck, self_check
from medsae_ray.core.naming.talk import Groups, Named, addresses, at_most, detect, images_of, name_feature
from medsae_ray.core.naming.verdict import ABSTAINED, DEAD, FAILED, INSUFFICIENT
from medsae_ray.core.reading import Reading
from medsae_ray.stages.board import Bar
from medsae_ray.stages.datasets import image_store
from medsae_ray.stages.run import Made, Run, Stage
from medsae_ray.stages.samples import CHECK, NAMING, by_feature, naming_of
from medsae_ray.stages.vlm import identity_of, session

NAMED = "named"
STATUSES = (NAMED, ABSTAINED, FAILED, INSUFFICIENT, DEAD)
TAKEN_BACK = "taken back:"
"""How the evidence of an abstention begins, if the model gave a name."""
SOURCE = "vlm"
LEDGER = "ledger"
"""Folder below the root where every answer is kept, whichever run asked for it."""


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
    samples = draft.parents["samples"]
    groups = [_groups(feature, rows) for feature, rows in by_feature(samples.table(), NAMING).items()]
    ledger = ledger_of(run, "names", replies(), identity_of(run.recipe), rules.prompt(naming_of(run).positives))
    known = {row["address"]: row for row in ledger.load().table.to_pylist()}
    done: list[Named] = []

    failures = Failures("features", len(groups))

    def keep(named: Named) -> None:
        done.append(named)
        bar.count(**spent(named.usage))
        bar.advance()
        failures.add([named.failed])

    async def all_names() -> tuple[list[dict[str, Any]], Usage]:
        async with session(run) as engine:
            await at_most(
                in_flight(run), groups, lambda g: name_feature(engine, g, pictures, ledger, known, rules), keep
            )
            return await _checked(
                [_row(named) for named in done], by_feature(samples.table(), CHECK), engine, run, pictures
            )

    with run.bar(draft.stage, len(groups), "names") as bar:
        # Without a group no engine need start.
        rows, asked = asyncio.run(all_names()) if groups else ([], total([]))
    rows += _lacking_rows(samples.record.metrics)
    table = pa.Table.from_pylist(sorted(rows, key=lambda row: row["feature"]), schema=schema.names())
    receipt = draft.writer(schema.names()).write(0, table, table.num_rows)
    counts = {status: table["status"].to_pylist().count(status) for status in STATUSES}
    usage = total([*(named.usage for named in done), asked])
    retries = sum(max(0, named.tried.attempts - 1) for named in done)
    taken_back = sum(row["status"] == ABSTAINED and row["evidence"].startswith(TAKEN_BACK) for row in rows)
    return Made([receipt], counts | {"taken_back": taken_back, "retries": retries, "usage": usage._asdict()})


async def looked_up(run: Run, stage: str, pictures: Pictures, needs: list[Need]) -> Addresses:
    """Where the answers to `needs` live, or will."""
    images = images_of(needs)
    with run.bar(stage, len(images), "pictures") as bar:
        return await addresses(identity_of(run.recipe), pictures, images, step=bar.advance)


def count_answers(bar: Bar, asked: Asked) -> None:
    """Count the answers about one image."""
    bar.count(failed=sum(answer.failed is not None for answer in asked.answers), **spent(asked.usage))
    bar.advance(len(asked.answers))


def spent(usage: Usage) -> dict[str, int]:
    """What a bar counts of it."""
    return {name: value for name, value in usage._asdict().items() if name != "seconds"}


async def _checked(
    rows: list[dict[str, Any]],
    checks: dict[int, list[dict[str, Any]]],
    engine: Engine,
    run: Run,
    pictures: Pictures,
) -> tuple[list[dict[str, Any]], Usage]:
    """The rows, those whose name the model does not find again turned into abstentions; all questions about an image
    together."""
    named = {row["feature"]: Concept(row["name"], row["definition"]) for row in rows if row["status"] == NAMED}
    images = {feature: [row["image_id"] for row in checks.get(feature, [])] for feature in named}
    needs = [Need(concept, images[feature]) for feature, concept in named.items() if images[feature]]
    ledger = ledger_of(run, "answers", answers(), identity_of(run.recipe), detection_prompt())
    where = await looked_up(run, "names", pictures, needs)
    plan = Plan.of(needs, where, ledger.load().answered())
    with run.bar("names", len(plan), "questions") as bar:
        usage = await detect(engine, plan, pictures, ledger, in_flight(run), lambda asked: count_answers(bar, asked))
    answer_of = {row["address"]: (row["p_yes"], row["mass"]) for row in ledger.load().table.to_pylist()}

    def found(row: dict[str, Any]) -> SelfCheck | None:
        shown = checks.get(row["feature"], []) if row["feature"] in named else []
        said = [answer_of.get(where.of(named[row["feature"]], image["image_id"]), (None, None)) for image in shown]
        p_n, mass_n = np.array(said, dtype=np.float64).reshape(-1, 2).T
        return self_check(score(answered(p_n, mass_n), [image["value"] > 0 for image in shown], mass_n))

    return [_taken_back(row, check) if (check := found(row)) and not check.kept else row for row in rows], usage


def _taken_back(row: dict[str, Any], check: SelfCheck) -> dict[str, Any]:
    """The row of a name that the model did not find again."""
    said = f"{TAKEN_BACK} {row['name']!r}: {check.reason}; the reply: {row['evidence']}"
    kept = {key: row[key] for key in ("feature", "source", "attempts")}
    return kept | {"alternatives": [], "status": ABSTAINED, "evidence": said}


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


def _lacking_rows(samples: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Features that cannot be named: active on no image at all, or on too few naming patients."""
    dead = set(samples["dead"])
    for feature, (active, silent) in ((int(f), counts) for f, counts in samples["insufficient"][NAMING].items()):
        why = f"{active} naming patients with an active image, {silent} without"
        status, evidence = (DEAD, "active on no image") if feature in dead else (INSUFFICIENT, why)
        base = {"feature": feature, "source": SOURCE, "alternatives": [], "attempts": 0}
        yield base | {"status": status, "evidence": evidence}


def _what(run: Run) -> dict[str, Any]:
    naming = naming_of(run)
    prompt = rules_of(naming).prompt(naming.positives)
    asked = {"model": identity_of(run.recipe), "prompt": prompt, "attempts": naming.attempts}
    return asked | {"side": naming.image_size, "check": detection_prompt()}


def _parents(recipe: Recipe) -> tuple[str, ...]:
    return ("samples", "manifest")


NAMES = Stage("names", 3, _parents, _what, _make)
