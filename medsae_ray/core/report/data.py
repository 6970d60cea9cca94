"""The data of a report: plain numbers, two Arrow tables and a function that fetches a thumbnail.

A number that could not be computed is NaN (or null in a table); the page shows an en dash for it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypedDict

import pyarrow as pa

from medsae_ray.core.analysis.auroc import Auroc
from medsae_ray.core.analysis.findings import Finding
from medsae_ray.core.analysis.patch_maps import Pair, PatchMap
from medsae_ray.core.artifacts.likeness import LikenessSummary
from medsae_ray.core.artifacts.metrics import PairCounts, ReplicatedFinding
from medsae_ray.core.artifacts.monosemanticity import MonosemanticityMetrics
from medsae_ray.core.artifacts.rankings import RankingsMetrics
from medsae_ray.core.artifacts.retrieval import RetrievalMetrics
from medsae_ray.core.artifacts.warnings import RunWarning
from medsae_ray.core.naming.engine import Usage
from medsae_ray.core.naming.verdict import PaperCount
from medsae_ray.core.report.recovery import RecoveryReport


@dataclass(frozen=True)
class EntropySummary:
    """The mean entropy of the units over the labels, and the same mean after permuting the labels."""

    sae: float
    raw: float
    null_mean: float
    null_sd: float
    raw_null_mean: float
    raw_null_sd: float
    labels: int
    """The number of labels K: an entropy lies between 0 and ln K."""
    sae_units: int
    """The number of units in the mean: those with a defined correlation."""
    raw_units: int
    base: str = "nats"


@dataclass(frozen=True)
class NameCounts:
    """The counts of one source: every feature is named, abstained, without support, failed or dead, and every name
    verified, rejected or untested."""

    named: int
    tested: int
    """The number of verified or rejected names."""
    verified: int
    rejected: int
    abstained: int
    insufficient_support: int
    failed: int
    expected_by_chance: float
    """The names that would be verified if each feature had the name of another."""
    random_name_auroc: float
    """The mean AUROC of those names."""
    random_name_auroc_hard: float
    """The mean AUROC of those names against the hard negatives alone."""
    paper: PaperCount
    untested: int = 0
    """The number of names that could not be judged."""
    dead: int = 0
    """The number of features that are active on no image."""


@dataclass(frozen=True)
class Answers:
    """The model's answers about one name, one entry per image of the feature's test."""

    p_yes: list[float]
    """The p(yes) of each answer; NaN without one."""
    y: list[int]
    """The activity: 1 if the feature is active, 0 if it is inactive."""
    role: list[str]
    """The role of each image: bin0 (weakest) to bin4 (strongest activation), equal, hard or matched."""


class OverlapSummary(TypedDict):
    """Seconds of naming and analysis side by side, and one after the other."""

    makespan_s: float
    sum_s: float


@dataclass(frozen=True)
class NamingReport:
    """The names from a vision-language model and other sources, and the results of their tests."""

    model: str
    """The name or id, with a content hash or commit."""
    names: pa.Table
    """The rows of `schema.names()`, of all sources."""
    scores: pa.Table
    """The rows of `verdict.scores()`: one per feature and source."""
    counts: dict[str, NameCounts]
    """The counts by source."""
    ceilings: dict[str, Auroc]
    """The AUROC of the model's own p(yes) for each label, on the shared test images."""
    answers: dict[int, Answers]
    """The answers to each feature's vlm name, if it was tested."""
    usage: Usage
    overlap: OverlapSummary | None
    """The overlap of naming and analysis; None if not both were made."""
    seen: frozenset[str] = frozenset()
    """The labels whose ceiling's interval, corrected for the number of labels, lies above 0.5."""


@dataclass(frozen=True)
class ReplicationReport:
    """The replication of findings between several datasets."""

    datasets: list[str]
    findings: list[ReplicatedFinding]
    """The `best_pairs` of every dataset as the source."""
    pairs: dict[str, PairCounts]
    """The pairs of a feature and a label by dataset: `selected` there, of these `replicated`, and `untested`."""
    duplicates: dict[str, int]
    """The near-duplicate images of datasets a and b, by "a and b"."""
    in_different_splits: int
    """The number of near-duplicate pairs in different splits."""


@dataclass(frozen=True)
class Patches:
    """The additional data of an SAE on patches."""

    grid: tuple[int, int]
    """The rows and columns of an image's patches."""
    maps: Callable[[Sequence[Pair]], Mapping[Pair, PatchMap]]
    """A function of features on images to those maps that exist; called once for the whole page."""


@dataclass(frozen=True)
class ReportData:
    """The contents of the page. `thumbnail` maps an image_id to JPEG or PNG bytes, or None if it cannot be read."""

    title: str
    notice: str | None
    """A sentence that the reader must see first, for example that the images are synthetic."""
    counts: dict[str, int]
    """The counts of images, patients, labels, ... by name, in the order of the page."""
    not_ok: dict[str, int]
    """The number of images that could not be read, by reason."""
    provenance: dict[str, str]
    """The dataset, encoder, artifact names, versions and time of creation."""
    labels: list[str]
    sae: dict[str, float]
    """The r2, fvu and l0 over patients that did not train the SAE; dead (a share), width and alive (counts). A missing
    key is unknown."""
    entropy: EntropySummary
    log: pa.Table
    """The log, a row per epoch: epoch, loss, r2, fvu, l0, dead_share."""
    atlas: pa.Table
    """The rows of `schema.atlas(len(labels))`."""
    findings: list[Finding]
    """The features of the SAE, at most one per label."""
    raw_findings: list[Finding]
    """The dimensions of the encoder, at most one per label."""
    thumbnail: Callable[[str], bytes | None]
    stages: list[dict[str, object]]
    """The stages, each with name, artifact, rows, not_ok and seconds."""
    copies: Sequence[Sequence[int]] = ()
    """The groups of features that are copies of each other."""
    absences: Sequence[Finding] = ()
    """The features that go with a label's absence, at most one per label."""
    raw_absences: Sequence[Finding] = ()
    """The dimensions that go with a label's absence, at most one per label."""
    probes: Mapping[str, Mapping[str, Auroc]] = field(default_factory=dict)
    """The linear probes of each label: "raw" on all dimensions, "sae" on all features, "means" the class means."""
    labels_of: Callable[[Sequence[str]], Mapping[str, Sequence[float]]] = lambda image_ids: {}
    """A function of image ids to 1, 0 or NaN for each of `labels`; called once with all images of the page."""
    warnings: Sequence[RunWarning] = ()
    """The doubts that the reader must know before believing the numbers."""
    recovery: RecoveryReport | None = None
    """The probes on few features."""
    naming: NamingReport | None = None
    """The names; None for a run without a vision-language model."""
    replication: ReplicationReport | None = None
    """The replication; None for a run over one dataset."""
    monosemanticity: MonosemanticityMetrics | None = None
    """The figures of monosemanticity, of features, raw dimensions and an untrained SAE."""
    monosemanticity_of: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    """The rows of stage `monosemanticity` by feature; none without `monosemanticity`."""
    retrieval: RetrievalMetrics | None = None
    """The test of similar images."""
    likeness: LikenessSummary | None = None
    """The images that are unlike those of the run."""
    rankings: RankingsMetrics | None = None
    """The ranks of names among five; None without what.naming.judge."""
    patches: Patches | None = None
    """The patches; None for an SAE on whole images."""
