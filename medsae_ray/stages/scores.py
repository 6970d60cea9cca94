"""Stage `scores`: what the answers say of every name, held against its controls."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from medsae_ray.config import Recipe
from medsae_ray.core.analysis.values import Floats
from medsae_ray.core.artifact import Draft
from medsae_ray.core.datasets.rows import label_matrix
from medsae_ray.core.findings import absent_name
from medsae_ray.core.naming import verdict
from medsae_ray.core.naming.metadata import best_column
from medsae_ray.core.naming.pictures import BLANK
from medsae_ray.core.naming.questions import TRIVIAL, Concept, plain, random_names
from medsae_ray.core.naming.sampling import HARD
from medsae_ray.core.naming.scores import Score, best_label, ceiling, control, score
from medsae_ray.core.naming.verdict import Trial, Untested
from medsae_ray.core.schema import METADATA
from medsae_ray.stages.detection import asked_of, concepts_of, sample_images
from medsae_ray.stages.features import deciding
from medsae_ray.stages.naming import NAMED, naming_of
from medsae_ray.stages.run import Made, Run, Stage
from medsae_ray.stages.samples import DETECTION, by_feature

Answer = tuple[float, float]
NONE: Answer = (np.nan, np.nan)


class Bench(NamedTuple):
    """All that a name is held against. Images are known by their id."""

    rows_of: dict[int, list[dict[str, Any]]]
    """Detection sample of each feature."""
    answers: Mapping[tuple[str, Concept], Answer]
    """(image, concept) -> p(yes), mass."""
    y_of: dict[str, np.ndarray]
    """Labels of each image, NaN = unknown."""
    metadata: dict[str, dict[str, str | None]]
    """Column -> image -> value."""
    labels: list[str]
    ceilings: dict[str, Any]
    """Label -> AUROC of the model for it."""
    seed: int
    nulls: int


def _bench(run: Run, draft: Draft, answers: pa.Table) -> Bench:
    what, manifest = run.recipe.what, draft.parents["manifest"]
    table, labels = manifest.table(), manifest.record.metrics["labels"]
    images = table["image_id"].to_pylist()
    y_NL = label_matrix(table, what.uncertain, what.blank)
    y_of = dict(zip(images, y_NL, strict=True))
    columns = sorted(c for c in table.column_names if c.startswith(METADATA))
    other_words = {METADATA + name for name in deciding(manifest, y_NL)}  # a label in other words is no shortcut
    columns = [c for c in columns if c not in other_words]
    metadata = {c.removeprefix(METADATA): dict(zip(images, table[c].to_pylist(), strict=True)) for c in columns}
    found = {_key(row): (_real(row["p_yes"]), _real(row["mass"])) for row in answers.to_pylist()}
    _, pool = sample_images(draft.parents["samples"])
    ceilings = {
        label: ceiling([found.get((i, Concept(label)), NONE)[0] for i in pool], [y_of[i][j] for i in pool])
        for j, label in enumerate(labels)
    }
    rules = naming_of(run)
    rows_of = by_feature(draft.parents["samples"].table(), DETECTION)
    return Bench(rows_of, found, y_of, metadata, labels, ceilings, rules.seed, rules.detection.random_names)


def _key(row: dict[str, Any]) -> tuple[str, Concept]:
    return row["image_id"], Concept(row["name"], row["definition"])


def _real(value: float | None) -> float:
    return np.nan if value is None else value


def tested(bench: Bench, feature: int, concept_of: dict[int, Concept], turned: bool = False) -> Trial:
    """One name with all of its controls on the same images; answers are `turned` for the absence of what was asked."""
    images = [row["image_id"] for row in bench.rows_of[feature]]
    y_n = np.array([row["value"] > 0 for row in bench.rows_of[feature]], dtype=np.float64)
    kept_n = (y_n == 1) | np.array([row["role"] == HARD for row in bench.rows_of[feature]])

    def answered(concept: Concept) -> tuple[list[float], list[float]]:
        pairs = [bench.answers.get((image, concept), NONE) for image in images]
        return [p for p, _ in pairs], [mass for _, mass in pairs]

    def controlled(concept: Concept) -> Score:
        return control(answered(concept)[0], y_n)

    def against_hard(p_n: Sequence[float], judge: Callable[[Floats, Floats], Score]) -> float:
        return judge(np.array(p_n)[kept_n], y_n[kept_n]).area.auc

    concept = concept_of[feature]
    p_n, mass_n = answered(concept)
    p_n = [1 - p for p in p_n] if turned else p_n
    nulls = random_names(concept_of, feature, bench.seed, bench.nulls)
    same = next((label for label in bench.labels if plain(label) == plain(concept.name)), None)
    blank = bench.answers.get((BLANK, concept), NONE)[0]
    blank = 1 - blank if turned else blank
    return Trial(
        feature,
        absent_name(concept.name) if turned else concept.name,
        score(p_n, y_n, mass_n),
        nulls=tuple(map(controlled, nulls)),
        trivial=controlled(TRIVIAL),
        blank_p=None if np.isnan(blank) else blank,
        ceiling=bench.ceilings[same].auc if same else None,
        label=best_label({n: [bench.y_of[i][j] for i in images] for j, n in enumerate(bench.labels)}, y_n),
        metadata=best_column({n: [of[i] for i in images] for n, of in bench.metadata.items()}, y_n),
        hard=against_hard(p_n, score),
        nulls_hard=tuple(against_hard(answered(null)[0], control) for null in nulls),
    )


class NameSource(NamedTuple):
    """Where names come from."""

    name: str
    names: str
    """The stage that gives them,"""
    answers: str
    """and the one that tests them."""


def sources_of(recipe: Recipe) -> list[NameSource]:
    """All sources of names in a naming run."""
    found = [NameSource("vlm", "names", "answers"), NameSource("label", "label_names", "label_answers")]
    vocabulary = NameSource("vocabulary", "vocabulary_names", "vocabulary_answers")
    return [*found, vocabulary] if recipe.what.vocabulary else found


class Source(NamedTuple):
    """All names of one source, scored."""

    table: pa.Table
    metrics: dict[str, Any]


def score_source(bench: Bench, source: str, names: pa.Table) -> Source:
    """Every feature of a source: tested names with verdicts, and the others with the reason why not."""
    concept_of, turned = asked_of(concepts_of(names), bench.labels if source == "label" else [])
    known = [feature for feature in sorted(concept_of) if feature in bench.rows_of]
    done = [tested(bench, feature, concept_of, feature in turned) for feature in known]
    left = [
        Untested(row["feature"], verdict.INSUFFICIENT if row["status"] == NAMED else row["status"], row["name"])
        for row in names.select(["feature", "status", "name"]).to_pylist()
        if row["feature"] not in concept_of or row["feature"] not in bench.rows_of
    ]
    table = verdict.scores_table(source, done, left)
    chance, paper = verdict.chance_namer(done), verdict.paper_count([t.score for t in done])
    found = table["verdict"].to_pylist()
    metrics = {
        "named": len(concept_of),
        "tested": len(done),
        **{kind: found.count(kind) for kind in verdict.VERDICTS},
        "random_name_auroc": _number(chance.mean_auroc),
        "random_name_auroc_hard": _number(chance.mean_auroc_hard),
        "expected_by_chance": _number(chance.expected_verified),
        "paper": {key: _number(value) for key, value in paper._asdict().items()},
    }
    return Source(table, metrics)


def _make(run: Run, draft: Draft) -> Made:
    parents = draft.parents
    bench = _bench(run, draft, pa.concat_tables([parents[s.answers].table() for s in sources_of(run.recipe)]))
    sources = {source.name: parents[source.names].table() for source in sources_of(run.recipe)}
    scored = {source: score_source(bench, source, names) for source, names in sources.items()}
    table = pa.concat_tables([s.table for s in scored.values()])
    receipt = draft.writer(verdict.scores()).write(0, table, table.num_rows)
    ceilings = {label: {k: _number(v) for k, v in area._asdict().items()} for label, area in bench.ceilings.items()}
    return Made([receipt], {**{s: found.metrics for s, found in scored.items()}, "ceilings": ceilings})


def _number(value: float | int) -> float | int | None:
    return None if value != value else value


def _what(run: Run) -> dict[str, Any]:
    what, rules = run.recipe.what, naming_of(run)
    return {
        "uncertain": what.uncertain,
        "blank": what.blank,
        "seed": rules.seed,
        "random_names": rules.detection.random_names,
    }


def _parents(recipe: Recipe) -> tuple[str, ...]:
    sources = sources_of(recipe)
    return ("manifest", "samples", *(s.names for s in sources), *(s.answers for s in sources))


SCORES = Stage("scores", 3, _parents, _what, _make)
