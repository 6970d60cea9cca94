"""The whole run: every stage in turn, then the outputs for people: summary.json, report.html and a paper's page."""

import json

from rich.console import Console
from rich.markup import escape

from medsae_ray.config import Recipe
from medsae_ray.core.artifacts.artifact import Artifact
from medsae_ray.core.artifacts.metrics import SweepMetrics, metrics_of
from medsae_ray.core.artifacts.store import Store
from medsae_ray.core.naming.engine import Engine
from medsae_ray.core.report.render import render_report
from medsae_ray.engine.session import check_engine
from medsae_ray.errors import RecipeError
from medsae_ray.outputs.console import (
    closing_table,
    findings_table,
    headline,
    monosemantic_table,
    names_table,
    naming_lines,
    replications,
    untested_lines,
    vocabulary_line,
    warnings_block,
)
from medsae_ray.outputs.likeness import likeness_line
from medsae_ray.outputs.pages import named, page_id, publish
from medsae_ray.outputs.papers import PAGE, paper_line, paper_page, paper_rows
from medsae_ray.outputs.rankings import rankings_table
from medsae_ray.outputs.recovery import recovery_line
from medsae_ray.outputs.report import report_data
from medsae_ray.outputs.retrieval import retrieval_line
from medsae_ray.outputs.summary import summarise
from medsae_ray.outputs.summary_types import Summary
from medsae_ray.outputs.sweep_page import publish_sweep
from medsae_ray.preflight.checks import check
from medsae_ray.preflight.ready import ready
from medsae_ray.runtime.places import check_place
from medsae_ray.runtime.run import Run, Stage, joins
from medsae_ray.runtime.watching import watched
from medsae_ray.stages.activations import ACTIVATIONS
from medsae_ray.stages.answers import ANSWERS, LABEL_ANSWERS
from medsae_ray.stages.atlas import ATLAS
from medsae_ray.stages.duplicates import DUPLICATES, FINGERPRINTS
from medsae_ray.stages.embeddings import EMBEDDINGS, RANDOM_EMBEDDINGS, SECOND_EMBEDDINGS
from medsae_ray.stages.feature_map import FEATURE_MAP
from medsae_ray.stages.features import FEATURES
from medsae_ray.stages.images import IMAGES
from medsae_ray.stages.label_names import LABEL_NAMES
from medsae_ray.stages.likeness import LIKENESS
from medsae_ray.stages.manifest import MANIFEST
from medsae_ray.stages.monosemanticity import MONOSEMANTICITY
from medsae_ray.stages.names import NAMES
from medsae_ray.stages.organs import ORGANS
from medsae_ray.stages.probes import PROBES
from medsae_ray.stages.ranking import RANKING
from medsae_ray.stages.rankings import RANKINGS
from medsae_ray.stages.recovery import RECOVERY
from medsae_ray.stages.replication import DATASET_FEATURES, REPLICATION
from medsae_ray.stages.retrieval import RETRIEVAL
from medsae_ray.stages.sae import SAE
from medsae_ray.stages.samples import SAMPLES
from medsae_ray.stages.scores import SCORES
from medsae_ray.stages.sweep import SWEEP, WorkersDied
from medsae_ray.stages.vocabulary_names import VOCABULARY_ANSWERS, VOCABULARY_NAMES, text_half
from medsae_ray.stages.volumes import VOLUMES

SEVERAL = (DATASET_FEATURES, REPLICATION, FINGERPRINTS, DUPLICATES)
"""The stages that only a run over several datasets has."""
_STAGES = (
    *(IMAGES, VOLUMES, ORGANS, MANIFEST, EMBEDDINGS, RANDOM_EMBEDDINGS, SECOND_EMBEDDINGS, SAE, ACTIVATIONS),
    *(FEATURES, PROBES, RECOVERY, MONOSEMANTICITY, RETRIEVAL, LIKENESS, FEATURE_MAP),
    *(LABEL_NAMES, VOCABULARY_NAMES, SAMPLES, NAMES, ANSWERS, LABEL_ANSWERS, VOCABULARY_ANSWERS, SCORES, ATLAS),
    RANKINGS,
    SWEEP,
    RANKING,
    *SEVERAL,
)
ANALYSES = ("probes", "recovery", "monosemanticity", "retrieval", "likeness", "feature_map")
"""The stages of every run, besides `features`, that measure what features are worth, which images are like the
run's, and which features are alike."""
OF_NAMING = (SAMPLES, NAMES, ANSWERS, LABEL_ANSWERS, VOCABULARY_ANSWERS, SCORES, RANKINGS)
"""The stages that need the vision-language model, themselves or by a parent."""
STAGES: dict[str, Stage] = {stage.name: stage for stage in _STAGES}


def goals_of(recipe: Recipe) -> tuple[str, ...]:
    """Return the goals of a whole run, for which all other stages are made."""
    several = ("replication", "duplicates") if recipe.what.datasets else ()
    naming = ("answers", *judged(recipe)) if recipe.what.naming else ()
    return ("features", *naming, *ANALYSES, "atlas", *several)


