"""Stages `answers` and `label_answers`: is a name visible in an image? Image by image, each question once.

`answers` tests the model's own names and all controls; it needs no correlation, so it runs parallel to the analysis.
`label_answers` tests the names from labels afterwards; most of its questions have been answered as controls. The same
holds for the names of a vocabulary (vocabulary_names.py).
"""

import asyncio
from collections.abc import Iterable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from medsae_ray.config import Recipe
from medsae_ray.core.analysis.findings import absent_name
from medsae_ray.core.artifacts.artifact import Artifact, Draft
from medsae_ray.core.artifacts.metrics import ManifestMetrics, metrics_of
from medsae_ray.core.artifacts.name_metrics import AnswersMetrics
from medsae_ray.core.datasets.rows import label_matrix
from medsae_ray.core.naming.asking import detect
from medsae_ray.core.naming.controls import ControlRules, controls_of, fitting_labels, related_labels
from medsae_ray.core.naming.engine import Usage
from medsae_ray.core.naming.ledger import Loaded, answers_schema
from medsae_ray.core.naming.pictures import BLANK
from medsae_ray.core.naming.plan import TRIVIAL, Addresses, Concept, Need, Plan
from medsae_ray.core.naming.prompts import detection_prompt
from medsae_ray.engine.session import identity_of, naming_of, session
from medsae_ray.runtime.made import Made
from medsae_ray.runtime.run import Run, Stage
from medsae_ray.stages.asking import count_answers, looked_up
from medsae_ray.stages.names import NAMED, in_flight, ledger_of, pictures_of
from medsae_ray.stages.samples import DETECTION, POOL, by_feature, without_naming


def concepts_of(names: pa.Table) -> dict[int, Concept]:
    """Return the concept that each named feature is tested for."""
    rows = names.filter(pa.compute.equal(names["status"], NAMED)).select(["feature", "name", "definition"])
    return {row["feature"]: Concept(row["name"], row["definition"]) for row in rows.to_pylist()}


class LabelQuestions(NamedTuple):
    """The questions that test names from labels."""

    concept_of: dict[int, Concept]
    turned: frozenset[int]
    """The features of a label's absence. The question is about the label, as "is no edema visible?" is not one; no
    counts as yes."""


def asked_of(concept_of: dict[int, Concept], labels: list[str]) -> LabelQuestions:
    """Convert names from labels to questions."""
    label_of = {absent_name(label): label for label in labels}
    label_of = {name: label for name, label in label_of.items() if name not in labels}
    turned = frozenset(feature for feature, concept in concept_of.items() if concept.name in label_of)
    asked = {feature: Concept(label_of[concept_of[feature].name]) for feature in turned}
    return LabelQuestions(concept_of | asked, turned)


class ControlNames(NamedTuple):
    """The controls of a run's names, shared by the stages that ask and the one that judges."""

    rules: ControlRules
    fitting_of: dict[int, frozenset[str]]
    """Feature -> the labels that are true of it."""

    @classmethod
    def of(cls, run: Run, manifest: Artifact, samples: Artifact) -> "ControlNames":
        """Derive the rules of the controls, and the labels that fit each tested feature, from manifest and samples."""
        what, naming, table = run.recipe.what, naming_of(run.recipe), manifest.table()
        labels, y_NL = metrics_of(manifest, ManifestMetrics)["labels"], label_matrix(table, what.uncertain, what.blank)
        rules = ControlRules(naming.seed, naming.detection.random_names, tuple(labels), related_labels(y_NL, labels))
        place_of = {image: place for place, image in enumerate(table["image_id"].to_pylist())}

        def fitting(rows: list[dict[str, Any]]) -> frozenset[str]:
            active_n = np.array([row["value"] > 0 for row in rows], dtype=np.float64)
            return fitting_labels(y_NL[[place_of[row["image_id"]] for row in rows]], active_n, labels)

        tested = by_feature(samples.table(), DETECTION)
        return cls(rules, {feature: fitting(rows) for feature, rows in tested.items()})

    def of_feature(self, concept_of: dict[int, Concept], feature: int) -> tuple[list[Concept], int]:
        """Choose the controls of one feature, see `controls_of`."""
        return controls_of(concept_of, feature, self.rules, self.fitting_of.get(feature, ()))


def name_needs(concept_of: dict[int, Concept], samples: dict[int, list[str]], controls: ControlNames) -> list[Need]:
    """Each feature's name and its controls, on the feature's own images; each name on the blank image."""
    needs = [Need(concept, [BLANK]) for concept in set(concept_of.values())]
    for feature, concept in concept_of.items():
        if images := samples.get(feature, []):
            needs += [Need(c, images) for c in (concept, *controls.of_feature(concept_of, feature)[0])]
    return needs


