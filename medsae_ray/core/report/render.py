"""The report: one HTML page that holds its own style, figures and thumbnails, and makes no request to a network."""

from functools import cache
from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from medsae_ray.core.analysis.findings import absent_name
from medsae_ray.core.artifacts import schema
from medsae_ray.core.naming import verdict
from medsae_ray.core.probing.shares import serves
from medsae_ray.core.report import (
    charts,
    grouped,
    heatmap,
    monosemanticity,
    name_tests,
    names,
    overlay,
    recovery,
    text,
    view,
)
from medsae_ray.core.report.data import ReportData
from medsae_ray.core.report.rankings import rankings_section
from medsae_ray.core.report.retrieval import retrieval_section as section


def render_report(data: ReportData, cards: int = 24) -> str:
    """Render the page for `data`, with a card for at most `cards` features.

    Raises ArtifactError if the atlas, names or scores do not have their schema, or the log lacks a column.
    """
    schema.conform(data.atlas, schema.atlas(len(data.labels)), "the report's atlas")
    if data.naming:
        schema.conform(data.naming.names, schema.names(), "the report's names")
        schema.conform(data.naming.scores, verdict.scores(), "the report's scores")
    one = grouped.one_of_each(view.strongest(data), data.copies, {finding.feature for finding in data.findings})
    rows = one.rows
    shown = view.carded(rows, data, cards)
    limit = view.common_limit(shown, ("r", "r_low", "r_high"))
    map_limit = view.common_limit(rows[: view.MAP_FEATURES], ("r",))
    carded = {row["feature"] for row in shown}
    linked = one.cards(carded)
    tests = name_tests.tests_of(data.naming, carded) if data.naming else {}
    maps = view.maps_of(shown, data)
    findings, entropy = view.finding_rows(data), view.entropy_rows(data.entropy)
    labels, labels_of = [row.label for row in findings], view.labels_on(shown, data)
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            data=data,
            findings=findings,
            names=names.names_section(data.naming, labels, data.findings, view.shown_absences(data))
            if data.naming
            else None,
            recovery=recovery.recovery_section(data.recovery) if data.recovery else None,
            serves=serves(data.recovery.rows) if data.recovery else {},
            retrieval=section(data.retrieval, data.thumbnail) if data.retrieval else None,
            rankings=rankings_section(data.rankings) if data.rankings else None,
            entropy=entropy,
            verdict=view.entropy_verdict(entropy[0], entropy[1], data.entropy.labels),
            panels=view.panels(data),
            label_map=view.label_map(rows, data, carded, map_limit),
            map_size=min(len(rows), view.MAP_FEATURES),
            legend=heatmap.legend(map_limit),
            cards=[view.card(row, data, limit, maps, tests.get(row["feature"], ()), labels_of) for row in shown],
            hue=overlay.HUE,
            opacity=overlay.OPACITY,
            ranked=len(rows),
            by_label=any(text.known(row["best_r"]) for row in rows),
            linked=linked,
            stands_for=one.stands_for,
            mono=monosemanticity.section(data.monosemanticity) if data.monosemanticity else None,
            probed=any(row.probes for row in findings),
            auroc_axis=charts.auroc_axis(),
            auroc_axis_wide=charts.auroc_axis(300),
        )
    )


@cache
def environment() -> Environment:
    """Return the templates' environment, all with autoescape: labels, names and reasons come from foreign tables."""
    found = Environment(
        loader=PackageLoader("medsae_ray.core.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {
        name: getattr(text, name)
        for name in ("known", "real", "significant", "interval", "count", "percent", "probability")
    }
    found.globals |= {
        "style": style("style.css"),
        "names_style": style("names.css"),
        "recovery_style": style("recovery.css"),
        "recovery_key": recovery.key,
        "sources": name_tests.SOURCES,
        "verdict_words": names.VERDICT_WORDS,
        "rules": verdict,
        "absent_name": absent_name,
    }
    return found


def style(name: str) -> Markup:
    """Read a packaged style sheet by its file name."""
    return Markup(resources.files("medsae_ray.core.report").joinpath(name).read_text(encoding="utf-8"))
