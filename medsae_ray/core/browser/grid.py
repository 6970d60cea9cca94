"""The grid of features: a tile each, as HTML for the first page and as data for the script that sorts and filters."""

import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from medsae_ray.core.analysis.findings import headed
from medsae_ray.core.browser.data import BrowserData
from medsae_ray.core.browser.exports import NOTICE
from medsae_ray.core.report import view
from medsae_ray.core.report.names import VERDICT_WORDS
from medsae_ray.core.report.text import known

Row = dict[str, Any]  # one row of the atlas
PAGE = 60
"""The tiles of a page."""
THUMBNAILS = 3
SORTS = {
    "strength": "correlation with a label",
    "feature": "number",
    "name": "name",
    "detection": "detection AUROC",
    "auroc": "AUROC for the label",
    "frequency": "frequency",
    "entropy": "entropy, lowest first",
}


class Tile(NamedTuple):
    """A feature in the grid."""

    feature: int
    name: str
    verdict: str
    source: str
    label: str
    """The label that it correlates with most, or its absence."""
    r: float | None
    auroc: float | None
    detection: float | None
    frequency: float
    entropy: float | None
    text: str
    """The words of its name that are not in the tile."""
    datasets: Sequence[str]
    """The datasets in which a label selects it."""
    thumbs: Sequence[int]


def ordered(data: BrowserData) -> list[Row]:
    """Return the atlas in the order of the grid: by the correlation with a label on discovery patients, without one by
    number, and dead features last."""
    first = view.strongest(data.report)
    there = {row["feature"] for row in first}
    rest = [row for row in data.report.atlas.to_pylist() if row["space"] == "sae" and row["feature"] not in there]
    return first + sorted(rest, key=lambda row: (not row["n_active"], row["feature"]))


def tiles(data: BrowserData, rows: Sequence[Row]) -> list[Tile]:
    """Return the tiles of features in the order of `rows`."""
    verdicts, words = _verdicts(data), _words(data)
    return [_tile(data, row, verdicts.get(row["feature"], ""), words.get(row["feature"], "")) for row in rows]


def _tile(data: BrowserData, row: Row, verdict: str, words: str) -> Tile:
    label = headed(row["best_label"], row["best_r"]) if row["best_label"] and known(row["best_r"]) else ""
    shown = row["top_images"][:THUMBNAILS] if data.access != "none" else []
    return Tile(
        feature=row["feature"],
        name=row["name"] or "",
        verdict=row["verdict"] or verdict or ("" if row["n_active"] else "dead"),
        source=row["name_source"] or "",
        label=label,
        r=_plain(row["best_r"]),
        auroc=_plain(row["auroc"]),
        detection=_plain(row["detection_auroc"]),
        frequency=row["frequency"] if known(row["frequency"]) else 0.0,
        entropy=_plain(row["entropy"]),
        text=" ".join(filter(None, (row["definition"], words))),
        datasets=sorted({str(found["source"]) for found in data.replication_of.get(row["feature"], ())}),
        thumbs=[data.images.number(image_id) for image_id in shown],
    )


def _plain(value: float | None) -> float | None:
    return round(value, 6) if value is not None and known(value) else None


def _verdicts(data: BrowserData) -> dict[int, str]:
    """Return why a feature has no name from the model, by feature."""
    if not data.report.naming:
        return {}
    rows = data.report.naming.scores.select(["feature", "source", "verdict"]).to_pylist()
    return {row["feature"]: row["verdict"] for row in rows if row["source"] == "vlm"}


def _words(data: BrowserData) -> dict[int, str]:
    """Return further words of the names of each feature, of all sources."""
    found: dict[int, list[str]] = {}
    for row in data.report.naming.names.to_pylist() if data.report.naming else ():
        texts = (row["name"], row["category"], row["location"], row["laterality"], *row["alternatives"])
        found.setdefault(row["feature"], []).extend(text for text in texts if text and text != "none")
    return {feature: " ".join(dict.fromkeys(texts)) for feature, texts in found.items()}


def script(data: BrowserData, shown: Sequence[Tile]) -> str:
    """Return the tiles as a script, column by column: a page from a folder may load a script, but no JSON."""
    columns = {field: [getattr(tile, field) for tile in shown] for field in Tile._fields}
    run = {
        "labels": data.report.labels,
        "verdicts": VERDICT_WORDS,
        "notice": NOTICE,
        "citation": [*data.citation.values()],
    }
    lines = [f"window.medsae{name} = {_json(value)};" for name, value in (("Run", run), ("Features", columns))]
    return "\n".join(('"use strict";', *lines, ""))


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def choices(shown: Sequence[Tile]) -> dict[str, list[str]]:
    """Return the values that each filter offers."""
    return {
        "verdict": sorted({tile.verdict for tile in shown} - {""}),
        "label": sorted({tile.label for tile in shown} - {""}),
        "source": sorted({tile.source for tile in shown} - {""}),
        "dataset": sorted({name for tile in shown for name in tile.datasets}),
    }


def pages(shown: Sequence[Tile]) -> Iterator[tuple[int, Sequence[Tile]]]:
    """Yield the pages of the grid, from 1; there is at least one."""
    for start in range(0, max(len(shown), 1), PAGE):
        yield start // PAGE + 1, shown[start : start + PAGE]
