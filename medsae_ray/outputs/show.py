"""The output of `medsae show`: an artifact, a run's root, or a summary.json."""

import json
from typing import TYPE_CHECKING, Any, cast

from rich.console import RenderableType
from rich.table import Table

from medsae_ray.core.artifacts.artifact import RECORD, Artifact, open_artifact
from medsae_ray.core.artifacts.store import Store, split_uri
from medsae_ray.errors import ArtifactError

if TYPE_CHECKING:
    from medsae_ray.outputs.summary_types import Summary

SHOWN = 300
"""The most characters of one metric that are printed."""


def shown(path: str) -> list[RenderableType]:
    """Return the contents of `path`. ArtifactError if it is nothing that a run writes, or a part of it."""
    folder, name = split_uri(path)
    if name and folder.exists(name):
        if name == RECORD:
            return _artifact(open_artifact(folder.uri))
        return _summary(path, folder.read(name)) if name.endswith(".json") else _no_file(path)
    store = Store(path)
    if store.exists(RECORD):
        return _artifact(open_artifact(path))
    made = sorted(child for child in store.folders() if store.exists(f"{child}/{RECORD}"))
    reports = [page for page in store.names() if page.endswith(".html")]
    if not made and not reports:
        raise ArtifactError(
            f"{path} is no finished artifact (it has no {RECORD}) and no root of a run: there is none directly below it"
        )
    return _root(store, made, reports)


def _artifact(artifact: Artifact) -> list[RenderableType]:
    record = artifact.record
    table = Table(show_header=False, box=None)
    lines = {
        "artifact": record.name,
        "made from": ", ".join(record.parents.values()) or "–",
        "rows": f"{record.rows:,}",
        "not ok": ", ".join(f"{reason} {n:,}" for reason, n in record.not_ok.items()) or "0",
        "files": f"{len(record.files)}, {sum(f.bytes for f in record.files) / 1e6:,.1f} MB",
        **{f"what.{key}": json.dumps(value) for key, value in record.what.items()},
        **{f"metrics.{key}": _short(value) for key, value in record.metrics.items()},
    }
    for key, value in lines.items():
        table.add_row(key, value)
    return [table, artifact.schema.to_string()] if artifact.parts else [table]


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}... (whole in record.json)"


def _root(store: Store, made: list[str], reports: list[str]) -> list[RenderableType]:
    table = Table("artifact", "made", "made from", box=None, header_style="bold")
    for column in ("rows", "not ok", "MB"):
        table.add_column(column, justify="right")
    records = [open_artifact(store.child(name).uri).record for name in made]
    for record in sorted(records, key=lambda record: str(record.run.get("end"))):
        size = f"{sum(file.bytes for file in record.files) / 1e6:,.1f}"
        bad = f"{sum(record.not_ok.values()):,}"
        end = str(record.run.get("end", "–"))[:16].replace("T", " ")
        table.add_row(record.name, end, ", ".join(record.parents.values()) or "–", f"{record.rows:,}", bad, size)
    pages = [f"report: {store.address(page)}" for page in reports]
    return [table, "\n".join(["", *pages])] if pages else [table]


def _summary(path: str, data: bytes) -> list[RenderableType]:
    # The tables of a run's end come with Ray, which takes seconds to import.
    from medsae_ray.outputs.console import findings_table, headline

    try:
        summary: dict[str, Any] = json.loads(data)
        stages = Table("stage", "artifact", box=None, header_style="bold")
        for stage in summary["stages"]:
            stages.add_row(stage["name"], stage["artifact"])
        warnings = [f"! {warning['message']}" for warning in summary.get("warnings", [])]
        report = [f"report: {split_uri(path)[0].address(summary['report'])}"] if "report" in summary else []
        known = cast("Summary", summary)
        parts: list[RenderableType] = [str(known["recipe"]), findings_table(known), headline(known)]
        return [*parts, stages, *warnings, *report]
    except (ValueError, KeyError, TypeError):
        return _no_file(path)


def _no_file(path: str) -> list[RenderableType]:
    raise ArtifactError(
        f"{path} is a file that show does not know; it takes an artifact's folder, a run's root, or its summary.json"
    )
