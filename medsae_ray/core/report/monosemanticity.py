"""The section on monosemanticity: features, raw dimensions and an untrained SAE, each beside what chance gives."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple, cast

from markupsafe import Markup

from medsae_ray.core.artifacts.monosemanticity import MeanFigures, MeasureFigures, MonosemanticityMetrics
from medsae_ray.core.report.charts import Mark, Position, line, linear, svg, text, ticks, whisker
from medsae_ray.core.report.text import known, real

SPACES = {"sae": "SAE features", "raw": "Raw encoder dimensions", "untrained": "Untrained SAE"}
MEASURES = {
    "score": ("Coherence \N{MULTIPLICATION SIGN} specificity", "monosemanticity"),
    "similarity": ("Similarity", "similarity"),
    "purity": ("Purity", "purity"),
    "entropy": ("Entropy", "entropy"),
}
"""The name of each measure, and where it is defined on the page."""
COLUMNS = {"mean": "all", "top_10": "ten best", "top_50": "fifty best"}


class Cell(NamedTuple):
    """A mean over units, and by chance."""

    value: float | None
    null: float | None
    sd: float | None
    lowest: bool = False
    """True if lower is better."""

    @property
    def better(self) -> bool:
        """True if it is better than chance by more than two deviations of single draws."""
        if self.value is None or self.null is None or self.sd is None:
            return False
        gain = self.null - self.value if self.lowest else self.value - self.null
        return gain > 2 * self.sd


class Line(NamedTuple):
    """A kind of unit in the table of a measure."""

    name: str
    kind: str
    units: int
    cells: list[Cell]


class Measure(NamedTuple):
    """A measure with its table and plot."""

    name: str
    anchor: str
    lines: list[Line]
    plot: Markup


class Section(NamedTuple):
    """The section of the page."""

    images: int
    labels: int
    coherence_null: float | None
    coherence_null_sd: float | None
    similarity_null: float | None
    similarity_by: str | None
    """The kind of another encoder that tells how alike images are; None for the run's own."""
    columns: Mapping[str, str]
    measures: list[Measure]


def section(metrics: MonosemanticityMetrics) -> Section:
    """Return the section from the figures of stage `monosemanticity`."""
    return Section(
        images=metrics["images"],
        labels=metrics["labels"],
        coherence_null=metrics["coherence_null"],
        coherence_null_sd=metrics["coherence_null_sd"],
        similarity_null=metrics["similarity_null"],
        similarity_by=metrics.get("similarity_by"),
        columns=COLUMNS,
        measures=list(_measures(metrics)),
    )


def _measures(metrics: MonosemanticityMetrics) -> Iterator[Measure]:
    for key, (name, anchor) in MEASURES.items():
        lines = []
        for space, said in SPACES.items():
            found = cast(dict[str, MeasureFigures], metrics["spaces"][space])[key]
            lines.append(Line(said, space, found["units"], _cells(found, key == "entropy")))
        yield Measure(name, anchor, lines, plot(name, lines))


def _cells(found: MeasureFigures, lowest: bool) -> list[Cell]:
    value, null, sd = (_means(found[kind]) for kind in ("found", "null", "null_sd"))
    return [Cell(value[column], null[column], sd[column], lowest) for column in COLUMNS]


def _means(found: MeanFigures) -> dict[str, float | None]:
    return cast(dict[str, float | None], found)


def plot(name: str, lines: list[Line], width: float = 470, row: float = 26) -> Markup:
    """Draw the mean over the ten best units of each kind as a dot, and its null with two deviations as a whisker."""
    ends = [
        end
        for cell in (one.cells[1] for one in lines)
        for end in (cell.value, *_interval(cell))
        if end is not None and known(end)
    ]
    if not ends:
        return Markup()
    marks = ticks(min(ends), max(ends))
    left, bottom = 170.0, len(lines) * row
    x = linear(marks[0], marks[-1], left, width - 20)
    body = [line("grid", x(v), 0, x(v), bottom) + text("tick mid", x(v), bottom + 12, f"{v:g}") for v in marks]
    body += [_row(one, x, i * row + row / 2, left) for i, one in enumerate(lines)]
    said = "; ".join(f"{one.name} {real(one.cells[1].value)}, by chance {real(one.cells[1].null)}" for one in lines)
    return svg(width, bottom + 18, "best-units", f"{name}, mean of the ten best: {said}", *body)


def _row(one: Line, x: Position, y: float, left: float) -> Markup:
    cell, nan = one.cells[1], float("nan")
    low, high = _interval(cell)
    null = Mark(nan, nan if low is None else low, nan if high is None else high, "plain")
    value = Mark(nan if cell.value is None else cell.value, nan, nan, one.kind)
    return text("name end", left - 12, y + 4, one.name) + whisker([null], x, y) + whisker([value], x, y)


def _interval(cell: Cell) -> tuple[float | None, float | None]:
    """Return two deviations around the null, cut at 0: all measures but a similarity are above it."""
    if cell.null is None or cell.sd is None:
        return None, None
    low = cell.null - 2 * cell.sd
    return max(0.0, low) if cell.null >= 0 else low, cell.null + 2 * cell.sd
