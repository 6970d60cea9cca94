"""The decisions below docs/decisions, by head and by date."""

from pathlib import Path
from typing import NamedTuple

import yaml

FOLDER = Path(__file__).resolve().parents[1] / "decisions"
HEADS = {
    "names": "Names and statistics",
    "sae": "Sparse autoencoders",
    "images": "Images",
    "storage": "Storage",
    "cluster": "Cluster",
    "service": "Service",
    "browser": "Browser",
    "encoders": "Encoders",
    "datasets": "Datasets",
    "phantoms": "Phantoms",
    "code": "Code",
}


class Decision(NamedTuple):
    """One page."""

    place: str
    """Below docs/decisions."""
    title: str
    date: str
    status: str
    """holds or superseded."""


def decisions(head: str) -> list[Decision]:
    """Those of a head, the newest first."""
    found = [_read(file) for file in sorted((FOLDER / head).glob("*.md"))]
    return sorted(found, key=lambda one: one.date, reverse=True)


def index() -> str:
    """A list for each head."""
    parts = []
    for head, title in HEADS.items():
        lines = [f"- {one.date} [{one.title}]({one.place}){_mark(one)}" for one in decisions(head)]
        parts.append("\n".join([f"## {title}", "", *lines, ""]))
    return "\n".join(parts)


def navigation() -> list[dict[str, list[str]]]:
    """The entries of mkdocs' navigation."""
    return [{title: [f"decisions/{one.place}" for one in decisions(head)]} for head, title in HEADS.items()]


def _mark(one: Decision) -> str:
    return "" if one.status == "holds" else f" ({one.status})"


def _read(file: Path) -> Decision:
    _, matter, body = file.read_text().split("---\n", 2)
    fields = yaml.safe_load(matter)
    title = body.lstrip().splitlines()[0].removeprefix("# ")
    return Decision(file.relative_to(FOLDER).as_posix(), title, str(fields["date"]), fields["status"])
