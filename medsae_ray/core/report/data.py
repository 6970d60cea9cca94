"""What a report is made of: plain numbers, two Arrow tables and a function that fetches a thumbnail.

A number that could not be computed is NaN (or null in a table); the page shows an en dash for it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa


@dataclass(frozen=True)
class Finding:
    """The best unit for one label: chosen on discovery patients, measured on held-out patients."""

    label: str
    feature: int
    """The feature of the SAE, or the dimension of the encoder."""
    r: float
    """Pearson correlation with the label over the discovery patients, with its 95 % interval."""
    r_low: float
    r_high: float
    auroc: float
    """AUROC over the held-out patients, with its 95 % interval: of a feature's activation, or of a raw dimension taken
    along the sign of its `r`, because a dimension has no direction of its own."""
    auroc_low: float
    auroc_high: float
    positives: int
    """Held-out images with the label, and without it."""
    negatives: int


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
