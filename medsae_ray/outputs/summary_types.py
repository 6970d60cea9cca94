"""What summary.json holds, field by field. A figure that is not defined, as of a label without positives, is None."""

from typing import NotRequired, TypedDict

from medsae_ray.outputs.summary_of_names import (
    LabelNamesSummary,
    NamesSummary,
    OverlapSummary,
    VlmSummary,
    VocabularySummary,
)


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


class SaeSummary(TypedDict):
    """The SAE on patients that it was not trained on."""

    r2: float | None
    fvu: float | None
    l0: float | None
    dead: float
    """Share of features that are active on no image."""


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


class AreaSummary(TypedDict):
    """An AUROC in one dataset, or of a name's ceiling."""

    auc: float | None
    low: float | None
    high: float | None
    positives: int
    negatives: int


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
    by_dataset: NotRequired[dict[str, AreaSummary]]
    """With what.datasets."""


class FeatureFinding(UnitFigures):
    """A feature and a label, or its absence; with what.naming the feature's name, and the test of it."""

    feature: int | None
    """None where no feature goes with it."""
    name: NotRequired[str | None]
    verdict: NotRequired[str | None]
    detection_auroc: NotRequired[float | None]
    low: NotRequired[float | None]
    """The interval of `detection_auroc`."""
    high: NotRequired[float | None]


class DimensionFinding(UnitFigures):
    """The raw dimension with the largest correlation of either sign."""

    dimension: int


class ProbeSummary(TypedDict):
    """A linear probe on all dimensions, or on all features."""

    auroc: float | None
    low: float | None
    high: float | None
    strength: float | None
    """Its C."""
    patients: int
    """That it was fitted on."""


class Probes(TypedDict):
    """What the encoder, and what the SAE, knows of a label at all; None where it cannot be told."""

    dimensions: ProbeSummary | None
    features: ProbeSummary | None


class LabelFinding(FeatureFinding):
    """The best feature of a label, and what it is compared with."""

    absence: FeatureFinding | None
    """The feature with the most negative correlation; its AUROC is that for the label's absence."""
    dimension: DimensionFinding | None
    probe: Probes
    ceiling: NotRequired[float | None]
    """With what.naming: the AUROC of the label itself as a name, on images that differ in the label."""


class Correlation(TypedDict):
    """Of a feature and a label, in one dataset."""

    r: float | None
    low: float | None
    high: float | None


class ReplicatedFinding(TypedDict):
    """A feature that one dataset chose for a label, in every dataset."""

    source: str
    label: str
    present: bool
    """False for the label's absence."""
    feature: int
    verdict: str
    datasets: dict[str, Correlation]


class PairCounts(TypedDict):
    """Pairs of a feature and a label that one dataset selects."""

    selected: int
    replicated: int
    untested: int


class ReplicationSummary(TypedDict):
    """What holds in other datasets."""

    datasets: list[str]
    pairs: dict[str, PairCounts]
    findings: list[ReplicatedFinding]


class DuplicatesSummary(TypedDict):
    """Near-duplicate images of two datasets."""

    pairs: dict[str, int]
    in_different_splits: int
    distance: int
    """Bits in which the fingerprints of a pair may differ."""


class Summary(TypedDict):
    """summary.json, and what a run returns."""

    recipe: str
    stages: list[StageSummary]
    warnings: list[WarningSummary]
    sae: SaeSummary
    entropy: EntropySummary
    findings: dict[str, LabelFinding]
    """By label."""
    replication: NotRequired[ReplicationSummary]
    """With what.datasets, as the one below."""
    duplicates: NotRequired[DuplicatesSummary]
    vocabulary_names: NotRequired[VocabularySummary]
    """With what.vocabulary."""
    names: NotRequired[NamesSummary]
    """With what.naming, as the ones below."""
    label_names: NotRequired[LabelNamesSummary]
    vlm: NotRequired[VlmSummary]
    overlap: NotRequired[OverlapSummary | None]
    """None if one of the two was there already."""
    report: str
    """Name of the report's file, below the root."""
