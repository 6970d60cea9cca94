"""All ways to query a finished phantom run, on the same queries: by name, in other words, and negated (queries.yaml).

Precision at ten counts what was planted, on images of detection patients, one of each; images that are missing count
as wrong. For what a query excludes it is the share of the ten that have it, beside its prevalence, over queries that
were answered. "picks that are right" is a picker that knows the finding behind each query, which is the most that a
model could give; `--model` and `--url` add a real one.
Usage: python benchmarks/queries.py ROOT [--recipe phantom] [--set report] [--model NAME --url URL]
"""

import argparse
import asyncio
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml
from lexical_queries import truths

from medsae_ray.config import load_recipe
from medsae_ray.core.datasets.phantom import PhantomDataset
from medsae_ray.core.naming.engine import BATCH, Engine, ImageAnswers, Usage, Writing, Written, Wrote
from medsae_ray.core.retrieval.answer import QueryAnswer, Ranking
from medsae_ray.core.retrieval.query import Library
from medsae_ray.core.retrieval.shelf import Match
from medsae_ray.engine.query_model import TextModel, with_model
from medsae_ray.finished import library_of, open_run

SPLIT, IMAGES, DRAWS, RESAMPLES = "detection", 10, 50, 2000
KINDS = ("name", "words", "negated", "both")


class Query(NamedTuple):
    """One line of queries.yaml."""

    kind: str
    set: str
    text: str
    want: list[str]
    exclude: list[str]


class Outcome(NamedTuple):
    """What a way found for one query."""

    images: list[str]
    refused: bool = False


Way = Callable[[Query], Outcome]


class RightPicks:
    """An engine that picks the names of the findings that a query is about, filled up to three if three are needed."""

    identity = "right picks"

    def __init__(self, queries: list[Query]) -> None:
        self.of = {query.text: query for query in queries}

    async def write(self, writing: Writing, priority: int = BATCH) -> Wrote:
        """Answer in the schema."""
        listed, query = (str(part) for part in writing.parts)
        names = re.findall(r"^(\d+)\. (.+?)(?: - .*)?$", listed, flags=re.MULTILINE)
        number_of = {name.casefold(): int(number) for number, name in names}
        text = query.removeprefix("Query: ")
        about = self.of.get(text, Query("", "", text, [text], []))
        want, exclude = (
            [number_of[f.casefold()] for f in found if f.casefold() in number_of]
            for found in (about.want, about.exclude)
        )
        least = writing.schema["properties"]["want"].get("minItems", 0)
        want += [n for n in range(1, len(names) + 1) if n not in (*want, *exclude)][: max(0, least - len(want))]
        said = json.dumps({"want": want, "exclude": exclude, "unmet": []})
        return Wrote(Written(said, "stop"), Usage())

    async def ask(self, image: bytes, questions: list[str], priority: int = BATCH) -> ImageAnswers:
        """Refuse: no query asks about an image."""
        raise NotImplementedError

    async def chat(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Refuse: no query chats."""
        raise NotImplementedError

    async def check(self) -> None:
        """Return: it is there."""


def outcome(answer: QueryAnswer) -> Outcome:
    """Return the images of an answer."""
    return Outcome([row["image_id"] for row in answer["images"]], answer["refused"] is not None)


def ways_of(library: Library, queries: list[Query], engine: Engine) -> dict[str, Way]:
    """Return every way that needs no server, by its name."""

    def words(features: int, ranking: Ranking = "strength") -> Way:
        return lambda query: outcome(library.ask(query.text, features, IMAGES, SPLIT, "names", ranking))

    def picks(features: int, ranking: Ranking = "strength", exactly: bool = False) -> Way:
        return lambda query: outcome(
            asyncio.run(library.ask_model(engine, query.text, features, IMAGES, SPLIT, ranking, exactly))
        )

    return {
        "words of names, 3 features": words(3),
        "words of names, 1 feature": words(1),
        "words of names, by cosine": words(3, "cosine"),
        "picks that are right": picks(3),
        "picks that are right, by cosine": picks(3, "cosine"),
        "picks that are right among three, by cosine (SAIL)": picks(3, "cosine", exactly=True),
    }


def random_features(library: Library, alive: np.ndarray) -> Callable[[int], Way]:
    """Return the control: three features drawn at random, the same for every query of a draw."""

    def drawn(draw: int) -> Way:
        chosen = np.random.default_rng(draw).choice(alive, 3, replace=False)
        found = library.shelf.strongest([Match(int(f), 1.0, None) for f in chosen], IMAGES, SPLIT)
        return lambda query: Outcome([row["image_id"] for row in found])

    return drawn


class Truth(NamedTuple):
    """What was planted, and how often over one image of each detection patient."""

    of: dict[str, dict[str, int]]
    prevalence: dict[str, float]

    def wanted(self, query: Query, found: Outcome) -> float:
        """Return the share of the ten that show all that is wanted and nothing that is excluded."""
        return sum(self._fits(self.of[image], query) for image in found.images) / IMAGES

    def excluded(self, query: Query, found: Outcome) -> float:
        """Return the share of what was found that has an excluded finding; NaN if nothing was found."""
        bad = [any(self.of[image][label] for label in query.exclude) for image in found.images]
        return float(np.mean(bad)) if bad else np.nan

    def chance(self, query: Query, tested: list[str]) -> float:
        """Return the precision of random images."""
        return float(np.mean([self._fits(self.of[image], query) for image in tested]))

    def _fits(self, planted: dict[str, int], query: Query) -> bool:
        return all(planted[label] for label in query.want) and not any(planted[label] for label in query.exclude)


def interval(values: list[float]) -> str:
    """Return a mean with its 95 % bootstrap interval over queries."""
    known = np.array([value for value in values if not np.isnan(value)])
    if not len(known):
        return "–"
    rng = np.random.default_rng(0)
    means = known[rng.integers(0, len(known), (RESAMPLES, len(known)))].mean(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return f"{known.mean():.2f} ({low:.2f} to {high:.2f})"


def read_queries(chosen: str) -> list[Query]:
    """Read the queries of one half, or of both."""
    rows = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text())
    return [query for row in rows if (query := Query(**row)).set == chosen or chosen == "all"]


def main() -> None:
    """Print a table for each kind of query."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root")
    parser.add_argument("--recipe", default="phantom")
    parser.add_argument("--set", default="report", choices=("choose", "report", "all"))
    parser.add_argument("--model")
    parser.add_argument("--url")
    chosen = parser.parse_args()
    recipe, queries = load_recipe(chosen.recipe), read_queries(chosen.set)
    run = open_run(recipe, chosen.root)
    library, dataset = library_of(run), recipe.what.dataset
    assert isinstance(dataset, PhantomDataset), "only phantoms have a planted truth"
    shelf, of = library.shelf, truths(library.shelf.image_N, dataset.seed)
    held_N = shelf.split_N == SPLIT
    tested = list(dict(zip(shelf.patient_N[held_N], shelf.image_N[held_N], strict=True)).values())
    labels = {label for query in queries for label in (*query.want, *query.exclude)}
    truth = Truth(of, {label: float(np.mean([of[image][label] for image in tested])) for label in labels})
    ways = ways_of(library, queries, RightPicks(queries))
    if chosen.model and chosen.url:
        model = TextModel(chosen.url, chosen.model)
        ways[f"picks of {chosen.model}"] = lambda query: outcome(
            with_model(recipe, model, lambda engine: library.ask_model(engine, query.text, 3, IMAGES, SPLIT))
        )
    control = random_features(library, np.flatnonzero(shelf.max_F > 0))
    for kind in KINDS:
        _print_kind(kind, [query for query in queries if query.kind == kind], ways, control, truth, tested)


