"""Arrow schemas of every table artifact: the contract between stages.

Nullability and list widths are part of a schema. `conform` refuses a table that differs, so a stage can only write a
table that is declared here.
"""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from medsae_ray.core.artifacts.layout import Layout
from medsae_ray.errors import ArtifactError

SPLITS = ("sae", "naming", "detection")
METADATA = "m_"
"""The prefix of a manifest's columns of metadata."""
HISTOGRAM_BINS = 32
DETECTION = ("auroc", "low", "high", "accuracy", "null_mean", "trivial", "ceiling")
"""The scores of a name's test in the atlas."""


def _required(name: str, kind: pa.DataType) -> pa.Field:
    return pa.field(name, kind, nullable=False)


def _required_list(kind: pa.DataType, width: int = -1) -> pa.DataType:
    return pa.list_(pa.field("item", kind, nullable=False), width)


def manifest(labels: Sequence[str], metadata: Sequence[str], studies: bool = False) -> pa.Schema:
    """One row per image. `y_<label>`: 1, 0, -1 (uncertain) or null (not annotated). Metadata is kept as text.

    `uri` may identify a patient: it is for reading images and nothing else. `study_id` exists only with `studies`, and
    is null for a dataset without studies.
    """
    return pa.schema(
        [_required(c, pa.string()) for c in ("image_id", "patient_id", "dataset", "uri")]
        + [_required("shard", pa.int32()), _required("split", pa.string()), _required("index_image", pa.bool_())]
        + [pa.field("study_id", pa.string())] * studies
        + [pa.field(f"y_{label}", pa.int8()) for label in labels]
        + [pa.field(f"m_{column}", pa.string()) for column in metadata]
    )


def organs() -> pa.Schema:
    """One row per file of a scan: its volume (`organ` is null), then its masks.

    `volume` is the place of the scan, as a manifest's `uri`. Each plane has a flag per slice, in canonical order: the
    slice shows the organ or, of a volume, exists; null with a reason if the file could not be used.
    """
    shown = pa.list_(pa.field("item", pa.bool_(), nullable=False))
    return pa.schema(
        [_required("volume", pa.string()), pa.field("organ", pa.string())]
        + [pa.field(plane, shown) for plane in ("axial", "coronal", "sagittal")]
        + [pa.field("reason", pa.string())]
    )


def embeddings(dim: int, grid: tuple[int, int] | None = None) -> pa.Schema:
    """One row per image: `x` is null exactly when the image could not be read, with its `reason`.

    `x` is the image's embedding [dim], or, with the `grid` (rows, columns) of its patches, the tokens of all of them
    [rows * columns * dim], in reading order. `Layout.of` reads this from the schema.
    """
    return pa.schema(
        [
            _required("image_id", pa.string()),
            Layout(dim, grid).field,
            _required("ok", pa.bool_()),
            pa.field("reason", pa.string()),
        ]
    )


def activations(patches: bool = False) -> pa.Schema:
    """One row per image: the active features, ascending, with their values; null lists when the image is not ok.

    `sq_error` = ||x - x_hat||^2 and `sq_norm` = ||x - mean||^2 of centred and scaled embeddings, so that FVU over any
    set of images is a ratio of two sums. Of an SAE on `patches` a feature's value is its maximum over the image's
    patches, both squares are sums over them, and `patch_active` is the number of active features per patch, summed.
    """
    return pa.schema(
        [
            _required("image_id", pa.string()),
            pa.field("feature", _required_list(pa.int32())),
            pa.field("value", _required_list(pa.float32())),
            pa.field("sq_error", pa.float64()),
            pa.field("sq_norm", pa.float64()),
            *[pa.field("patch_active", pa.int64())] * patches,
        ]
    )


