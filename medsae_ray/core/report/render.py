"""The report: one HTML page that holds its own style, figures and thumbnails, and makes no request to a network."""

from collections.abc import Callable, Sequence
from functools import cache
from importlib import resources
from typing import Any

from jinja2 import BaseLoader, Environment, PackageLoader, StrictUndefined
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
    check(data)
    one = one_of_each(data)
    shown = view.carded(one.rows, data, cards)
    limit = view.common_limit(shown, ("r", "r_low", "r_high"))
    carded = {row["feature"] for row in shown}
    tests = name_tests.tests_of(data.naming, carded) if data.naming else {}
    maps = view.maps_of(shown, data)
    labels_of = view.labels_on(shown, data)
    cards_ = [view.card(row, data, limit, maps, tests.get(row["feature"], ()), labels_of) for row in shown]
    context = sections(data, one.rows, carded) | {
        "cards": cards_,
        "linked": one.cards(carded),
        "stands_for": one.stands_for,
        "retrieval": section(data.retrieval, data.thumbnail) if data.retrieval else None,
    }
    return environment().get_template("report.html.j2").render(context)


def check(data: ReportData) -> None:
    """Raise ArtifactError if the atlas, names or scores do not have their schema."""
    schema.conform(data.atlas, schema.atlas(len(data.labels)), "the report's atlas")
    if data.naming:
        schema.conform(data.naming.names, schema.names(), "the report's names")
        schema.conform(data.naming.scores, verdict.scores(), "the report's scores")


def one_of_each(data: ReportData) -> grouped.ShownRows:
    """Return the live features, the strongest first, with copies shown once."""
    return grouped.one_of_each(view.strongest(data), data.copies, {finding.feature for finding in data.findings})


def sections(
    data: ReportData, rows: Sequence[view.Row], carded: set[int], card_link: str = heatmap.CARD_LINK
) -> dict[str, Any]:
    """Return what the sections about the whole run show. `rows` are the features in order, and those `carded` have a
    card at `card_link`."""
    map_limit = view.common_limit(rows[: view.MAP_FEATURES], ("r",))
    findings, entropy = view.finding_rows(data), view.entropy_rows(data.entropy)
    labels = [row.label for row in findings]
    return {
        "data": data,
        "findings": findings,
        "names": names.names_section(data.naming, labels, data.findings, view.shown_absences(data))
        if data.naming
        else None,
        "recovery": recovery.recovery_section(data.recovery) if data.recovery else None,
        "serves": serves(data.recovery.rows) if data.recovery else {},
        "rankings": rankings_section(data.rankings) if data.rankings else None,
        "entropy": entropy,
        "verdict": view.entropy_verdict(entropy[0], entropy[1], data.entropy.labels),
        "panels": view.panels(data),
        "label_map": view.label_map(rows, data, carded, map_limit, card_link),
        "map_size": min(len(rows), view.MAP_FEATURES),
        "legend": heatmap.legend(map_limit),
        "ranked": len(rows),
        "by_label": any(text.known(row["best_r"]) for row in rows),
        "mono": monosemanticity.section(data.monosemanticity) if data.monosemanticity else None,
        "probed": any(row.probes for row in findings),
        "auroc_axis": charts.auroc_axis(),
        "auroc_axis_wide": charts.auroc_axis(300),
        "reading": "",
        "card_link": card_link,
        "heading": "h3",
    }


@cache
def environment() -> Environment:
    """Return the environment of the report's templates."""
    return templates(PackageLoader("medsae_ray.core.report"), text.count)


def templates(loader: BaseLoader, people: Callable[[float | None], str]) -> Environment:
    """Return an environment of templates, all with autoescape: labels, names and reasons come from foreign tables.
    `people` formats the size of a group of images."""
    found = Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {
        name: getattr(text, name)
        for name in ("known", "real", "significant", "interval", "count", "percent", "probability")
    }
    found.filters["people"] = people
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
