"""The label-by-feature map: correlations of the strongest features, grouped by the best label of each."""

from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup

from medsae_ray.core.report.charts import join, svg, text
from medsae_ray.core.report.text import known, real, shorten

# ColorBrewer RdBu, blue for negative: distinct with every common kind of colour blindness.
STOPS = (
    (5, 48, 97), (33, 102, 172), (67, 147, 195), (146, 197, 222), (209, 229, 240), (247, 247, 247),
    (253, 219, 199), (244, 165, 130), (214, 96, 77), (178, 24, 43), (103, 0, 31),
)  # fmt: skip
MISSING = "#dcdcdc"
CELL = 15
LEFT = 168
CARD_LINK = "#feature-%d"
"""The address of a feature's card."""
HOVER_CELLS = 2500  # above this number their hover texts would fill most of the page


class Column(NamedTuple):
    """A feature: its correlations in label order, its best label, and the existence of its card."""

    feature: int
    r: Sequence[float]
    best_label: str
    linked: bool


def colour(value: float, limit: float) -> str:
    """Return the colour of a correlation on [-limit, limit], linear between the stops."""
    if not known(value):
        return MISSING
    place = (min(max(value / limit, -1.0), 1.0) + 1) / 2 * (len(STOPS) - 1)
    i = min(int(place), len(STOPS) - 2)
    mixed = (round(a + (place - i) * (b - a)) for a, b in zip(STOPS[i], STOPS[i + 1], strict=True))
    return "#" + "".join(f"{c:02x}" for c in mixed)


def heat_map(labels: Sequence[str], columns: Sequence[Column], limit: float, card_link: str = CARD_LINK) -> Markup:
    """Draw labels down, features across; a thin gap separates the features of one best label from the next."""
    xs = _positions(columns)
    rows = [_row(i, label, labels, columns, xs, limit) for i, label in enumerate(labels)]
    bottom = len(labels) * CELL
    names = [_feature(column, x, bottom, card_link) for column, x in zip(columns, xs, strict=True)]
    width = xs[-1] + CELL + 4
    said = f"{len(labels)} labels by {len(columns)} features"
    return svg(width, bottom + 46, "heat-map", said, *rows, *names, role="group")


def _positions(columns: Sequence[Column]) -> list[float]:
    xs, x = [], float(LEFT)
    for i, column in enumerate(columns):
        x += 4 if i and column.best_label != columns[i - 1].best_label else 0
        xs.append(x)
        x += CELL
    return xs


def _row(
    i: int, label: str, labels: Sequence[str], columns: Sequence[Column], xs: Sequence[float], limit: float
) -> Markup:
    name = Markup('<text class="name end" x="{}" y="11"><title>{}</title>{}</text>').format(
        LEFT - 8, label, shorten(label, 22)
    )
    hover = len(labels) * len(columns) <= HOVER_CELLS
    cells = (_cell(x, column, i, label, limit, hover) for column, x in zip(columns, xs, strict=True))
    return Markup('<g transform="translate(0 {})">{}{}</g>').format(i * CELL, name, join(cells))


def _cell(x: float, column: Column, i: int, label: str, limit: float, hover: bool) -> Markup:
    r = column.r[i]
    said = Markup("<title>{} {}: {}</title>").format(label, column.feature, real(r, 2, signed=True)) if hover else ""
    best = Markup(' class="best"') if column.best_label == label else ""
    cell = Markup('<rect x="{:g}" y="0.5" width="14" height="14" fill="{}"{}>{}</rect>')
    return cell.format(x + 0.5, colour(r, limit), best, said)


def _feature(column: Column, x: float, bottom: float, card_link: str) -> Markup:
    name = Markup('<text class="tick end" transform="translate({:g} {:g}) rotate(-90)">{}</text>').format(
        x + CELL / 2 + 3.5, bottom + 6, column.feature
    )
    return Markup('<a href="{}">{}</a>').format(card_link % column.feature, name) if column.linked else name


def legend(limit: float, steps: int = 41) -> Markup:
    """Draw the colour scale from -limit to limit, and the colour of a missing correlation."""
    at = [limit * (2 * i / (steps - 1) - 1) for i in range(steps)]
    cell = Markup('<rect x="{}" y="0" width="5" height="10" fill="{}"/>')
    bars = (cell.format(10 + 5 * i, colour(v, limit)) for i, v in enumerate(at))
    middle = 10 + 2.5 * steps
    named = ((10.0, -limit, "start"), (middle, 0.0, "mid"), (10.0 + 5 * steps, limit, "end"))
    said = (text(f"tick {side}", x, 22, real(v, 1, signed=v > 0) if v else "0") for x, v, side in named)
    missing = Markup('<rect x="250" y="0" width="10" height="10" fill="{}"/>').format(MISSING)
    return svg(360, 26, "legend", "Colour scale", *bars, *said, missing, text("tick start", 266, 9, "not defined"))