def features(n_labels: int) -> pa.Schema:
    """One row per unit. `space` is "sae" (a feature) or "raw" (an encoder dimension). Of patches a feature's value on
    an image is its maximum over them, that of a raw dimension the mean.

    Lists of width [labels] follow the label order of the record. Correlations `r*` are over the discovery patients
    (splits sae and naming), `entropy*` over patients that the SAE was not trained on (naming and detection), and
    `auroc*` of `best_label`, the one with the largest |r|, over the detection patients, one image each: for the label's
    presence or, where `best_r` is negative, its absence. Of features only, over discovery patients, one image each:
    `best_p` is the chance that a feature unrelated to `best_label` is active on as many with (without) it, and
    `active_auroc` the AUROC of "active or inactive" for its presence (absence); both keep to pairs of one dataset.
    `histogram` counts non-zero |values| in bins of equal log2 width from 2^-12 to 2^4.
    """
    per_label = _required_list(pa.float64(), n_labels or -1)  # Parquet has no lists of fixed width 0
    return pa.schema(
        [
            _required("space", pa.string()),
            _required("feature", pa.int32()),
            _required("n_images", pa.int64()),
            _required("n_active", pa.int64()),
            _required("frequency", pa.float64()),
            pa.field("mean_active", pa.float64()),
            pa.field("max", pa.float64()),
            _required("histogram", _required_list(pa.int64(), HISTOGRAM_BINS)),
            _required("top_images", _required_list(pa.string())),
            _required("top_values", _required_list(pa.float32())),
            _required("r", per_label),
            _required("r_low", per_label),
            _required("r_high", per_label),
            pa.field("entropy", pa.float64()),
            pa.field("entropy_normalised", pa.float64()),
            pa.field("best_label", pa.string()),
            pa.field("best_r", pa.float64()),
            pa.field("best_p", pa.float64()),
            pa.field("active_auroc", pa.float64()),
            pa.field("auroc", pa.float64()),
            pa.field("auroc_low", pa.float64()),
            pa.field("auroc_high", pa.float64()),
            _required("auroc_positives", pa.int64()),
            _required("auroc_negatives", pa.int64()),
        ]
    )


def feature_map() -> pa.Schema:
    """One row per feature: its place on a map, in -1 to 1, where features with like decoder directions are neighbours.

    Only neighbourhoods mean something. Features that are active on no image have a place too.
    """
    return pa.schema([_required("feature", pa.int32()), _required("x", pa.float64()), _required("y", pa.float64())])


def probes() -> pa.Schema:
    """One row per label and space: AUROC of a linear probe on all units of the space ("raw" dimensions, "sae" features)
    over the detection patients, one image each. It is fitted on `patients` with `strength` C; null without a probe. In
    space "means" it is that of raw embeddings along the difference of class means, which has no strength.
    """
    reals = [pa.field(column, pa.float64()) for column in ("auroc", "low", "high", "strength")]
    counts = [_required(column, pa.int64()) for column in ("positives", "negatives", "patients")]
    return pa.schema([_required("label", pa.string()), _required("space", pa.string()), *reals, *counts])


def sweep() -> pa.Schema:
    """One row per SAE of a sweep, in the order of `front` (1 is the Pareto front of L0 and FVU) and L0.

    `settings` (JSON) are its changes to the recipe's what.sae, and `member` is its place in the recipe. Figures are of
    the epoch whose weights were kept, on held-out images; `dead` is the share of features that fired on no training
    image in that epoch. A missing SAE has a `reason` and a `message`, and nulls.
    """
    measures = ("fvu", "r2", "r2_scalar", "l0", "dead", "cosine", "seconds")
    return pa.schema(
        [
            _required("member", pa.int32()),
            _required("settings", pa.string()),
            pa.field("artifact", pa.string()),
            pa.field("front", pa.int32()),
            _required("pareto", pa.bool_()),
            *(pa.field(measure, pa.float64()) for measure in measures),
            pa.field("epochs", pa.int32()),
            pa.field("reason", pa.string()),
            pa.field("message", pa.string()),
        ]
    )


def ranking() -> pa.Schema:
    """One row per trained SAE of a sweep, the chosen one first, then by the mean of its two ranks.

    Figures are of patients of the split naming, one image each. `monosemanticity` is the mean C x S of the ten best
    features, `needed` the mean number of features that targets need for 50 to 100 % of a dense probe's AUROC above
    chance, and `at_ten` the share that ten have; null if no target says it. `near_front`: the FVU is at most 1.02 times
    the least of SAEs whose L0 is no higher, or by at most 5 %.
    """
    measures = ("l0", "fvu", "monosemanticity", "needed", "at_ten", "rank")
    return pa.schema(
        [
            _required("member", pa.int32()),
            _required("settings", pa.string()),
            _required("artifact", pa.string()),
            *(pa.field(measure, pa.float64()) for measure in measures),
            _required("near_front", pa.bool_()),
            _required("chosen", pa.bool_()),
        ]
    )


