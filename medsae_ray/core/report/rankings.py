"""The report's section on names ranked among five, as SAIL judges them."""

from dataclasses import dataclass

from markupsafe import Markup

from medsae_ray.core.artifacts.rankings import ArmFigures, RankFigures, RankingsMetrics
from medsae_ray.core.report.charts import Mark, join, line, linear, svg, text, whisker

ARM_WORDS = {"images": "images alone", "metadata": "metadata alone", "both": "images and metadata"}


@dataclass(frozen=True)
class RankingsSection:
    """The section's figures."""

    found: RankingsMetrics
    rows: list[tuple[str, ArmFigures]]
    """Each arm, in words."""
    chart: Markup | None
    """The shares; None if there are none."""
    shown: str
    """The metadata that the model was shown, in words; empty without any."""


def rankings_section(found: RankingsMetrics) -> RankingsSection:
    """Build the section."""
    shown = [*found["columns"], *(["the labels annotated as present"] if found["labels_shown"] else [])]
    rows = [(ARM_WORDS[arm], figures) for arm, figures in in_order(found)]
    chart = success_chart(rows) if any(_marks(figures) for _, figures in rows) else None
    return RankingsSection(found, rows, chart, ", ".join(shown))


def in_order(found: RankingsMetrics) -> list[tuple[str, ArmFigures]]:
    """Return the arms, images alone first: a record's keys are in alphabetical order."""
    return [(arm, found["arms"][arm]) for arm in ARM_WORDS if arm in found["arms"]]


def success_chart(rows: list[tuple[str, ArmFigures]]) -> Markup:
    """Draw each arm's share of ranks 1 and 2 with its interval, above that of labels, on the axis from 0 to 1."""
    width, left, right, height = 480.0, 160.0, 460.0, 34.0
    x, bottom = linear(0, 1, left, right), height * len(rows) + 6
    chance = rows[0][1]["chance"]
    body = [line("chance" if v == chance else "grid", x(v), 2, x(v), bottom) for v in (0, 0.25, chance, 0.5, 0.75, 1)]
    for place, (arm, figures) in enumerate(rows):
        y = height * (place + 0.5) + 4
        body += [text("name end", left - 10, y + 3.5, arm), whisker(_marks(figures), x, y, 12)]
    body += [text("tick mid", x(v), bottom + 12, said) for v, said in ((0, "0"), (chance, "chance .4"), (1, "1"))]
    return svg(width, bottom + 18, "rankings", "Share of names of rank 1 or 2 among five, by arm", join(body))


def _marks(figures: ArmFigures) -> list[Mark]:
    """Return the marks of names, unless they say nothing, and of labels."""
    names = None if figures["doubt"] else _mark(figures, "sae")
    return [mark for mark in (names, _mark(figures["labels"], "plain")) if mark]


def _mark(figures: RankFigures, kind: str) -> Mark | None:
    value, low, high = (figures[key] for key in ("success", "success_low", "success_high"))
    return None if value is None or low is None or high is None else Mark(value, low, high, kind)
