"""The section of the report on what few features keep of all dimensions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from markupsafe import Markup

from medsae_ray.core.artifacts.recovery import CurvePoint, RecoveryMetrics
from medsae_ray.core.probing.shares import headed_by
from medsae_ray.core.report.charts import join, line, linear, svg, text, ticks
from medsae_ray.core.report.text import real

KINDS = {
    "features": "SAE features",
    "group": "SAE features, SAIL's order",
    "dimensions": "raw dimensions",
    "components": "principal components",
    "random": "random features",
    "shuffled": "shuffled labels",
    "random_weights": "dimensions of random weights",
}
"""The kinds of probes in the order of the legend."""
FEW = 3
"""A number of features that the table shows, if it is a size."""
LINKED = 5
"""The strongest features of a target in the table."""


@dataclass(frozen=True)
class RecoveryReport:
    """Stage `recovery`: its figures, and its rows in their order."""

    figures: RecoveryMetrics
    rows: Sequence[Mapping[str, Any]]


class TargetRow(NamedTuple):
    """A target with its probes: (kind, n) -> row."""

    name: str
    probes: Mapping[tuple[str, int | None], Mapping[str, Any]]
    features: Sequence[int]
    """Its strongest features."""

    def recovered(self, n: int | None, least: float) -> float | None:
        """Return what n features keep above chance; None where all dimensions do not tell the target."""
        few, dense = (self.probes.get(key) for key in (("features", n), ("dimensions", None)))
        if not (few and dense) or None in (few["auroc"], dense["auroc"]) or dense["auroc"] <= least:
            return None
        return float((few["auroc"] - 0.5) / (dense["auroc"] - 0.5))


class RecoverySection(NamedTuple):
    """The section: a figure, and a table of the targets."""

    figures: RecoveryMetrics
    n: int | None
    """The number of features that the text is about; None without a curve."""
    points: Mapping[str, CurvePoint]
    """The points of that n by kind."""
    plot: Markup
    legend: Sequence[tuple[str, str]]
    """The kinds of the figure, and their words."""
    sizes: Sequence[int]
    """The numbers of features in the table."""
    targets: Sequence[TargetRow]


def recovery_section(found: RecoveryReport) -> RecoverySection:
    """Return the section of a run."""
    curves = found.figures["curves"]
    n = headed_by(curves)
    kinds = [kind for kind in KINDS if any(point["kind"] == kind for point in curves)]
    head = headed_by(found.rows)
    sizes = sorted({row["n"] for row in found.rows if row["kind"] == "features" and row["n"] in (1, FEW, head)})
    return RecoverySection(
        figures=found.figures,
        n=n,
        points={point["kind"]: point for point in curves if n is not None and point["n"] == n},
        plot=recovery_plot(curves, found.figures["dense"]),
        legend=[(kind, KINDS[kind]) for kind in kinds],
        sizes=sizes,
        targets=_targets(found.rows, head),
    )


def _targets(rows: Sequence[Mapping[str, Any]], head: int | None) -> list[TargetRow]:
    probes: dict[str, dict[tuple[str, int | None], Mapping[str, Any]]] = {}
    for row in rows:
        if row["kind"] and not row["untested"]:
            probes.setdefault(row["target"], {})[row["kind"], row["n"]] = row
    return [TargetRow(name, of, _strongest(of, head)) for name, of in probes.items()]


def _strongest(probes: Mapping[tuple[str, int | None], Mapping[str, Any]], head: int | None) -> list[int]:
    sizes = [n for kind, n in probes if kind == "features" and n and n <= (head or 0)]
    return list(probes["features", max(sizes)]["columns"][:LINKED]) if sizes else []


def recovery_plot(curves: Sequence[CurvePoint], dense: float | None, width: float = 700, height: float = 330) -> Markup:
    """Draw the mean AUROC of each kind against the number of columns, its sizes at equal distances, as they grow about
    alike; all dimensions are a dashed line."""
    points = [point for point in curves if point["n"]]
    if not points or dense is None:
        return Markup('<p class="empty">There is no target that all dimensions tell, so there is no curve.</p>')
    left, right, top, floor = 48.0, width - 12, 12.0, height - 40
    sizes = sorted({point["n"] for point in points if point["n"]})
    x = linear(0, max(len(sizes) - 1, 1), left + 10, right - 10)
    marks = ticks(min(0.5, *(point["auroc"] for point in points)), max(dense, *(point["auroc"] for point in points)), 5)
    y = linear(marks[0], marks[-1], floor, top)
    body = [line("grid", left, y(v), right, y(v)) + text("tick end", left - 7, y(v) + 3.5, real(v)) for v in marks]
    body.append(line("chance", left, y(0.5), right, y(0.5)))
    body += [text("tick mid", x(place), floor + 15, str(n)) for place, n in enumerate(sizes)]
    body.append(text("tick mid", (left + right) / 2, floor + 32, "n: the strongest columns of a probe"))
    body.append(line("dense", left, y(dense), right, y(dense)))
    body.append(text("tick start", left + 4, y(dense) - 5, f"all dimensions {real(dense)}"))
    for kind in reversed(KINDS):
        own = {point["n"]: point["auroc"] for point in points if point["kind"] == kind}
        body.append(_curve(kind, [(x(place), y(own[n])) for place, n in enumerate(sizes) if n in own]))
    return svg(width, height, "recovery-plot", "Mean AUROC against the number of columns", *body)


def _curve(kind: str, places: Sequence[tuple[float, float]]) -> Markup:
    if not places:
        return Markup()
    path = " ".join(f"{'L' if i else 'M'}{x:.1f} {y:.1f}" for i, (x, y) in enumerate(places))
    dot = Markup('<circle class="dot of-{}" cx="{:.1f}" cy="{:.1f}" r="3"/>')
    return Markup('<path class="curve of-{}" d="{}"/>').format(kind, path) + join(dot.format(kind, *p) for p in places)


def key(kind: str) -> Markup:
    """Draw the line of a kind for the legend."""
    return svg(26, 10, "key-line", KINDS[kind], _curve(kind, [(1, 5), (25, 5)]))
