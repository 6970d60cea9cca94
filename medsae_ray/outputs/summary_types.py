"""The fields of summary.json. An undefined figure, such as that of a label without positives, is None.

Entries that a stage has stored in this form are declared in core/artifacts/metrics.py.
"""

from typing import NotRequired, TypedDict

from medsae_ray.core.artifacts.likeness import LikenessSummary
from medsae_ray.core.artifacts.metrics import Area, DuplicatesMetrics, ReplicationMetrics, SaeFigures
from medsae_ray.core.artifacts.monosemanticity import MonosemanticityMetrics
from medsae_ray.core.artifacts.name_metrics import NameFigures, Sight, UsageFigures, VocabularyNamesMetrics
from medsae_ray.core.artifacts.rankings import RankingsMetrics
from medsae_ray.core.artifacts.recovery import RecoveryMetrics
from medsae_ray.core.artifacts.retrieval import RetrievalSummary
from medsae_ray.core.papers.compare import PaperRow
from medsae_ray.core.report.data import OverlapSummary


class StageSummary(TypedDict):
    """A stage of the run, in order of making."""

    name: str
    artifact: str
    start: str
    """The start in ISO 8601, as `end`."""
    end: str
    rows: int
    not_ok: int
    """The rows that could not be used."""
    seconds: float
    """The time taken; 0 if the artifact existed."""


class WarningSummary(TypedDict):
    """A warning about the figures."""

    code: str
    """The key, one of CODES in core/artifacts/warnings.py, which gives its meaning."""
    message: str
    value: float | int | str | None


class EntropySummary(TypedDict):
    """The entropy of labels over units, as means over units; None with fewer than two labels that vary."""

    sae: float | None
    raw: float | None
    null_mean: float | None
    """The mean for the features under permutations of the labels; `null_sd` is its deviation."""
    null_sd: float | None
    raw_null_mean: float | None
    raw_null_sd: float | None
    labels: int
    """The labels that vary."""


class UnitFigures(TypedDict):
    """The figures of a unit and a label: chosen on some patients, its AUROC measured on others."""

    pearson: float | None
    pearson_low: float | None
    pearson_high: float | None
    auroc: float | None
    auroc_low: float | None
    auroc_high: float | None
    positives: int | None
    """The test images with the label; `negatives` are those without it."""
    negatives: int | None
    by_dataset: NotRequired[dict[str, Area]]
    """With what.datasets."""


class NameTest(TypedDict, total=False):
    """A feature's name and its test, with what.naming."""

    name: str | None
    verdict: str | None
    detection_auroc: float | None
    low: float | None
    """The interval of `detection_auroc`."""
    high: float | None


class LabelTest(NameTest, total=False):
    """The tests of a feature's name and of the label itself as a name."""

    ceiling: float | None
    """The AUROC on images that differ in the label."""


class MeasuredFeature(UnitFigures):
    """A feature and a label, or its absence."""

    feature: int | None
    """The feature's number; None if none correlates with it."""


class FeatureFinding(MeasuredFeature, NameTest):
    """A feature and a label, or its absence, and the test of the feature's name."""


class DimensionFinding(UnitFigures):
    """The raw dimension with the largest correlation of either sign."""

    dimension: int


class ProbeSummary(TypedDict):
    """A linear probe on all dimensions, or on all features; or the difference of class means."""

    auroc: float | None
    low: float | None
    high: float | None
    strength: float | None
    """The regularisation C; None for the class means."""
    patients: int
    """The patients that it was fitted on."""


class Probes(TypedDict):
    """The information on a label in the encoder and in the SAE; None if it cannot be measured."""

    dimensions: ProbeSummary | None
    features: ProbeSummary | None
    means: ProbeSummary | None
    """Embeddings along the difference of class means."""


class LabelFinding(MeasuredFeature, LabelTest):
    """The best feature of a label, with its comparisons."""

    absence: FeatureFinding | None
    """The feature with the most negative correlation; its AUROC is that for the label's absence."""
    dimension: DimensionFinding | None
    probe: Probes


class NamesSummary(NameFigures):
    """The model's names."""

    sight: Sight


class TestedNames(TypedDict):
    """The results of the test of names."""

    verified: int
    rejected: int
    untested: int


class LabelNamesSummary(TestedNames):
    """Labels as names."""

    named: int


class VocabularySummary(VocabularyNamesMetrics):
    """The terms of a vocabulary as names; with what.naming also the results of their test."""

    verified: NotRequired[int]
    rejected: NotRequired[int]
    untested: NotRequired[int]


class VlmSummary(UsageFigures):
    """The vision-language model and its usage."""

    model: str


class OfDatasets(TypedDict, total=False):
    """With what.datasets."""

    replication: ReplicationMetrics
    duplicates: DuplicatesMetrics


class OfVocabulary(TypedDict, total=False):
    """With what.vocabulary."""

    vocabulary_names: VocabularySummary


class OfNaming(TypedDict, total=False):
    """With what.naming."""

    names: NamesSummary
    label_names: LabelNamesSummary
    vlm: VlmSummary
    overlap: OverlapSummary | None
    """The time in parallel; None if one was made before."""
    rankings: RankingsMetrics
    """With what.naming.judge."""


class Summary(OfDatasets, OfVocabulary, OfNaming):
    """The summary of a run: the contents of summary.json."""

    recipe: str
    stages: list[StageSummary]
    warnings: list[WarningSummary]
    sae: SaeFigures
    entropy: EntropySummary
    monosemanticity: MonosemanticityMetrics
    findings: dict[str, LabelFinding]
    """The findings by label."""
    recovery: RecoveryMetrics
    """What few features keep of all dimensions."""
    retrieval: RetrievalSummary
    likeness: LikenessSummary
    """Which images are unlike the run's."""
    report: str
    """The name of the report's file, below the root."""
    paper: list[PaperRow]
    """The published figures of the recipe's `paper` beside those of the run; empty without one."""
