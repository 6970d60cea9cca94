"""The view of `ReportData` on the page: rows, figures and cards, in their order.

Every order and choice here is made on discovery patients, or stated on the page: held-out figures of features that
were picked by their held-out figures would flatter them.
"""

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from markupsafe import Markup

from medsae_ray.core.analysis.auroc import Auroc
from medsae_ray.core.analysis.findings import Finding, absent_name, headed, notable
from medsae_ray.core.analysis.patch_maps import Pair, PatchMap
from medsae_ray.core.analysis.units import HISTOGRAM_LOG2
from medsae_ray.core.artifacts.schema import HISTOGRAM_BINS
from medsae_ray.core.report.charts import (
    LabelCorrelation,
    Mark,
    Series,
    auroc_plot,
    correlations,
    histogram,
    panel,
)
from medsae_ray.core.report.data import EntropySummary, ReportData
from medsae_ray.core.report.heatmap import CARD_LINK, Column, heat_map
from medsae_ray.core.report.name_tests import NameTest
from medsae_ray.core.report.shown import Embedded, PageImages
from medsae_ray.core.report.text import count, known
from medsae_ray.errors import ArtifactError

THUMBNAILS = 8
MAP_FEATURES = 60
CARD_LABELS = 14
LOG = ("epoch", "loss", "r2", "fvu", "l0", "dead_share")

Row = dict[str, Any]  # one row of the atlas


class FindingRow(NamedTuple):
    """A label with its best feature and its best raw dimension, either of which may be absent."""

    label: str
    sae: Finding | None
    raw: Finding | None
    """The dimension of its presence or absence, whichever correlates more: a dimension has no direction of its own."""
    plot: Markup
    absent: Finding | None = None
    """The best feature of the label's absence, if it is notable."""
    absent_plot: Markup = Markup()
    probes: Mapping[str, Auroc] = MappingProxyType({})

    @property
    def absent_label(self) -> str:
        """The label of the finding's absence."""
        return absent_name(self.label)

    @property
    def holds(self) -> bool:
        """True if the feature's correlation is positive and its held-out interval above 0.5; False if unknown."""
        return self.sae is not None and self.sae.r > 0 and self.sae.auroc_low > 0.5

    @property
    def absent_holds(self) -> bool:
        """True if a feature for the absence has a held-out interval above 0.5."""
        return self.absent is not None and self.absent.auroc_low > 0.5


class EntropyRow(NamedTuple):
    """A line of the summary: `distance` is in standard deviations of the null, negative below it."""

    name: str
    kind: str
    units: int
    mean: float
    null_mean: float
    null_sd: float
    distance: float
    share: float
    """The share H / ln K."""


class Panel(NamedTuple):
    """A titled figure."""

    title: str
    figure: Markup


class Thumbnail(NamedTuple):
    """An image among a feature's top ones."""

    said: str
    """The words for the image: its id, or its number in the browser."""
    value: float
    src: str | None
    heat: str | None = None
    """The feature's activation on the patches, to lay over the image."""
    labels: str | None = None
    """The annotation of the image; None if it is unknown."""
    href: str | None = None
    """The image's own page, if there is one."""


class Card(NamedTuple):
    """The card of a feature; `row` is its row of the atlas."""

    row: Row
    thumbnails: list[Thumbnail]
    histogram: Markup
    outside: int
    """The active images whose activation lies outside the bins."""
    correlations: Markup
    shown_labels: int
    auroc: Markup
    names: Sequence[NameTest] = ()
    """The names of each source, in a run with a vision-language model."""
    support: str = ""
    """The numbers of images with the label, of those shown and of the test's."""

    @property
    def headed_by(self) -> str | None:
        """The best label, or its absence."""
        label = self.row["best_label"]
        return headed(label, self.row["best_r"]) if label is not None and known(self.row["best_r"]) else label

    @property
    def verdict(self) -> str | None:
        """The verdict on the name in the card's heading, or else the reason for the model's lack of one."""
        return self.row["verdict"] or next((test.verdict for test in self.names), None)


def finding_rows(data: ReportData) -> list[FindingRow]:
    """Return one row per label, strongest discovery correlation of a feature first; labels without any unit last."""
    sae, absent = ({f.label: f for f in found} for found in (data.findings, shown_absences(data)))
    raw: dict[str, Finding] = {}
    for finding in (*data.raw_findings, *data.raw_absences):
        if finding.label not in raw or _size(finding.r) > _size(raw[finding.label].r):
            raw[finding.label] = finding
    rows = [
        FindingRow(
            *(label, sae.get(label), raw.get(label), _plot(sae.get(label), raw.get(label))),
            absent=absent.get(label),
            absent_plot=_plot(absent.get(label), None),
            probes=data.probes.get(label, {}),
        )
        for label in dict.fromkeys([*data.labels, *sae, *raw])
    ]
    return sorted(rows, key=lambda row: -max(_size(f.r if f else None) for f in (row.sae, row.absent)))


