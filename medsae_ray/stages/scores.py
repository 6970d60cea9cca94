"""Stage `scores`: the verdict on every name from the answers, compared with its controls."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, NamedTuple, cast

import numpy as np
import pyarrow as pa

from medsae_ray.config import Recipe
from medsae_ray.core.analysis.auroc import Auroc
from medsae_ray.core.analysis.findings import absent_name
from medsae_ray.core.analysis.values import Floats
from medsae_ray.core.artifacts.artifact import Artifact, Draft
from medsae_ray.core.artifacts.columns import nan_to_null, null_to_nan, with_null
from medsae_ray.core.artifacts.metrics import ManifestMetrics, metrics_of
from medsae_ray.core.artifacts.name_metrics import (
    CeilingFigures,
    PaperFigures,
    SamplesMetrics,
    ScoresMetrics,
    Sight,
    SourceMetrics,
    SourceName,
)
from medsae_ray.core.artifacts.schema import METADATA
from medsae_ray.core.artifacts.warnings import RunWarning
from medsae_ray.core.datasets.rows import label_matrix
from medsae_ray.core.naming import verdict
from medsae_ray.core.naming.controls import ControlRules, label_in
from medsae_ray.core.naming.metadata import best_column
from medsae_ray.core.naming.pictures import BLANK
from medsae_ray.core.naming.plan import TRIVIAL, Concept, normalised_name
from medsae_ray.core.naming.sampling import HARD
from medsae_ray.core.naming.scores import (
    LEAST_MASS,
    LOW_MASS,
    Ceiling,
    Score,
    answered,
    best_label,
    ceilings,
    control,
    score,
)
from medsae_ray.core.naming.verdict import Trial, Untested
from medsae_ray.engine.session import naming_of
from medsae_ray.runtime.made import Made
from medsae_ray.runtime.run import Run, Stage
from medsae_ray.stages.answers import ControlNames, asked_of, concepts_of, sample_images
from medsae_ray.stages.features import deciding
from medsae_ray.stages.names import NAMED
from medsae_ray.stages.samples import DETECTION, by_feature, without_naming

Answer = tuple[float, float]
NONE: Answer = (np.nan, np.nan)
LOW_MASS_SHARE = 0.05
"""The share of questions without an answer for want of mass above which a warning is due."""


class Bench(NamedTuple):
    """The data that names are tested against. Images are identified by their id."""

    rows_of: dict[int, list[dict[str, Any]]]
    """The detection sample of each feature."""
    answers: Mapping[tuple[str, Concept], Answer]
    """(image, concept) -> p(yes), mass."""
    y_of: dict[str, np.ndarray]
    """The labels of each image, NaN = unknown."""
    metadata: dict[str, dict[str, str | None]]
    """Column -> image -> value."""
    labels: list[str]
    ceilings: dict[str, Ceiling]
    """The model's ability to see each label."""
    seed: int
    nulls: int
    faint: Mapping[str, float] = MappingProxyType({})
    """Feature -> share of the test images with any activation that were left out as faint."""
    controls: ControlNames | None = None
    """The controls that were asked about; by default those of unrelated labels."""

    def controls_of(self, concept_of: dict[int, Concept], feature: int) -> tuple[list[Concept], int]:
        """Return the control names of a feature, see `ControlNames.of_feature`; made from the bench's own seed and
        labels if it has no `controls`."""
        controls = self.controls or ControlNames(ControlRules(self.seed, self.nulls, tuple(self.labels)), {})
        return controls.of_feature(concept_of, feature)

    @property
    def blind(self) -> bool:
        """True if labels were asked about and the model distinguishes none of them from its absence."""
        return sight(self.ceilings) == "blind"

    def doubt(self, name: str, controls: int) -> str | None:
        """Return the reason why a name cannot be judged, whatever its score; None if there is none."""
        if self.blind:
            return verdict.BLIND
        unseen = [label for label in label_in(name, self.labels) if self.ceilings[label].seen is False]
        if unseen:
            return f"the model does not tell {unseen[0]!r} from its absence here"
        if controls < verdict.LEAST_CONTROLS:
            return f"only {controls} controls have answers, {verdict.LEAST_CONTROLS} are needed"
        return None


def sight(ceilings: Mapping[str, Ceiling]) -> Sight:
    """Return "seen" if the model distinguishes some label from its absence, "blind" if none, "unknown" if none could
    be asked about."""
    known = [ceiling.seen for ceiling in ceilings.values() if ceiling.seen is not None]
    return "unknown" if not known else "seen" if any(known) else "blind"


