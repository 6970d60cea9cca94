"""The check of a feature's names on images of the naming split: the best name is kept, or none."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from medsae_ray.core.naming.asking import detect
from medsae_ray.core.naming.engine import Engine, Usage
from medsae_ray.core.naming.ledger import Ledger
from medsae_ray.core.naming.pictures import Pictures
from medsae_ray.core.naming.plan import Addresses, Concept, Need, Plan
from medsae_ray.core.naming.scores import answered, score
from medsae_ray.core.naming.self_check import ChosenName, SelfCheck, choose, names_to_try, self_check
from medsae_ray.core.naming.verdict import ABSTAINED
from medsae_ray.stages.asking import OpenBar, count_answers, looked_up

TAKEN_BACK = "taken back:"
"""The first words of the evidence of an abstention after the model gave a name."""
OF_THE_FIRST = ("definition", "category", "location", "laterality", "confidence", "fraction_of_a")
"""The fields of a reply that describe only its first name."""

Row = dict[str, Any]
"""A row of `schema.names()`; the rows of a check are those of `schema.samples()`."""
Answer = tuple[float | None, float | None]
"""The p(yes) and its mass."""


async def checked(
    rows: list[Row],
    checks: Mapping[int, list[Row]],
    engine: Engine,
    identity: str,
    pictures: Pictures,
    ledger: Ledger,
    in_flight: int,
    open_bar: OpenBar,
) -> tuple[list[Row], Usage]:
    """Return the named rows with the best of their names, or as abstentions; all questions about an image are asked
    together.

    `checks` are the images of each feature; a feature without any keeps its first name.
    """
    tried = {row["feature"]: names_to_try(Concept(row["name"], row["definition"]), row["alternatives"]) for row in rows}
    shown = {feature: checks[feature] for feature in tried if checks.get(feature)}
    needs = [
        Need(name, [i["image_id"] for i in shown[f]]) for f, names in tried.items() if f in shown for name in names
    ]
    where = await looked_up(open_bar, identity, pictures, needs)
    plan = Plan.of(needs, where, ledger.load().answered())
    with open_bar(len(plan), "questions") as bar:
        usage = await detect(engine, plan, pictures, ledger, in_flight, lambda asked: count_answers(bar, asked))
    answer_of = {row["address"]: (row["p_yes"], row["mass"]) for row in ledger.load().table.to_pylist()}
    found = {f: choose([_check(name, shown[f], where, answer_of) for name in tried[f]]) for f in shown}
    return [_decided(row, found.get(row["feature"]), tried[row["feature"]]) for row in rows], usage


def _check(
    name: Concept, images: list[Row], where: Addresses, answer_of: Mapping[str, tuple[float, float]]
) -> SelfCheck | None:
    said = [answer_of.get(where.of(name, image["image_id"]) or "", (np.nan, np.nan)) for image in images]
    p_n, mass_n = np.array(said, dtype=np.float64).reshape(-1, 2).T
    return self_check(score(answered(p_n, mass_n), [image["value"] > 0 for image in images], mass_n))


def _decided(row: Row, choice: ChosenName | None, tried: list[Concept]) -> Row:
    if choice is None:
        return row
    if not choice.kept:
        return _taken_back(row, choice, tried)
    if not choice.place:
        return row
    best = tried[choice.place].name
    others = [concept.name for concept in tried if concept.name != best]
    found = f"AUROC {choice.check.auroc:.2f} on {choice.check.n} images of the naming patients"
    why = f"the best of the model's {choice.tried} names ({found}); it first said {others[0]!r}"
    return row | dict.fromkeys(OF_THE_FIRST) | {"name": best, "alternatives": others, "choice": why}


def _taken_back(row: Row, choice: ChosenName, tried: list[Concept]) -> Row:
    """Return the row of a feature whose names the model did not recognise again."""
    said = f"{TAKEN_BACK} {choice.reason([concept.name for concept in tried])}; the reply: {row['evidence']}"
    kept = {key: row[key] for key in ("feature", "source", "attempts")}
    return kept | {"alternatives": [], "status": ABSTAINED, "evidence": said}
