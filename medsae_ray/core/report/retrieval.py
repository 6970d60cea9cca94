"""The report's section on similar images: how good each search is, by size of fingerprint, and what it found."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from markupsafe import Markup

from medsae_ray.core.artifacts.retrieval import RetrievalFigures, RetrievalMetrics
from medsae_ray.core.report.charts import join, line, linear, svg, text, ticks
from medsae_ray.core.report.text import count, real
from medsae_ray.core.report.thumbnails import data_url

METHODS = {
    "sparse": "strongest features",
    "rarity": "features, weighted by rarity",
    "dense": "largest dimensions",
    "whole": "all dimensions",
    "random": "random images",
}
CURVES = {"sparse": "sae", "rarity": "plain", "dense": "raw"}
"""The searches with a line, and its colour."""


class Shown(NamedTuple):
    """An image of a strip."""

    image_id: str
    src: str | None


class Strip(NamedTuple):
    """An image, and those that two searches find."""

    query: Shown
    k: int
    sparse: list[Shown]
    whole: list[Shown]


@dataclass(frozen=True)
class RetrievalSection:
    """The section's figures."""

    found: RetrievalMetrics
    rows: list[tuple[str, RetrievalFigures]]
    """The searches that have figures, each with its name in words."""
    chart: Markup | None
    """The label precision over sizes; None without labels."""
    strips: list[Strip]


def retrieval_section(found: RetrievalMetrics, thumbnail: Callable[[str], bytes | None]) -> RetrievalSection:
    """Build the section."""

    def shown(image_id: str) -> Shown:
        return Shown(image_id, data_url(thumbnail(image_id)))

    strips = [
        Strip(shown(one["image_id"]), one["k"], list(map(shown, one["sparse"])), list(map(shown, one["whole"])))
        for one in found["examples"]
    ]
    rows = [
        (METHODS[row["method"]], row)
        for row in found["methods"]
        if (row["precision_10"], row["cosine"]) != (None, None)
    ]
    return RetrievalSection(found, rows, precision_chart(found["methods"]), strips)


def precision_chart(rows: Sequence[RetrievalFigures]) -> Markup | None:
    """Draw the precision at ten over sizes of fingerprints, with lines for whole embeddings and random images.

    A point over fewer labels than the others is left out, as it cannot be compared with them.
    """
    labels = max((row["labels"] for row in rows), default=0)
    known = [row for row in rows if row["precision_10"] is not None and row["labels"] == labels]
    sizes = sorted({row["k"] for row in known if row["k"] is not None})
    if not sizes:
        return None
    width, height, left, right, top, floor = 460.0, 210.0, 40.0, 290.0, 12.0, 176.0
    x = linear(0, max(1.0, math.log(sizes[-1] / sizes[0])), left + 8, right - 8)
    marks = ticks(0, max(row["precision_10"] or 0 for row in known))
    y = linear(marks[0], marks[-1], floor, top)
    body = [line("grid", left, y(v), right, y(v)) + text("tick end", left - 6, y(v) + 3.5, real(v, 2)) for v in marks]
    body += [text("tick mid", x(math.log(k / sizes[0])), floor + 15, count(k)) for k in sizes]
    body.append(text("tick mid", (left + right) / 2, floor + 30, "k, coordinates of the fingerprint"))
    ends: list[tuple[float, str, str]] = []
    for method, kind in CURVES.items():
        own = sorted((row["k"] or 0, row["precision_10"] or 0.0) for row in known if row["method"] == method)
        points = [(x(math.log(k / sizes[0])), y(value)) for k, value in own]
        if points:
            body += [line(f"whisker {kind}", *a, *b) for a, b in pairwise(points)]
            body += [Markup('<circle class="dot {}" cx="{:.1f}" cy="{:.1f}" r="3"/>').format(kind, *p) for p in points]
            ends.append((points[-1][1], METHODS[method], kind))
    for row in known:
        if row["method"] in ("whole", "random"):
            level = y(row["precision_10"] or 0.0)
            body.append(line("chance", left, level, right, level))
            ends.append((level, METHODS[row["method"]], "plain"))
    used = -math.inf
    for place, said, kind in sorted(ends):
        used = max(place + 4, used + 13)
        body.append(text(f"end-label {kind}", right + 7, used, said))
    return svg(width, height, "retrieval", "Label precision at ten over sizes of fingerprints", join(body))