def _bench(run: Run, draft: Draft, answers: pa.Table) -> Bench:
    what, manifest = run.recipe.what, draft.parents["manifest"]
    table, labels = manifest.table(), metrics_of(manifest, ManifestMetrics)["labels"]
    images = table["image_id"].to_pylist()
    y_NL = label_matrix(table, what.uncertain, what.blank)
    y_of = dict(zip(images, y_NL, strict=True))
    columns = sorted(c for c in table.column_names if c.startswith(METADATA))
    other_words = {METADATA + name for name in deciding(manifest, y_NL)}  # they decide the label: no shortcut
    columns = [c for c in columns if c not in other_words]
    metadata = {c.removeprefix(METADATA): dict(zip(images, table[c].to_pylist(), strict=True)) for c in columns}
    found = {_key(row): (null_to_nan(row["p_yes"]), null_to_nan(row["mass"])) for row in answers.to_pylist()}
    _, pool = sample_images(draft.parents["samples"])
    p_of = {
        label: answered(*zip(*(found.get((i, Concept(label)), NONE) for i in pool), strict=True)) for label in labels
    }
    seen = ceilings(p_of, {label: [y_of[i][j] for i in pool] for j, label in enumerate(labels)})
    rows_of = by_feature(draft.parents["samples"].table(), DETECTION)
    controls, naming = ControlNames.of(run, manifest, draft.parents["samples"]), naming_of(run.recipe)
    nulls = naming.detection.random_names
    faint = metrics_of(draft.parents["samples"], SamplesMetrics)["faint"]
    return Bench(rows_of, found, y_of, metadata, labels, seen, naming.seed, nulls, faint, controls)


def _key(row: dict[str, Any]) -> tuple[str, Concept]:
    return row["image_id"], Concept(row["name"], row["definition"])


def tested(bench: Bench, feature: int, concept_of: dict[int, Concept], turned: bool) -> Trial:
    """Test one name with all of its controls on the same images; answers are `turned` if the question is about the
    opposite."""
    images = [row["image_id"] for row in bench.rows_of[feature]]
    y_n = np.array([row["value"] > 0 for row in bench.rows_of[feature]], dtype=np.float64)
    kept_n = (y_n == 1) | np.array([row["role"] == HARD for row in bench.rows_of[feature]])

    def asked(concept: Concept) -> tuple[list[float], list[float]]:
        pairs = [bench.answers.get((image, concept), NONE) for image in images]
        return [p for p, _ in pairs], [mass for _, mass in pairs]

    def controlled(concept: Concept) -> Score:
        p_n, mass_n = asked(concept)
        return control(p_n, y_n, mass_n)

    def against_hard(p_n: Floats, judge: Callable[[Floats, Floats], Score]) -> Auroc:
        return judge(p_n[kept_n], y_n[kept_n]).area

    concept = concept_of[feature]
    p_n, mass_n = asked(concept)
    said_n = answered(p_n, mass_n)
    said_n = 1 - said_n if turned else said_n
    controls, nulls = bench.controls_of(concept_of, feature)
    scored = [controlled(c) for c in controls]
    hard = against_hard(said_n, score)
    nulls_hard = [against_hard(null.answer_n, control) for null in scored[:nulls]]
    same = next((label for label in bench.labels if normalised_name(label) == normalised_name(concept.name)), None)
    blank = answered(*bench.answers.get((BLANK, concept), NONE))
    blank = 1 - blank if turned else blank
    trial = Trial(
        feature,
        absent_name(concept.name) if turned else concept.name,
        score(said_n, y_n, mass_n),
        nulls=tuple(scored[:nulls]),
        trivial=controlled(TRIVIAL),
        blank_p=None if np.isnan(blank) else float(blank),
        ceiling=bench.ceilings[same].area.auc if same else None,
        label=best_label({n: [bench.y_of[i][j] for i in images] for j, n in enumerate(bench.labels)}, y_n),
        metadata=best_column({n: [of[i] for i in images] for n, of in bench.metadata.items()}, y_n),
        hard=hard.auc,
        nulls_hard=tuple(area.auc for area in nulls_hard),
        nulls_hard_low=tuple(area.low for area in nulls_hard),
        others=tuple(scored[nulls:]),
        controls=tuple(c.name for c in controls),
        hard_low=hard.low,
        faint=bench.faint.get(str(feature), math.nan),
    )
    return replace(trial, doubt=bench.doubt(concept.name, len(trial.rivals)))


class NameSource(NamedTuple):
    """A source of names."""

    name: SourceName
    names: str
    """The stage that gives the names."""
    answers: str
    """The stage that tests the names."""


def sources_of(recipe: Recipe) -> list[NameSource]:
    """Return all sources of names in a naming run."""
    found = [NameSource("vlm", "names", "answers"), NameSource("label", "label_names", "label_answers")]
    vocabulary = NameSource("vocabulary", "vocabulary_names", "vocabulary_answers")
    return [*found, vocabulary] if recipe.what.vocabulary else found


class Source(NamedTuple):
    """All names of one source, scored."""

    table: pa.Table
    metrics: SourceMetrics


