"""Small charts as inline SVG. Colours and type are classes of `style.css`; geometry is in pixels.

Every string goes through `Markup.format`, which escapes it.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from markupsafe import Markup

from medsae_ray.core.report.text import count, interval, known, real, shorten, significant

Position = Callable[[float], float]


class Mark(NamedTuple):
    """A value with its 95 % interval; `kind` is the class that colours it ("sae" or "raw")."""

    value: float
    low: float
    high: float
    kind: str = "sae"


def join(pieces: Iterable[Markup]) -> Markup:
    """Concatenate pieces of SVG."""
    return Markup("").join(pieces)


def svg(width: float, height: float, name: str, description: str, *body: Markup, role: str = "img") -> Markup:
    """Return an inline figure with a description for screen readers; `role` is "group" if it has links."""
    head = Markup('<svg class="{}" viewBox="0 0 {:g} {:g}" width="{:g}" height="{:g}" role="{}" aria-label="{}">')
    return head.format(name, width, height, width, height, role, description) + join(body) + Markup("</svg>")


def line(name: str, x1: float, y1: float, x2: float, y2: float) -> Markup:
    """Draw a line of CSS class `name` from (x1, y1) to (x2, y2)."""
    return Markup('<line class="{}" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>').format(name, x1, y1, x2, y2)


def text(name: str, x: float, y: float, content: str) -> Markup:
    """Write escaped text of CSS class `name` at (x, y)."""
    return Markup('<text class="{}" x="{:.1f}" y="{:.1f}">{}</text>').format(name, x, y, content)


def linear(low: float, high: float, start: float, end: float) -> Position:
    """Return the map [low, high] -> [start, end] pixels; values outside are put on the border."""
    span = high - low or 1.0
    return lambda value: start + (min(max(value, low), high) - low) / span * (end - start)


def ticks(low: float, high: float, about: int = 4) -> list[float]:
    """Return round numbers (1, 2, 2.5 or 5 times a power of ten) that cover [low, high], the ends included."""
    size = max(abs(low), abs(high))
    span = high - low if high - low > 1e-9 * size else size  # a flat line has no span of its own
    rough = (span if span > 1e-12 else 1.0) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [i * step for i in range(first, max(last, first + 1) + 1)]


def whisker(marks: Sequence[Mark], x: Position, y: float, gap: float = 8) -> Markup:
    """Draw dots with intervals on one row, `gap` pixels apart vertically and centred on `y`."""
    shift = (len(marks) - 1) / 2
    return join(_dot(mark, x, y + (i - shift) * gap) for i, mark in enumerate(marks))


def _dot(mark: Mark, x: Position, y: float) -> Markup:
    body = []
    if known(mark.low) and known(mark.high):
        body.append(line(f"whisker {mark.kind}", x(mark.low), y, x(mark.high), y))
    if known(mark.value):
        dot = Markup('<circle class="dot {}" cx="{:.1f}" cy="{:.1f}" r="3.5"/>')
        body.append(dot.format(mark.kind, x(mark.value), y))
    return join(body)


def auroc_plot(marks: Sequence[Mark], width: float = 210, height: float = 30) -> Markup:
    """Draw dot and whisker on the axis 0 to 1, with a line at 0.5, the AUROC of chance."""
    x = linear(0, 1, 6, width - 6)
    grid = join(line("chance" if v == 0.5 else "grid", x(v), 0, x(v), height) for v in (0, 0.25, 0.5, 0.75, 1))
    said = "; ".join(f"{m.kind} {real(m.value)} {interval(m.low, m.high)}" for m in marks) or "no value"
    return svg(width, height, "auroc-plot", f"AUROC: {said}", grid, whisker(marks, x, height / 2, height / 3))


def auroc_axis(width: float = 210) -> Markup:
    """Draw the axis above a column of `auroc_plot`."""
    x = linear(0, 1, 6, width - 6)
    named = ((0, "0", "start"), (0.25, ".25", "mid"), (0.5, ".5", "mid"), (0.75, ".75", "mid"), (1, "1", "end"))
    labels = (text(f"tick {anchor}", 0 if v == 0 else width if v == 1 else x(v), 10, said) for v, said, anchor in named)
    return svg(width, 12, "auroc-plot", "AUROC from 0 to 1", *labels)


def histogram(counts: Sequence[int], low: int = -12, high: int = 4, width: float = 300, height: float = 104) -> Markup:
    """Draw bars over bins of equal log2 width from 2^low to 2^high."""
    x, floor, top = linear(low, high, 8, width - 8), height - 18, max([*counts, 1])
    step = (high - low) / max(len(counts), 1)
    bar = Markup('<rect class="bar" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"><title>{}</title></rect>')
    bars = []
    for i, n in enumerate(counts):
        if n > 0:
            left, tall = x(low + i * step), max(1.0, n / top * (floor - 14))
            ends = (2.0 ** (low + i * step), 2.0 ** (low + (i + 1) * step))
            said = f"{count(n)} images, {significant(ends[0])} to {significant(ends[1])}"
            bars.append(bar.format(left + 0.5, floor - tall, x(low + step) - x(low) - 1, tall, said))
    axis = [
        line("axis", x(low), floor, x(high), floor),
        text("tick start", 8, 9, f"tallest bar: {count(max(counts, default=0))} images"),
    ]
    for e in range(low, high + 1, 4):
        axis += [line("axis", x(e), floor, x(e), floor + 3), _power(x(e), height - 4, e)]
    return svg(width, height, "histogram", "Histogram of the activations, logarithmic", *bars, *axis)


def _power(x: float, y: float, exponent: int) -> Markup:
    content = Markup('2<tspan class="power" dy="-4">{}</tspan>').format(real(exponent, 0))
    return text("tick mid", x, y, content)


class LabelCorrelation(NamedTuple):
    """The correlation of a feature with one label, with its 95 % interval."""

    label: str
    r: float
    low: float
    high: float


def correlations(rows: Sequence[LabelCorrelation], limit: float, width: float = 400, row: float = 17) -> Markup:
    """Draw one row per label on the axis -limit to limit: a bar from zero to r, with its interval as a whisker."""
    left, right, bottom = 146, width - 46, len(rows) * row + 2
    x = linear(-limit, limit, left, right)
    body = [line("chance" if v == 0 else "grid", x(v), 0, x(v), bottom) for v in (-limit, 0, limit)]
    for i, (label, r, low, high) in enumerate(rows):
        y = i * row + row / 2 + 1
        body.append(_label(label, left - 8, y + 3.5))
        if known(r):
            bar = Markup('<rect class="{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="6"/>')
            body.append(bar.format("positive" if r > 0 else "negative", min(x(0), x(r)), y - 3, abs(x(r) - x(0))))
            body.append(whisker([Mark(math.nan, low, high, "plain")], x, y))
        body.append(text("value end", width, y + 3.5, real(r, 2, signed=True)))
    body += [text("tick mid", x(v), bottom + 12, real(v, 1, signed=v > 0)) for v in (-limit, limit)]
    body.append(text("tick mid", x(0), bottom + 12, "0"))
    return svg(width, bottom + 16, "correlations", "Correlation with each label", *body)


def _label(label: str, x: float, y: float) -> Markup:
    return Markup('<text class="name end" x="{:.1f}" y="{:.1f}"><title>{}</title>{}</text>').format(
        x, y, label, shorten(label, 20)
    )


class Series(NamedTuple):
    """A line of a panel; `kind` is the class that colours it."""

    name: str
    values: Sequence[float | None]
    kind: str = "sae"


def panel(epochs: Sequence[float], series: Sequence[Series], include: Sequence[float] = ()) -> Markup:
    """Draw lines over epochs. The vertical axis shows the values `include`. A missing value breaks the line."""
    width, height, left, right, top, floor = 292.0, 170.0, 44.0, 228.0, 10.0, 142.0
    values = [v for s in series for v in s.values if v is not None and known(v)]
    if not values or not epochs:
        return Markup('<p class="empty">No epoch was logged.</p>')
    marks = ticks(min(*values, *values, *include), max(*values, *values, *include))
    x = linear(min(epochs), max(epochs), left, right)
    y = linear(marks[0], marks[-1], floor, top)
    places = _decimals(marks)
    body = [
        line("grid", left, y(v), right, y(v)) + text("tick end", left - 6, y(v) + 3.5, real(v, places)) for v in marks
    ]
    body += [text("tick mid", x(e), floor + 15, f"{e:g}") for e in dict.fromkeys((min(epochs), max(epochs)))]
    body.append(text("tick mid", (left + right) / 2, floor + 15, "epoch"))
    body += [_path(epochs, s, x, y) for s in series]
    body += _ends(series, right + 7, y)
    return svg(width, height, "panel", ", ".join(s.name for s in series) + " over epochs", *body)


def _decimals(marks: Sequence[float]) -> int:
    step = abs(marks[1] - marks[0])
    return next((d for d in range(6) if abs(round(step, d) - step) < 1e-6 * step), 6)


def _path(epochs: Sequence[float], series: Series, x: Position, y: Position) -> Markup:
    """Draw the line as one path, lifted at a missing value, and a dot on its last value."""
    points = [(x(e), y(v)) if v is not None and known(v) else None for e, v in zip(epochs, series.values, strict=True)]
    steps = [
        f"{'L' if i and points[i - 1] else 'M'}{p[0]:.1f} {p[1]:.1f}" for i, p in enumerate(points) if p is not None
    ]
    last = next((p for p in reversed(points) if p), None)
    dot = (
        Markup('<circle class="dot {}" cx="{:.1f}" cy="{:.1f}" r="3"/>').format(series.kind, *last)
        if last
        else Markup()
    )
    return Markup('<path class="curve {}" d="{}"/>').format(series.kind, " ".join(steps)) + dot


def _ends(series: Sequence[Series], x: float, y: Position) -> list[Markup]:
    """Write name and last value at each line's end, pushed apart if they would overlap."""
    ends = [(y(v), s, v) for s in series if (v := next((v for v in reversed(s.values) if known(v)), None)) is not None]
    body, used = [], -math.inf
    for place, s, value in sorted(ends, key=lambda end: end[0]):
        used = max(place + 4, used + 13)
        body.append(text(f"end-label {s.kind}", x, used, f"{s.name} {significant(value)}".strip()))
    return body
