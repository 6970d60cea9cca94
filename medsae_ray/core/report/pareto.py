"""The figure of a sweep: every SAE by its L0 and FVU, coloured by its share of dead features."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup

from medsae_ray.core.report.charts import Position, join, line, linear, svg, text, ticks
from medsae_ray.core.report.text import percent, real

DEAD = (0.05, 0.2, 0.4, 0.7)
"""The shares of dead features at which the colour changes."""
_LEAST = 0.1
"""The least L0 in the figure, to which smaller ones are raised for the logarithm."""


class Point(NamedTuple):
    """An SAE of the figure."""

    number: int
    """The place in the table, which is written at points of the front."""
    title: str
    """The hover text."""
    l0: float
    fvu: float
    dead: float
    pareto: bool


def pareto_plot(points: Sequence[Point], width: float = 860, height: float = 430) -> Markup:
    """Draw FVU over L0 on a logarithmic axis, with the front as a staircase: no SAE lies below or left of it.

    The axis of FVU ends at 1, that of guessing the mean, unless the front goes beyond: an SAE above is drawn
    at the edge, as it would otherwise squeeze all others together.
    """
    left, right, top, floor = 52.0, width - 14, 16.0, height - 40
    if not points:
        return Markup('<p class="empty">No SAE was trained.</p>')
    x_marks = _log_ticks([max(point.l0, _LEAST) for point in points])
    front = sorted((point for point in points if point.pareto), key=lambda point: point.l0)
    ceiling = max(1.0, *(point.fvu for point in front))
    shown = [min(point.fvu, ceiling) for point in points]
    y_marks = ticks(min(shown), max(shown), 5)
    along = linear(math.log(x_marks[0]), math.log(x_marks[-1]), left + 14, right - 14)
    y = linear(y_marks[0], y_marks[-1], floor, top)

    def x(l0: float) -> float:
        return along(math.log(max(l0, _LEAST)))

    places = next((digits for digits in range(1, 5) if len({real(v, digits) for v in y_marks}) == len(y_marks)), 5)
    body = [
        line("grid", left, y(v), right, y(v)) + text("tick end", left - 7, y(v) + 3.5, real(v, places)) for v in y_marks
    ]
    body += [line("grid", x(v), top, x(v), floor) + text("tick mid", x(v), floor + 15, f"{v:g}") for v in x_marks]
    body.append(text("tick mid", (left + right) / 2, floor + 32, "L0: active features per held-out image"))
    body.append(text("tick start", left, top - 6, "FVU"))
    body.append(_staircase(front, x, y))
    body += [_dot(point, x, y) for point in sorted(points, key=lambda point: point.pareto)]
    return svg(width, height, "pareto", "FVU against L0 of every SAE", *body)


def _log_ticks(values: Sequence[float]) -> list[float]:
    """Return numbers 1, 2 and 5 times powers of ten that cover the values, at least two."""
    powers = range(math.floor(math.log10(min(values))), math.ceil(math.log10(max(values))) + 2)
    marks = [round(m * 10.0**power, 9) for power in powers for m in (1, 2, 5)]
    first = max(i for i, mark in enumerate(marks) if mark <= min(values) * 1.000001)
    last = min(i for i, mark in enumerate(marks) if mark >= max(values) * 0.999999)
    return marks[first : max(last, first + 1) + 1]


def _staircase(front: Sequence[Point], x: Position, y: Position) -> Markup:
    path = "".join(
        f"H{x(point.l0):.1f}V{y(point.fvu):.1f}" if i else f"M{x(point.l0):.1f} {y(point.fvu):.1f}"
        for i, point in enumerate(front)
    )
    return Markup('<path class="curve front" d="{}"/>').format(path)


def _dot(point: Point, x: Position, y: Position) -> Markup:
    circle = Markup('<circle class="dot {}{}" cx="{:.1f}" cy="{:.1f}" r="{:g}"><title>{}</title></circle>')
    said = f"{point.title}: L0 {real(point.l0, 1)}, FVU {real(point.fvu)}, dead {percent(point.dead)}"
    at = x(point.l0), y(point.fvu)
    mark = circle.format(shade(point.dead), " pareto" if point.pareto else "", *at, 6 if point.pareto else 4.5, said)
    return mark + text("name end", at[0] - 8, at[1] + 14, str(point.number)) if point.pareto else mark


def shade(dead: float) -> str:
    """Return the class that colours a share of dead features."""
    return f"dead-{sum(dead > step for step in DEAD)}"


def shades() -> list[tuple[str, str]]:
    """Return (class, meaning) of every colour."""
    ends = [percent(step, 0) for step in DEAD]
    said = [f"up to {ends[0]}", *(f"to {end}" for end in ends[1:]), "more"]
    return [(f"dead-{i}", words) for i, words in enumerate(said)]


def legend(width: float = 460) -> Markup:
    """Draw the legend of the colours."""
    body = [text("tick start", 0, 12, "dead features")]
    for i, (name, words) in enumerate(shades()):
        left = 92 + i * 74
        body.append(Markup('<circle class="dot {}" cx="{:g}" cy="8" r="4.5"/>').format(name, left))
        body.append(text("tick start", left + 9, 12, words))
    return join([svg(width, 16, "shades", "Colours of the shares of dead features", *body)])