def control_needs(samples: dict[int, list[str]], pool: list[str], labels: list[str]) -> list[Need]:
    """Return the trivial name on every sample, and each label of the dataset on the pool, which show what the model
    can see at all."""
    everywhere = sorted({image for images in samples.values() for image in images})
    return [Need(TRIVIAL, everywhere), *(Need(Concept(label), pool) for label in labels)]


def sample_images(samples: Artifact) -> tuple[dict[int, list[str]], list[str]]:
    """Return the detection images of each feature, and the pool."""
    table = samples.table()
    of = {feature: [row["image_id"] for row in rows] for feature, rows in by_feature(table, DETECTION).items()}
    return of, [row["image_id"] for row in by_feature(table, POOL).get(-1, [])]


def _answers(run: Run, draft: Draft) -> Made:
    of, pool = sample_images(draft.parents["samples"])
    concept_of = concepts_of(draft.parents["names"].table())
    tested = {feature: images for feature, images in of.items() if feature in concept_of}
    needs = name_needs(concept_of, of, ControlNames.of(run, draft.parents["manifest"], draft.parents["samples"]))
    needs += control_needs(tested, pool, metrics_of(draft.parents["manifest"], ManifestMetrics)["labels"])
    return ask_all(run, draft, needs)


def _label_answers(run: Run, draft: Draft) -> Made:
    labels = metrics_of(draft.parents["manifest"], ManifestMetrics)["labels"]
    return name_answers(run, draft, asked_of(concepts_of(draft.parents["label_names"].table()), labels).concept_of)


def name_answers(run: Run, draft: Draft, concept_of: dict[int, Concept]) -> Made:
    """Test names with their controls."""
    of, _ = sample_images(draft.parents["samples"])
    tested = {feature: images for feature, images in of.items() if feature in concept_of}
    needs = name_needs(concept_of, of, ControlNames.of(run, draft.parents["manifest"], draft.parents["samples"]))
    return ask_all(run, draft, [*needs, *control_needs(tested, [], [])])


def ask_all(run: Run, draft: Draft, needs: Iterable[Need]) -> Made:
    """Answer the open questions, then write all answers to `needs`."""
    needs = [need for need in needs if need.image_ids]
    pictures = pictures_of(run, draft.parents["manifest"])
    ledger = ledger_of(run, "answers", answers_schema(), identity_of(run.recipe), detection_prompt())

    where = asyncio.run(looked_up(partial(run.bar, draft.stage), identity_of(run.recipe), pictures, needs))
    known = ledger.load()
    plan = Plan.of(needs, where, known.answered())

    async def ask() -> Usage:
        async with session(run.recipe, run.engine) as engine:
            return await detect(engine, plan, pictures, ledger, in_flight(run), lambda asked: count_answers(bar, asked))

    usage = Usage()
    if len(plan):
        with run.bar(draft.stage, len(plan), "questions") as bar:
            usage = asyncio.run(ask())
        known = ledger.load()
    table = answer_table(needs, where, known)
    failed = table.num_rows - table["failed"].null_count
    receipt = draft.writer(answers_schema()).write(0, table, table.num_rows)
    metrics = AnswersMetrics(asked=len(plan), unreadable=plan.unreadable, failed=failed, usage=usage.stored())
    return Made([receipt], metrics)


def answer_table(needs: Iterable[Need], where: Addresses, known: Loaded) -> pa.Table:
    """Return one row per (image, concept). Images of the same bytes share one answer and have a row each."""
    pairs = {(image_id, concept) for concept, image_ids in needs for image_id in image_ids}
    ordered = sorted(pairs, key=lambda pair: (pair[0], pair[1].name, pair[1].definition or ""))
    found = [(image, address) for image, concept in ordered if (address := where.of(concept, image)) is not None]
    table = known.rows([address for _, address in found])
    place = table.schema.get_field_index("image_id")
    return table.set_column(
        place, answers_schema().field("image_id"), pa.array([image for image, _ in found], pa.string())
    )


def questions_what(run: Run) -> dict[str, Any]:
    """Return the settings that the questions depend on, as part of an artifact's identity."""
    rules = naming_of(run.recipe)
    return {
        "model": identity_of(run.recipe),
        "prompt": detection_prompt(),
        "side": rules.image_size,
        "random_names": rules.detection.random_names,
        "seed": rules.seed,
        "uncertain": run.recipe.what.uncertain,
        "blank": run.recipe.what.blank,
    }


def _parents(recipe: Recipe) -> tuple[str, ...]:
    return ("samples", "names", "manifest")


def _label_parents(recipe: Recipe) -> tuple[str, ...]:
    return ("samples", "label_names", "manifest")


ANSWERS = Stage("answers", 3, _parents, questions_what, _answers, lacks=without_naming)
LABEL_ANSWERS = Stage("label_answers", 2, _label_parents, questions_what, _label_answers, lacks=without_naming)