def fingerprints() -> pa.Schema:
    """One row per image: its perceptual hashes of 64 and 256 bits, null with a reason if it could not be read."""
    return pa.schema(
        [
            _required("image_id", pa.string()),
            pa.field("coarse", pa.uint64()),
            pa.field("detail", pa.binary(32)),
            pa.field("reason", pa.string()),
        ]
    )


def duplicates() -> pa.Schema:
    """One row per pair of near-duplicate images of two datasets; `distance` bits of their 64 differ."""
    text = [_required(f"{column}_{side}", pa.string()) for side in "ab" for column in ("dataset", "image_id", "split")]
    return pa.schema([*text, _required("distance", pa.int32())])


def replication() -> pa.Schema:
    """One row per (source, feature, label, dataset): a pair selected in `source`, and its values in `dataset`.

    `verdict` is that of the pair: "replicated", "not_replicated" or "untested". `q` and `holds` are null in the
    source's own row, and in datasets that cannot test the pair.
    """
    return pa.schema(
        [
            _required("source", pa.string()),
            _required("feature", pa.int32()),
            _required("label", pa.string()),
            _required("dataset", pa.string()),
            pa.field("r", pa.float64()),
            pa.field("r_low", pa.float64()),
            pa.field("r_high", pa.float64()),
            _required("patients", pa.int64()),
            pa.field("q", pa.float64()),
            pa.field("holds", pa.bool_()),
            _required("verdict", pa.string()),
        ]
    )


def samples() -> pa.Schema:
    """One row per image that a feature is named from or tested on.

    `purpose` is "naming" (roles top, middle, contrast), "check" and "detection" (bin0 to bin4, equal, hard, matched) or
    "pool": the shared detection images, as feature -1.
    """
    return pa.schema(
        [
            _required("feature", pa.int32()),
            _required("purpose", pa.string()),
            _required("role", pa.string()),
            _required("image_id", pa.string()),
            _required("value", pa.float64()),
        ]
    )


def names() -> pa.Schema:
    """One row per (feature, source of the name): "vlm", "label" or "vocabulary".

    `name` is null unless `status` is "named"; else it is "abstained", "failed" or "insufficient_support", and
    `evidence` has the reason. A vlm's evidence is its whole reply, and `choice` the reason not to take its first name.
    """
    texts = ("definition", "category", "location", "laterality", "confidence")
    return pa.schema(
        [
            _required("feature", pa.int32()),
            _required("source", pa.string()),
            _required("status", pa.string()),
            pa.field("name", pa.string()),
            *(pa.field(text, pa.string()) for text in texts),
            pa.field("fraction_of_a", pa.float64()),
            _required("alternatives", _required_list(pa.string())),
            _required("attempts", pa.int32()),
            _required("evidence", pa.string()),
            pa.field("choice", pa.string()),
        ]
    )


def atlas(n_labels: int) -> pa.Schema:
    """The features table of the SAE with the strongest name of each feature and, where it was tested, its score."""
    text = [pa.field(column, pa.string()) for column in ("name", "name_source", "definition", "verdict")]
    real = [pa.field(f"detection_{column}", pa.float64()) for column in DETECTION]
    return pa.schema([*features(n_labels), *text, *real])


def conform(table: pa.Table, schema: pa.Schema, where: str) -> pa.Table:
    """Return `table` with its columns in schema order. Raises ArtifactError that names a differing column."""
    if table.schema.names != schema.names:
        raise ArtifactError(f"{where}: columns {table.schema.names} were written, {schema.names} are declared")
    for field in schema:
        column = table.column(field.name)
        if column.type != field.type:
            raise ArtifactError(f"{where}: column {field.name!r} is {column.type}, {field.type} is declared")
        if not field.nullable and column.null_count:
            raise ArtifactError(f"{where}: column {field.name!r} has {column.null_count} nulls, none are allowed")
        if (nulls := _null_items(column)) and not field.type.value_field.nullable:
            raise ArtifactError(f"{where}: column {field.name!r} has {nulls} nulls in its lists, none are allowed")
    return pa.Table.from_arrays(table.columns, schema=schema)


def _null_items(column: pa.ChunkedArray) -> int:
    """Count nulls within lists; Arrow lets them into a list whose items are declared not to be null."""
    is_list = pa.types.is_list(column.type) or pa.types.is_fixed_size_list(column.type)
    return pc.list_flatten(column).null_count if is_list else 0