def shown_absences(data: ReportData) -> list[Finding]:
    """Return the best features of labels' absences that are `notable` compared with those of their presence."""
    present = {finding.label: finding.r for finding in data.findings}
    return [finding for finding in data.absences if notable(present.get(finding.label), finding.r)]


def _plot(sae: Finding | None, raw: Finding | None) -> Markup:
    pairs = ((sae, "sae"), (raw, "raw"))
    return auroc_plot([Mark(f.auroc, f.auroc_low, f.auroc_high, kind) for f, kind in pairs if f and known(f.auroc)])


def _size(r: float | None) -> float:
    """Return |r|, or -1 if it is missing, so that unknown ones sort last."""
    return abs(r) if r is not None and known(r) else -1.0


def entropy_rows(e: EntropySummary) -> list[EntropyRow]:
    """Return the rows of features, then of raw dimensions."""
    return [
        _entropy_row("SAE features", "sae", e.sae_units, e.sae, e.null_mean, e.null_sd, e.labels),
        _entropy_row("Raw encoder dimensions", "raw", e.raw_units, e.raw, e.raw_null_mean, e.raw_null_sd, e.labels),
    ]


def _entropy_row(name: str, kind: str, units: int, mean: float, null: float, sd: float, labels: int) -> EntropyRow:
    whole = known(mean) and known(null) and known(sd)
    distance = (mean - null) / sd if whole and sd > 0 else math.nan
    share = mean / math.log(labels) if known(mean) and labels > 1 else math.nan
    return EntropyRow(name, kind, units, mean, null, sd, distance, share)


def entropy_verdict(features: EntropyRow, raw: EntropyRow, labels: int = 2) -> str:
    """Describe the distances from the null in one or two plain sentences."""
    if labels < 2:
        return f"With {'one label' if labels else 'no label that varies'} there is no entropy."
    if not known(features.distance):
        return "The features have no entropy that could be compared with a null."
    if features.distance > -2:
        return "The features' entropy is not below its null: by this measure they are no more specific than chance."
    first = "The features' entropy is below its null: they are more specific to single labels than chance makes them"
    if not known(raw.distance):
        return first + "."
    return first + (", and so are the raw dimensions." if raw.distance <= -2 else "; the raw dimensions are not.")


def panels(data: ReportData) -> list[Panel]:
    """Draw the training curves."""
    if missing := [column for column in LOG if column not in data.log.column_names]:
        raise ArtifactError(f"the training log has no column {missing}: it has {data.log.column_names}")
    log = data.log.to_pydict()
    row = "patch" if data.patches else "image"
    fit = [Series("R²", log["r2"]), Series("FVU", log["fvu"], "raw")]
    return [
        Panel("Reconstruction (R², FVU)", panel(log["epoch"], fit, (0, 1))),
        Panel(f"Active features per {row} (L0)", panel(log["epoch"], [Series("", log["l0"])], (0,))),
        Panel("Dead share (training images)", panel(log["epoch"], [Series("", log["dead_share"])], (0,))),
        Panel("Training loss", panel(log["epoch"], [Series("", log["loss"])], (0,))),
    ]


def strongest(data: ReportData) -> list[Row]:
    """Return live features with a best label, largest discovery |best_r| first; without any, all live features, the
    most varying activation first."""
    rows = [row for row in data.atlas.to_pylist() if row["space"] == "sae"]
    if related := [row for row in rows if known(row["best_r"])]:
        return sorted(related, key=lambda row: (-abs(row["best_r"]), row["feature"]))
    return sorted((row for row in rows if row["n_active"]), key=lambda row: (-_variance(row), row["feature"]))


def _variance(row: Row) -> float:
    """Return the variance of a feature's activation over all images, from the histogram."""
    low, high = HISTOGRAM_LOG2
    width = (high - low) / HISTOGRAM_BINS
    square = sum(count * 4 ** (low + (b + 0.5) * width) for b, count in enumerate(row["histogram"]))
    mean = row["n_active"] * row["mean_active"]
    return float((square - mean**2 / row["n_images"]) / row["n_images"])


def carded(rows: Sequence[Row], data: ReportData, cards: int) -> list[Row]:
    """Choose the `cards` rows with a card: the findings' features before others, all in the order of `rows`."""
    wanted = {finding.feature for finding in (*data.findings, *shown_absences(data))}
    first = sorted(rows, key=lambda row: row["feature"] not in wanted)[: max(cards, 0)]
    chosen = {row["feature"] for row in first}
    return [row for row in rows if row["feature"] in chosen]