def judged(recipe: Recipe) -> tuple[str, ...]:
    """Return the stage that ranks names, if the recipe asks for it."""
    return () if RANKINGS.lacks(recipe) else (RANKINGS.name,)


def run_recipe(recipe: Recipe, root: str, console: Console | None = None, engine: Engine | None = None) -> Summary:
    """Run a recipe below `root` (a path or URI) and return the summary that is also written to summary.json.

    `engine` is a running one with the recipe's model, which several recipes may share; it is left running. The run's
    own report is `summary["report"]`; report.html is a copy, until another run below the root. A finished run whose
    root can no longer be written still returns its summary. Stages that an earlier run finished are reused. Raises
    RecipeError, DatasetError, EncoderError, ArtifactError or ShardError; all stages finished by then stay.
    """
    check_place(root)
    with Run(recipe, Store(root), STAGES, console or Console(quiet=True), engine) as run, watched(run):
        _meet(run)
        check_engine(recipe, run.console)
        if recipe.what.vocabulary and run.committed("vocabulary_names") is None:
            text_half(recipe)  # a missing part is reported now, not after the images are embedded
        ready(run, *goals_of(recipe))
        check(run, "atlas", *judged(recipe))
        if recipe.what.naming:
            run.together("features", "answers")
        for name in ("features", *ANALYSES, "atlas", *judged(recipe)):
            run.artifact(name)
        if recipe.what.datasets:
            run.artifact("replication")
            run.artifact("duplicates")
        own = page_id(
            run, "atlas", *ANALYSES, *judged(recipe), *(stage.name for stage in SEVERAL if recipe.what.datasets)
        )
        if recipe.what.chooses:
            _publish_sweep(run)
        summary = summarise(run, named("report.html", own))
        if recipe.paper:
            summary["paper"] = paper_rows(run, summary, recipe.paper)
        unwritten = publish(run.root, own, _pages(run, summary))
        naming = (naming_lines(summary),) if recipe.what.naming else ()
        if recipe.what.naming and summary["findings"]:
            naming = (names_table(summary), *naming)
        judged_too = (rankings_table(summary["rankings"]),) if "rankings" in summary else ()
        several = replications(summary) if recipe.what.datasets else []
        words = [vocabulary_line(summary)] if recipe.what.vocabulary else []
        words += [paper_line(recipe.paper, summary["paper"])] if recipe.paper else []
        found = (findings_table(summary), *untested_lines(summary)) if summary["findings"] else ()
        measures = (
            recovery_line(summary["recovery"]),
            monosemantic_table(summary),
            retrieval_line(summary),
            likeness_line(summary),
        )
        parts = (*found, headline(summary), *measures, *several, *naming, *judged_too, *words, closing_table(run.rows))
        for part in (*parts, *warnings_block(run.warnings)):
            run.console.print(part, end="\n\n")
        if unwritten:
            run.console.print(
                f"[yellow]![/] no report and no summary.json: {escape(unwritten)}", highlight=False, soft_wrap=True
            )
        return summary


def _meet(run: Run) -> None:
    """Connect before the first stage, so that the nodes of a joined cluster check that they see a root on a disk."""
    if joins(run.recipe) and run.root.is_local:
        run.connect()


def _pages(run: Run, summary: Summary) -> dict[str, bytes]:
    """Return the files that people and programs read of a run."""
    pages = {"summary.json": json.dumps(summary, indent=1, allow_nan=False), "report.html": _report(run)}
    if run.recipe.paper:
        pages[PAGE] = paper_page(run, run.recipe.paper, summary["paper"])
    return {name: page.encode() for name, page in pages.items()}


def _report(run: Run) -> str:
    with run.bar("report", None) as bar:
        bar.say("writing it")
        return render_report(report_data(run))


def run_stage(recipe: Recipe, root: str, name: str, console: Console | None = None) -> Artifact:
    """Make the artifact of one stage, and missing ones of the stages before it."""
    if name not in STAGES:
        raise RecipeError(f"no stage {name!r}; the stages are {', '.join(STAGES)}")
    if lacking := STAGES[name].lacks(recipe):
        raise RecipeError(f"stage {name!r} needs {lacking}; this recipe does not have it")
    check_place(root)
    with Run(recipe, Store(root), STAGES, console or Console(quiet=True)) as run, watched(run):
        _meet(run)
        if STAGES[name] in OF_NAMING:
            check_engine(recipe, run.console)
        ready(run, name, beside=False)
        check(run, name)
        artifact = _sweep(run) if STAGES[name] is SWEEP else run.artifact(name)
        run.console.print(closing_table(run.rows))
        return artifact


def _sweep(run: Run) -> Artifact:
    try:
        artifact = run.artifact(SWEEP.name)
    except WorkersDied as died:
        publish_sweep(run, died.table, died.left_out)
        raise
    _publish_sweep(run)
    return artifact


def _publish_sweep(run: Run) -> None:
    sweep = run.artifact(SWEEP.name)
    left_out = metrics_of(sweep, SweepMetrics)["left_out"]
    publish_sweep(run, sweep.table(), left_out, run.artifact(RANKING.name).table())
