"""The tables of a site: all features as CSV and Parquet, with images by their numbers."""

import io
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from medsae_ray.core.browser.data import BrowserData
from medsae_ray.core.browser.privacy import SMALL

NOTICE = "Not for clinical use: a feature is a correlate of a label in this data set, not a finding in a patient."
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_LISTS = ("r", "r_low", "r_high", "top_images", "top_values", "histogram")


def csv(data: BrowserData, rows: Sequence[dict[str, Any]]) -> bytes:
    """Return a row per feature, in the order of the grid, after lines that begin with #."""
    table = _table(data, [_harmless(row) for row in rows]).drop_columns([*_LISTS])
    cited = "".join(f"# {stage}: {artifact}\n" for stage, artifact in data.citation.items())
    out = io.BytesIO()
    pa.csv.write_csv(table, out)
    return f"# {NOTICE}\n{cited}".encode() + out.getvalue()


def parquet(data: BrowserData, rows: Sequence[dict[str, Any]]) -> bytes:
    """Return the same with correlations, histograms and images' numbers; notice and artifacts are in its metadata."""
    table = _table(data, rows)
    table = table.replace_schema_metadata({"notice": NOTICE, "labels": "\n".join(data.report.labels), **data.citation})
    out = io.BytesIO()
    pq.write_table(table, out, compression="zstd")
    return out.getvalue()


def _harmless(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row whose texts a spreadsheet does not compute: names come from a model."""
    return {
        key: f"'{value}" if isinstance(value, str) and value[:1] in _FORMULA else value for key, value in row.items()
    }


def _table(data: BrowserData, rows: Sequence[dict[str, Any]]) -> pa.Table:
    atlas = data.report.atlas.schema
    shown = data.access != "none"
    plain = [
        row
        | {"top_images": [data.images.number(image_id) for image_id in row["top_images"]] if shown else []}
        | {"top_values": row["top_values"] if shown else []}
        | {key: _counted(row[key]) for key in ("auroc_positives", "auroc_negatives")}
        for row in rows
    ]
    fields = [_field(field) for field in atlas if field.name != "space"]
    return pa.Table.from_pylist(plain, schema=pa.schema(fields))


def _field(field: pa.Field) -> pa.Field:
    if field.name == "top_images":
        return pa.field(field.name, pa.list_(pa.int64()))
    return field.with_nullable(True)


def _counted(value: int) -> int | None:
    """Return the size of a group, or None if it is small."""
    return None if 0 < value < SMALL else value