def _print_kind(
    kind: str,
    queries: list[Query],
    ways: dict[str, Way],
    control: Callable[[int], Way],
    truth: Truth,
    tested: list[str],
) -> None:
    negated = kind in ("negated", "both")
    print(f"\n{kind}: {len(queries)} queries; {interval([truth.chance(q, tested) for q in queries])} by chance", end="")
    if negated:
        print(f"; prevalence of the excluded {interval([truth.prevalence[q.exclude[0]] for q in queries])}", end="")
    print(
        "\n\n| way | precision at 10 | answered |" + (" excluded among found | above prevalence |" if negated else "")
    )
    print("|---|---|---|" + ("---|---|" if negated else ""))
    for name, way in ways.items():
        found = [way(query) for query in queries]
        answered = sum(bool(one.images) for one in found)
        cells = [name, interval([truth.wanted(q, f) for q, f in zip(queries, found, strict=True)])]
        cells.append(f"{answered} of {len(queries)}, {sum(one.refused for one in found)} refused")
        if negated:
            shares = [truth.excluded(q, f) for q, f in zip(queries, found, strict=True)]
            above = [q.text for q, s in zip(queries, shares, strict=True) if s > truth.prevalence[q.exclude[0]]]
            cells += [interval(shares), f"{len(above)}" + (f": {'; '.join(above)}" if above else "")]
        print("| " + " | ".join(cells) + " |")
    draws = [control(draw) for draw in range(DRAWS)]
    means = [float(np.mean([truth.wanted(q, way(q)) for way in draws])) for q in queries]
    cells = ["three random features", interval(means), f"{len(queries)} of {len(queries)}"]
    if negated:
        cells += [interval([float(np.nanmean([truth.excluded(q, way(q)) for way in draws])) for q in queries]), ""]
    print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
