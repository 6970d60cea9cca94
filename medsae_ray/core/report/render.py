"""The report: one HTML page that holds its own style, figures and thumbnails, and asks nothing of any network."""

from functools import cache
from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from medsae_ray.core import schema
from medsae_ray.core.report import charts, heatmap, text, view
from medsae_ray.core.report.data import ReportData


def render_report(data: ReportData, cards: int = 24) -> str:
    """The page for `data`, with a card for at most `cards` features.

    Raises ArtifactError if the atlas does not have the schema that `data.labels` implies, or the log lacks a column.
    """
    schema.conform(data.atlas, schema.atlas(len(data.labels)), "the report's atlas")
    rows = view.strongest(data)
    shown = view.carded(rows, data, cards)
    limit = view.common_limit(shown, ("r", "r_low", "r_high"))
    map_limit = view.common_limit(rows[: view.MAP_FEATURES], ("r",))
    linked = {row["feature"] for row in shown}
    entropy = view.entropy_rows(data.entropy)
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            data=data,
            findings=view.finding_rows(data),
            entropy=entropy,
            verdict=view.entropy_verdict(*entropy),
            panels=view.panels(data),
            label_map=view.label_map(rows, data, linked, map_limit),
            map_size=min(len(rows), view.MAP_FEATURES),
            legend=heatmap.legend(map_limit),
            cards=[view.card(row, data.labels, limit, data.thumbnail) for row in shown],
            ranked=len(rows),
            linked=linked,
            auroc_axis=charts.auroc_axis(),
            auroc_axis_wide=charts.auroc_axis(300),
        )
    )


@cache
def _environment() -> Environment:
    """Autoescape is on for every template: labels, names and reasons come from other people's tables."""
    environment = Environment(
        loader=PackageLoader("medsae_ray.core.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        name: getattr(text, name) for name in ("known", "real", "significant", "interval", "count", "percent")
    }
    style = resources.files("medsae_ray.core.report").joinpath("style.css").read_text(encoding="utf-8")
    environment.globals["style"] = Markup(style)
    return environment
