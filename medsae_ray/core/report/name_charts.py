"""The charts of one name's test: the ROC curve, p(yes) by role, and the name among its controls."""

from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup

from medsae_ray.core.naming.scores import YES
from medsae_ray.core.report.charts import Mark, join, line, linear, svg, text, whisker
from medsae_ray.core.report.text import DASH, count, known, real, shorten


class Role(NamedTuple):
    """The answers for the images of one role; NaN for a missing one."""

    name: str
    active: bool
    p_yes: list[float]


class Row(NamedTuple):
    """A line of a chart of AUROCs."""

    name: str
    mark: Mark
    said: str


def roc(points: Sequence[tuple[float, float]], area: float | None) -> Markup:
    """Draw the curve through `points` (share of inactive images, share of active images) from (0, 0) to (1, 1)."""
    width, height, left, right, top, floor = 196.0, 190.0, 34.0, 190.0, 6.0, 156.0
    x, y = linear(0, 1, left, right), linear(0, 1, floor, top)
    body = [line("grid", x(v), top, x(v), floor) + line("grid", left, y(v), right, y(v)) for v in (0, 0.5, 1)]
    body.append(line("chance", x(0), y(0), x(1), y(1)))
    for v, said in ((0, "0"), (0.5, ".5"), (1, "1")):
        body += [text("tick mid", x(v), floor + 13, said), text("tick end", left - 5, y(v) + 3.5, said)]
    body += [text("tick mid", (left + right) / 2, height - 6, "inactive images"), _upright(9, (top + floor) / 2)]
    steps = " ".join(f"{'L' if i else 'M'}{x(a):.1f} {y(b):.1f}" for i, (a, b) in enumerate(points))
    body.append(Markup('<path class="curve" d="{}"/>').format(steps) if points else Markup())
    return svg(width, height, "roc", f"ROC curve, AUROC {real(area)}", *body)


def _upright(x: float, y: float) -> Markup:
    turned = Markup('<text class="tick mid" transform="translate({:.1f} {:.1f}) rotate(-90)">active images</text>')
    return turned.format(x, y)


def strip(roles: Sequence[Role], width: float = 400, row: float = 19) -> Markup:
    """Draw one line per role: a stroke for each answer at its p(yes), and the number of yes."""
    left, right, head, bottom = 132.0, width - 66, 16.0, len(roles) * row + 16
    x = linear(0, 1, left, right)
    body = [line("chance" if v == YES else "grid", x(v), head, x(v), bottom) for v in (0, YES, 1)]
    body += [text("tick end", width, 9, "say yes"), text("tick end", left - 8, 9, "images")]
    for i, role in enumerate(roles):
        answered, y = [p for p in role.p_yes if known(p)], head + i * row
        strokes = join(Markup('<path d="M{:.1f} {:.1f}v11"/>').format(x(p), y + 4) for p in answered)
        body.append(Markup('<g class="answers {}">{}</g>').format("active" if role.active else "silent", strokes))
        body.append(_named(role.name, left - 8, y + 13))
        yes = sum(p >= YES for p in answered)
        body.append(text("value end", width, y + 13, f"{count(yes)} of {count(len(answered))}" if answered else DASH))
    body += [text("tick mid", x(v), bottom + 12, said) for v, said in ((0, "0"), (YES, "p(yes)"), (1, "1"))]
    return svg(width, bottom + 16, "strip", "p(yes) by role of the image", *body)


def auroc_rows(rows: Sequence[Row], width: float = 430, row: float = 19) -> Markup:
    """Draw dots with intervals on one axis from 0 to 1, with the numbers."""
    left, right, bottom = 186.0, width - 118, len(rows) * row + 2
    x = linear(0, 1, left, right)
    body = [line("chance" if v == 0.5 else "grid", x(v), 0, x(v), bottom) for v in (0, 0.25, 0.5, 0.75, 1)]
    for i, (name, mark, said) in enumerate(rows):
        y = i * row + row / 2 + 1
        body += [_named(name, left - 10, y + 4), whisker([mark], x, y), text("value end", width, y + 4, said)]
    body += [text("tick mid", x(v), bottom + 12, said) for v, said in ((0, "0"), (0.5, ".5"), (1, "1"))]
    said = "; ".join(f"{name} {value}" for name, _, value in rows)
    return svg(width, bottom + 16, "auroc-rows", f"AUROC: {said}", *body)


def _named(name: str, x: float, y: float, limit: int = 26) -> Markup:
    """Write the name of a line, whole in its hover text."""
    element = Markup('<text class="name end" x="{:.1f}" y="{:.1f}"><title>{}</title>{}</text>')
    return element.format(x, y, name, shorten(name, limit))
