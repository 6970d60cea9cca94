"""What a report is made of: plain numbers, two Arrow tables and a function that fetches a thumbnail.

A number that could not be computed is NaN (or null in a table); the page shows an en dash for it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypedDict

import pyarrow as pa

from medsae_ray.core.analysis.auroc import Auroc
from medsae_ray.core.analysis.findings import Finding
from medsae_ray.core.analysis.patch_maps import Pair, PatchMap
from medsae_ray.core.artifacts.metrics import PairCounts, ReplicatedFinding
from medsae_ray.core.artifacts.warnings import RunWarning
from medsae_ray.core.naming.engine import Usage
from medsae_ray.core.naming.verdict import PaperCount


@dataclass(frozen=True)
class EntropySummary:
    """Mean entropy of the units over the labels, beside the same mean after permuting the labels."""

    sae: float
    raw: float
    null_mean: float
    null_sd: float
    raw_null_mean: float
    raw_null_sd: float
    labels: int
    """K, the number of labels: an entropy lies between 0 and ln K."""
    sae_units: int
    """Units that the mean is over: those with a defined correlation."""
    raw_units: int
    base: str = "nats"


@dataclass(frozen=True)
class NameCounts:
    """What came of one source's names: every feature is named, abstained, without support, failed or dead, and every
    name verified, rejected or untested."""

    named: int
    tested: int
    """Verified or rejected."""
    verified: int
    rejected: int
    abstained: int
    insufficient_support: int
    failed: int
    expected_by_chance: float
    """Names that would be verified if each feature had the name of another."""
    random_name_auroc: float
    """Mean AUROC of those names,"""
    random_name_auroc_hard: float
    """and against the hard negatives alone."""
    paper: PaperCount
    untested: int = 0
    """Names of which nothing can be said."""
    dead: int = 0
    """Features that are active on no image."""


@dataclass(frozen=True)
class Answers:
    """What the model said when it was asked for one name; one entry per image of the feature's test."""

    p_yes: list[float]
    """NaN where there is no answer."""
    y: list[int]
    """1 where the feature is active, 0 where it is silent."""
    role: list[str]
    """bin0 (weakest) to bin4 (strongest activation), random, hard or matched."""


class OverlapSummary(TypedDict):
    """Seconds of naming and analysis side by side, and one after the other."""

    makespan_s: float
    sum_s: float


@dataclass(frozen=True)
class NamingReport:
    """What a vision-language model named the features, and how these and other sources' names did in the test."""

    model: str
    """Name or id, with a content hash or commit."""
    names: pa.Table
    """`schema.names()`, of all sources."""
    scores: pa.Table
    """`verdict.scores()`: one row per feature and source."""
    counts: dict[str, NameCounts]
    """By source."""
    ceilings: dict[str, Auroc]
    """Label -> AUROC of the model's own p(yes) for the label against the label, on the shared test images."""
    answers: dict[int, Answers]
    """Feature -> answers to the vlm's name, where there is one and it was tested."""
    usage: Usage
    overlap: OverlapSummary | None
    """None if not both were made."""
    seen: frozenset[str] = frozenset()
    """Labels whose ceiling's interval, corrected for the number of labels, lies above 0.5."""


@dataclass(frozen=True)
class ReplicationReport:
    """Several datasets: what was found in one, in the others."""

    datasets: list[str]
    findings: list[ReplicatedFinding]
    """Those of every dataset as the source."""
    pairs: dict[str, PairCounts]
    """Dataset -> pairs of a feature and a label: `selected` there, of these `replicated`, and `untested`."""
    duplicates: dict[str, int]
    """"a and b" -> near-duplicate images of datasets a and b."""
    in_different_splits: int
    """Of these pairs."""


@dataclass(frozen=True)
class Patches:
    """What an SAE on patches adds."""

    grid: tuple[int, int]
    """Rows and columns of an image's patches."""
    maps: Callable[[Sequence[Pair]], Mapping[Pair, PatchMap]]
    """Features on images, those that can be had; called once with all that the page shows."""


@dataclass(frozen=True)
class ReportData:
    """Everything on the page. `thumbnail` maps an image_id to JPEG or PNG bytes, or None if it cannot be read."""

    title: str
    notice: str | None
    """A sentence that the reader must see first, for example that the images are synthetic."""
    counts: dict[str, int]
    """Images, patients, labels, ...: name -> count, in the order of the page."""
    not_ok: dict[str, int]
    """Reason -> number of images that could not be read for it."""
    provenance: dict[str, str]
    """Dataset, encoder, artifact names, versions, time of creation."""
    labels: list[str]
    sae: dict[str, float]
    """r2, fvu and l0 over patients that did not train the SAE; dead (a share), width and alive (counts).
    A missing key is unknown."""
    entropy: EntropySummary
    log: pa.Table
    """One row per epoch: epoch, loss, r2, fvu, l0, dead_share."""
    atlas: pa.Table
    """`schema.atlas(len(labels))`."""
    findings: list[Finding]
    """Features of the SAE, at most one per label."""
    raw_findings: list[Finding]
    """Dimensions of the encoder, at most one per label."""
    thumbnail: Callable[[str], bytes | None]
    stages: list[dict[str, object]]
    """Per stage: name, artifact, rows, not_ok, seconds."""
    copies: Sequence[Sequence[int]] = ()
    """Groups of features that are copies of each other."""
    absences: Sequence[Finding] = ()
    """Features that go with a label's absence, at most one per label,"""
    raw_absences: Sequence[Finding] = ()
    """and dimensions."""
    probes: Mapping[str, Mapping[str, Auroc]] = field(default_factory=dict)
    """Label -> "raw" and "sae" -> a linear probe on all dimensions, on all features."""
    labels_of: Callable[[Sequence[str]], Mapping[str, Sequence[float]]] = lambda image_ids: {}
    """Image id -> 1, 0 or NaN for each of `labels`; called once with all images of the page."""
    warnings: Sequence[RunWarning] = ()
    """What the reader must know before believing the numbers."""
    naming: NamingReport | None = None
    """None for a run without a vision-language model."""
    replication: ReplicationReport | None = None
    """None for a run over one dataset."""
    patches: Patches | None = None
    """None for an SAE on whole images."""
