"""What summary.json holds, field by field. A figure that is not defined, as of a label without positives, is None.

What stands in it as a stage has stored it is in core/artifacts/metrics.py.
"""

from typing import NotRequired, TypedDict

from medsae_ray.core.artifacts.metrics import Area, DuplicatesMetrics, ReplicationMetrics, SaeFigures
from medsae_ray.core.artifacts.monosemanticity import MonosemanticityMetrics
from medsae_ray.core.artifacts.name_metrics import NameFigures, Sight, UsageFigures, VocabularyNamesMetrics
from medsae_ray.core.artifacts.recovery import RecoveryMetrics
from medsae_ray.core.artifacts.retrieval import RetrievalSummary
from medsae_ray.core.report.data import OverlapSummary


class StageSummary(TypedDict):
    """A stage of the run, in the order in which they were made."""

    name: str
    artifact: str
    start: str
    """ISO 8601, as `end`."""
    end: str
    rows: int
    not_ok: int
    """Of these, the ones that could not be used."""
    seconds: float
    """0 if it was there already."""


class WarningSummary(TypedDict):
    """What to know before believing the figures."""

    code: str
    """For programs: a key of CODES in core/artifacts/warnings.py, which says what it means."""
    message: str
    value: float | int | str | None


class EntropySummary(TypedDict):
    """The entropy of labels over units, as means over units; None with fewer than two labels that vary."""

    sae: float | None
    raw: float | None
    null_mean: float | None
    """Of the features under permutations of the labels, with its deviation."""
    null_sd: float | None
    raw_null_mean: float | None
    raw_null_sd: float | None
    labels: int
    """That vary."""


class UnitFigures(TypedDict):
    """How well a unit goes with a label: chosen on some patients, its AUROC measured on others."""

    pearson: float | None
    pearson_low: float | None
    pearson_high: float | None
    auroc: float | None
    auroc_low: float | None
    auroc_high: float | None
    positives: int | None
    """Test images with the label, and without it."""
    negatives: int | None
    by_dataset: NotRequired[dict[str, Area]]
    """With what.datasets."""


class NameTest(TypedDict, total=False):
    """With what.naming: a feature's name, and the test of it."""

    name: str | None
    verdict: str | None
    detection_auroc: float | None
    low: float | None
    """The interval of `detection_auroc`."""
    high: float | None


class LabelTest(NameTest, total=False):
    """With what.naming also how the label itself does as a name."""

    ceiling: float | None
    """AUROC on images that differ in the label."""


class MeasuredFeature(UnitFigures):
    """A feature and a label, or its absence."""

    feature: int | None
    """None where no feature goes with it."""


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
    """Its C; None of the means."""
    patients: int
    """That it was fitted on."""


class Probes(TypedDict):
    """What the encoder, and what the SAE, knows of a label at all; None where it cannot be told."""

    dimensions: ProbeSummary | None
    features: ProbeSummary | None
    means: ProbeSummary | None
    """Embeddings along the difference of class means."""


class LabelFinding(MeasuredFeature, LabelTest):
    """The best feature of a label, and what it is compared with."""

    absence: FeatureFinding | None
    """The feature with the most negative correlation; its AUROC is that for the label's absence."""
    dimension: DimensionFinding | None
    probe: Probes


class NamesSummary(NameFigures):
    """The model's names."""

    sight: Sight


class TestedNames(TypedDict):
    """What the test said of names."""

    verified: int
    rejected: int
    untested: int


class LabelNamesSummary(TestedNames):
    """Labels as names."""

    named: int


class VocabularySummary(VocabularyNamesMetrics):
    """Terms of a vocabulary as names; with what.naming also what the test said of them."""

    verified: NotRequired[int]
    rejected: NotRequired[int]
    untested: NotRequired[int]


class VlmSummary(UsageFigures):
    """The vision-language model and what it took."""

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
    """None if one of the two was there already."""


class Summary(OfDatasets, OfVocabulary, OfNaming):
    """summary.json, and what a run returns."""

    recipe: str
    stages: list[StageSummary]
    warnings: list[WarningSummary]
    sae: SaeFigures
    entropy: EntropySummary
    monosemanticity: MonosemanticityMetrics
    findings: dict[str, LabelFinding]
    """By label."""
    recovery: RecoveryMetrics
    """What few features keep of all dimensions."""
    retrieval: RetrievalSummary
    report: str
    """Name of the report's file, below the root."""
