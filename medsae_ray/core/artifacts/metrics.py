"""The figures that a stage's record holds beside its rows, stage by stage: what other stages and the summary read.

They are stored as JSON in `record.json`, whose keys these are; a figure that is not defined is None. The schemas of the
rows are in schema.py.
"""

from typing import Any, NotRequired, TypedDict, TypeVar, cast

from medsae_ray.core.artifacts.artifact import Artifact, Record

M = TypeVar("M")


def metrics_of(made: Artifact | Record, kind: type[M]) -> M:
    """Return the figures of an artifact; `kind` is the type of its stage."""
    return cast(M, (made.record if isinstance(made, Artifact) else made).metrics)


class SplitCounts(TypedDict):
    """The images and patients of a split."""

    images: int
    patients: int


class PatientSizes(TypedDict):
    """Images of one patient."""

    median: float
    most: int
    most_in_discovery: int
    """The most among the patients of splits `sae` and `naming`, over whom correlations are."""


class Audit(TypedDict):
    """The split of patients and images."""

    patients: int
    patients_in_two_splits: int
    splits: dict[str, SplitCounts]
    overlap: dict[str, int]
    """Patients that each two splits share."""
    images_per_patient: PatientSizes


class ManifestMetrics(TypedDict):
    """Stage `manifest`."""

    audit: Audit
    labels: list[str]
    patient_column: bool
    """False if every image counts as a patient of its own."""
    notes: NotRequired[dict[str, Any]]
    """The notes on the making of the rows: `Rows.notes`."""
    organs: NotRequired[str]
    """The artifact of the masks."""
    never_absent: NotRequired[dict[str, dict[str, int]]]
    """Dataset -> label -> rows that are uncertain, where none is absent."""


class OrgansOfDataset(TypedDict):
    """The scans of one dataset."""

    shards: list[int]
    """The first shard, and the one after the last."""
    passed_over: dict[str, int]
    """Scans that were left out, by reason."""


class OrgansMetrics(TypedDict):
    """Stage `organs`."""

    datasets: list[OrgansOfDataset]


class EmbeddingsMetrics(TypedDict):
    """Stage `embeddings`."""

    notes: dict[str, int]
    """Images by the note that they were read with."""
    class_scores: NotRequired[str]
    """The reason to take the encoder's output for the scores of classes."""


class LastEpoch(TypedDict):
    """The epoch whose weights are kept: `EpochLog` without its seconds, brought up to date by `Ending`."""

    epoch: int
    loss: float
    mse: float
    sparsity: float
    auxk: float
    r2: float
    fvu: float
    r2_scalar: float
    cosine: float
    l0: float
    dead_share: float
    train_l0: float | None


class SaeMetrics(TypedDict):
    """Stage `sae`."""

    last_epoch: LastEpoch
    resumed_from_epoch: int
    training_rows: int
    config: dict[str, Any]
    """The fields of `SAEConfig`."""


class SaeFigures(TypedDict):
    """The SAE on patients that it was not trained on."""

    r2: float | None
    fvu: float | None
    l0: float | None
    dead: float
    """Share of features that are active on no image."""


class SaeQuality(SaeFigures):
    """The SAE, and how many of its features are active on some image."""

    width: int
    alive: int


class EntropyFigures(TypedDict):
    """Entropy of labels over the units of one kind, as means over units; None with fewer than two labels."""

    mean: float | None
    normalised: float | None
    null_mean: float | None
    null_sd: float | None
    units: int
    labels: int


class EntropyOfSpaces(TypedDict):
    """The entropies of features and of raw dimensions."""

    sae: EntropyFigures
    raw: EntropyFigures


class Area(TypedDict):
    """An AUROC with its interval: `Auroc`."""

    auc: float | None
    low: float | None
    high: float | None
    positives: int
    negatives: int


class StoredFinding(TypedDict):
    """The best unit of a label, or of its absence: `Finding`."""

    label: str
    feature: int
    r: float
    r_low: float | None
    r_high: float | None
    auroc: float | None
    auroc_low: float | None
    auroc_high: float | None
    positives: int
    negatives: int
    present: bool
    by_dataset: dict[str, Area]


class MeasuredMetrics(TypedDict):
    """The statistics of some images."""

    labels: list[str]
    discovery_patients: list[int]
    """The discovery patients of each label."""
    sae: SaeQuality
    entropy: EntropyOfSpaces
    findings: list[StoredFinding]
    absences: list[StoredFinding]
    raw_findings: list[StoredFinding]
    raw_absences: list[StoredFinding]


class FeaturesMetrics(MeasuredMetrics):
    """Stage `features`, of all images."""

    copies: list[list[int]]
    """Groups of features that are copies of each other."""
    deciding_columns: dict[str, list[str]]
    """Metadata column -> labels that it decides."""


class DatasetFeaturesMetrics(TypedDict):
    """Stage `dataset_features`."""

    labels: list[str]
    order: list[str]
    """Datasets, as the parts are numbered."""
    datasets: dict[str, MeasuredMetrics]


class Correlation(TypedDict):
    """The correlation of a feature and a label in one dataset."""

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


class ReplicationMetrics(TypedDict):
    """Stage `replication`: what holds in other datasets."""

    datasets: list[str]
    pairs: dict[str, PairCounts]
    findings: list[ReplicatedFinding]


class DuplicatesMetrics(TypedDict):
    """Stage `duplicates`: near-duplicate images of two datasets."""

    pairs: dict[str, int]
    in_different_splits: int
    distance: int
    """Bits in which the fingerprints of a pair may differ."""


class ProbesMetrics(TypedDict):
    """Stage `probes`: images that probes were fitted to, and measured on."""

    fitted: int
    measured: int


class SweepMetrics(TypedDict):
    """Stage `sweep`: its SAEs."""

    members: int
    left_out: int
    """Combinations of the grid that are no SAE."""
    pareto: int


class RankingMetrics(TypedDict):
    """Stage `ranking`: the SAEs of a sweep that were compared."""

    saes: int
    near: int
    """Those near the front of FVU and L0."""
    patients: int
    """The patients of the splits sae and naming whose images were encoded."""