def label_map(
    rows: Sequence[Row], data: ReportData, linked: set[int], limit: float, card_link: str = CARD_LINK
) -> Markup:
    """Draw the heat map of the strongest features, in label order, positive correlations first within a label."""
    order = {label: i for i, label in enumerate(data.labels)}
    related = [row for row in rows[:MAP_FEATURES] if known(row["best_r"])]
    top = sorted(related, key=lambda row: (order.get(row["best_label"], len(order)), -row["best_r"]))
    columns = [Column(row["feature"], row["r"], row["best_label"] or "", row["feature"] in linked) for row in top]
    return heat_map(data.labels, columns, limit, card_link) if columns and data.labels else Markup()


def common_limit(rows: Sequence[Row], fields: Sequence[str]) -> float:
    """Return the smallest tenth above every |value| of `fields` over `rows`: one scale for all figures of a kind."""
    largest = max((abs(v) for row in rows for field in fields for v in row[field] if known(v)), default=0.0)
    return min(1.0, max(0.1, math.ceil(largest * 10 - 1e-9) / 10))


def maps_of(rows: Sequence[Row], data: ReportData) -> Mapping[Pair, PatchMap]:
    """Return the maps of the images on the cards of `rows`, all at once; none for an SAE on whole images."""
    wanted = [(row["feature"], image_id) for row in rows for image_id in row["top_images"][:THUMBNAILS]]
    return data.patches.maps(wanted) if data.patches else {}


def labels_on(rows: Sequence[Row], data: ReportData) -> Mapping[str, Sequence[float]]:
    """Return the labels of the images on the cards of `rows`, all at once."""
    return data.labels_of(sorted({image for row in rows for image in row["top_images"][:THUMBNAILS]}))


def card(
    row: Row,
    data: ReportData,
    limit: float,
    maps: Mapping[Pair, PatchMap],
    names: Sequence[NameTest] = (),
    labels_of: Mapping[str, Sequence[float]] = MappingProxyType({}),
    images: PageImages | None = None,
) -> Card:
    """Build the card of one feature; `limit` is the end of its correlation axis. The page holds its images itself
    unless `images` lie elsewhere."""
    pairs = zip(data.labels, row["r"], row["r_low"], row["r_high"], strict=True)
    by_size = sorted((LabelCorrelation(*pair) for pair in pairs), key=lambda c: -_size(c.r))[:CARD_LABELS]
    mark = Mark(row["auroc"], row["auroc_low"], row["auroc_high"])
    return Card(
        row=row,
        thumbnails=_thumbnails(row, data, images or Embedded(data.thumbnail, maps), labels_of),
        histogram=histogram(row["histogram"]),
        outside=max(0, row["n_active"] - sum(row["histogram"])),
        correlations=correlations(by_size, limit),
        shown_labels=len(by_size),
        auroc=auroc_plot([mark] if known(mark.value) else [], width=300, height=16),
        names=names,
        support=support_line(row, data.labels, labels_of),
    )


def _thumbnails(
    row: Row, data: ReportData, images: PageImages, labels_of: Mapping[str, Sequence[float]]
) -> list[Thumbnail]:
    pairs = list(zip(row["top_images"], row["top_values"], strict=True))[:THUMBNAILS]
    return [
        Thumbnail(
            said=images.called(image_id),
            value=value,
            src=(src := images.src(image_id)),
            heat=images.heat(row["feature"], image_id, row["max"]) if src else None,
            labels=said_of(data.labels, labels_of[image_id]) if image_id in labels_of else None,
            href=images.href(image_id),
        )
        for image_id, value in pairs
    ]


def said_of(labels: Sequence[str], values: Sequence[float]) -> str:
    """Return an image's annotation in words: its labels, "no label" or "not annotated"."""
    present = [label for label, value in zip(labels, values, strict=True) if value == 1]
    return ", ".join(present) or ("no label" if any(value == 0 for value in values) else "not annotated")


def support_line(row: Row, labels: Sequence[str], labels_of: Mapping[str, Sequence[float]]) -> str:
    """Return the numbers of images with the card's heading, of those shown and of the test's, as a line."""
    if row["best_label"] not in labels or not known(row["best_r"]):
        return ""
    at, present = labels.index(row["best_label"]), row["best_r"] > 0
    shown = [labels_of[image][at] for image in row["top_images"][:THUMBNAILS] if image in labels_of]
    annotated, having = sum(map(known, shown)), sum(value == present for value in shown)
    said = f"{having} of {annotated} {'with' if present else 'without'} {row['best_label']}" if annotated else ""
    counts = row["auroc_positives"], row["auroc_negatives"]
    return f"{said}, {count(counts[not present])} of {count(sum(counts))} in the test" if said else ""