def score_source(
    bench: Bench, source: str, names: pa.Table, each: Callable[[list[int]], Iterable[int]] = lambda features: features
) -> Source:
    """Score every feature of a source: tested names with verdicts, the others with a reason. `each` iterates over
    features, and may count them."""
    concept_of, turned = asked_of(concepts_of(names), bench.labels if source == "label" else [])
    known = [feature for feature in sorted(concept_of) if feature in bench.rows_of]
    done = [tested(bench, feature, concept_of, feature in turned) for feature in each(known)]
    left = [
        _left(row)
        for row in names.select(["feature", "status", "name"]).to_pylist()
        if row["feature"] not in concept_of or row["feature"] not in bench.rows_of
    ]
    table = verdict.scores_table(source, done, left)
    chance, paper = verdict.chance_namer(done), verdict.paper_count([t.score for t in done])
    statuses, verdicts = names["status"].to_pylist(), table["verdict"].to_pylist()
    verified, rejected = verdicts.count(verdict.VERIFIED), verdicts.count(verdict.REJECTED)
    masses = [t.score.low_mass / max(1, t.score.n_pos + t.score.n_neg) for t in done]
    metrics = SourceMetrics(
        features=len(statuses),
        named=len(concept_of),
        tested=verified + rejected,
        verified=verified,
        rejected=rejected,
        untested=verdicts.count(verdict.UNTESTED),
        abstained=statuses.count(verdict.ABSTAINED),
        insufficient_support=statuses.count(verdict.INSUFFICIENT),
        failed=statuses.count(verdict.FAILED),
        dead=statuses.count(verdict.DEAD),
        low_mass_share=float(np.mean(masses)) if masses else None,
        random_name_auroc=nan_to_null(chance.mean_auroc),
        random_name_auroc_hard=nan_to_null(chance.mean_auroc_hard),
        expected_by_chance=nan_to_null(chance.expected_verified),
        paper=cast(PaperFigures, with_null(paper._asdict())),
    )
    return Source(table, metrics)


def _left(row: dict[str, Any]) -> Untested:
    """Return the entry of an untested feature: without a name, or with one and too few patients of the split
    `detection`."""
    if row["status"] != NAMED:
        return Untested(row["feature"], row["status"], row["name"])
    why = "too few patients to test it"
    return Untested(row["feature"], verdict.UNTESTED, row["name"], reason=why)


def _make(run: Run, draft: Draft) -> Made:
    parents = draft.parents
    bench = _bench(run, draft, pa.concat_tables([parents[s.answers].table() for s in sources_of(run.recipe)]))
    sources = {source.name: parents[source.names].table() for source in sources_of(run.recipe)}

    def each(source: str) -> Callable[[list[int]], Iterable[int]]:
        return lambda features: run.track(features, draft.stage, len(features), "names", f"names by {source}")

    scored = {source: score_source(bench, source, names, each(source)) for source, names in sources.items()}
    table = pa.concat_tables([s.table for s in scored.values()])
    receipt = draft.writer(verdict.scores()).write(0, table, table.num_rows)
    metrics = ScoresMetrics(
        vlm=scored["vlm"].metrics,
        label=scored["label"].metrics,
        ceilings={
            label: cast(CeilingFigures, with_null(area._asdict()) | {"seen": seen})
            for label, (area, seen) in bench.ceilings.items()
        },
        sight=sight(bench.ceilings),
    )
    if "vocabulary" in scored:
        metrics["vocabulary"] = scored["vocabulary"].metrics
    return Made([receipt], metrics)


def _warnings(run: Run, scores: Artifact) -> Iterator[RunWarning]:
    """Warn about the limits of the verdicts on the model's names."""
    metrics = metrics_of(scores, ScoresMetrics)
    vlm, asked = metrics["vlm"], [c for c in metrics["ceilings"].values() if c["seen"] is not None]
    if metrics["sight"] == "blind":
        said = f"{verdict.BLIND} ({len(asked)} asked for), so no name is verified. Take another model"
        yield RunWarning("model_blind", said, 0)
    if metrics["sight"] == "unknown" and vlm["named"]:
        said = (
            "no label has images with and without it in the shared test images, so what the model can see is unknown: "
            "its names were held against controls alone"
        )
        yield RunWarning("no_ceiling", said)
    if (share := vlm["low_mass_share"]) and share > LOW_MASS_SHARE:
        said = (
            f"to {share:.0%} of the questions the model answers neither yes nor no (P(yes) + P(no) below {LOW_MASS}), "
            f"and below {LEAST_MASS} that is no answer. Take a model that follows instructions, or mend its template"
        )
        yield RunWarning("no_mass", said, round(share, 3))


def _what(run: Run) -> dict[str, Any]:
    what, rules = run.recipe.what, naming_of(run.recipe)
    return {
        "uncertain": what.uncertain,
        "blank": what.blank,
        "seed": rules.seed,
        "random_names": rules.detection.random_names,
    }


def _parents(recipe: Recipe) -> tuple[str, ...]:
    sources = sources_of(recipe)
    return ("manifest", "samples", *(s.names for s in sources), *(s.answers for s in sources))


SCORES = Stage("scores", 4, _parents, _what, _make, warnings=_warnings, lacks=without_naming)
