"""The page of a sweep: one HTML file that holds its own style and figure, and makes no request to a network."""

from collections.abc import Sequence
from typing import Any

from medsae_ray.core.report.pareto import Point, legend, pareto_plot, shade
from medsae_ray.core.report.render import environment, style
from medsae_ray.core.sae.ranking import settings_text

RANKED = ("monosemanticity", "needed", "at_ten", "rank", "chosen")
"""What stage `ranking` adds to a row; None without it."""


def render_sweep(title: str, rows: Sequence[dict[str, Any]], left_out: int) -> str:
    """Render the rows of a `sweep` table, in their order; `left_out` counts combinations that no SAE can have."""
    unranked: dict[str, Any] = dict.fromkeys(RANKED)
    shown = [unranked | row | {"number": i, "said": settings_text(row["settings"])} for i, row in enumerate(rows, 1)]
    there = [row for row in shown if row["reason"] is None]
    points = [Point(row["number"], row["said"], row["l0"], row["fvu"], row["dead"], row["pareto"]) for row in there]
    return (
        environment()
        .get_template("sweep.html.j2")
        .render(
            title=title,
            there=there,
            failed=[row for row in shown if row["reason"] is not None],
            left_out=left_out,
            ranked=any(row["rank"] is not None or row["chosen"] for row in there),
            front=sum(row["pareto"] for row in there),
            plot=pareto_plot(points),
            legend=legend(),
            shade=shade,
            sweep_style=style("sweep.css"),
        )
    )
