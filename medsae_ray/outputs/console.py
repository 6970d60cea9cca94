"""The tables and lines at the end of a run."""

from collections.abc import Iterator
from typing import Any

from rich.markup import escape
from rich.table import Table

from medsae_ray.core.analysis.findings import absent_name, notable
from medsae_ray.core.artifacts.metrics import Area, Correlation
from medsae_ray.core.artifacts.monosemanticity import MeasureFigures
from medsae_ray.core.artifacts.name_metrics import PaperFigures
from medsae_ray.core.artifacts.warnings import RunWarning
from medsae_ray.core.sae.ranking import settings_text
from medsae_ray.outputs.summary_types import (
    DimensionFinding,
    FeatureFinding,
    LabelFinding,
    NamesSummary,
    ProbeSummary,
    Summary,
)
from medsae_ray.runtime.run import StageRow, warning_line


def closing_table(rows: list[StageRow]) -> Table:
    """Tabulate the artifacts of a run, their size and time."""
    table = plain_table("stage", "artifact", right=("rows", "not ok", "seconds", "rows/s"))
    for row in rows:
        rate = f"{row.rows / row.seconds:,.0f}" if row.seconds and row.rows else "–"
        seconds = f"{row.seconds:,.1f}" if row.seconds else "there"
        table.add_row(row.name, row.artifact, f"{row.rows:,}", f"{row.not_ok:,}", seconds, rate)
    return table


def warnings_block(warnings: list[RunWarning]) -> list[str]:
    """Return the warnings about the figures above; nothing if there are none."""
    return ["\n".join(["[bold]Before you believe these figures[/]", *map(warning_line, warnings)])] if warnings else []


def findings_table(summary: Summary) -> Table:
    """Tabulate the best feature of each label, and of its absence where notable, with its AUROC on test patients.

    For comparison it shows what the best raw dimension, the class means, all dimensions and all features reach.
    """
    right = ("feature", "Pearson", "AUROC", "interval", "best dim", "means", "all dims", "all features")
    table = plain_table("label", right=right, collapse_padding=True)
    for label, found in summary["findings"].items():
        probes = (_auroc(found["probe"][kind]) for kind in ("means", "dimensions", "features"))
        table.add_row(escape(label), *_unit(found), _auroc(found["dimension"]), *probes)
        absent = found["absence"]
        if absent and notable(found["pearson"], absent["pearson"]):
            table.add_row(escape(absent_name(label)), *_unit(absent), *[""] * 4, style="bold")
    return table


def _unit(found: FeatureFinding) -> tuple[str, str, str, str]:
    feature = "–" if found["feature"] is None else str(found["feature"])
    interval = _interval(found["auroc_low"], found["auroc_high"])
    return feature, number(found["pearson"]), number(found["auroc"]), interval


def _auroc(found: DimensionFinding | ProbeSummary | None) -> str:
    return number(found["auroc"] if found else None)


def untested_lines(summary: Summary) -> list[str]:
    """Name the labels that the test patients cannot measure, with the reason; nothing if there is none."""
    said = []
    for label, found in summary["findings"].items():
        unit = found if found["positives"] is not None else found["absence"] or found
        lacking = [f"0 {kind} in the test" for kind in ("positives", "negatives") if unit[kind] == 0]
        said += [f"{label}: {' and '.join(lacking)}, so no AUROC"] if lacking else []
    return ["\n".join(map(escape, said))] if said else []


def apart_table(summary: Summary) -> list[Table]:
    """Tabulate the AUROC in each dataset and in all together."""
    rows = [row for label, found in summary["findings"].items() for row in _apart(label, found)]
    datasets = sorted({name for _, unit in rows for name in unit["by_dataset"]})
    table = plain_table("AUROC by dataset", right=("all", *datasets))
    for label, unit in rows:
        own = (unit["by_dataset"].get(name) for name in datasets)
        table.add_row(escape(label), number(unit["auroc"]), *("–" if area is None else _area(area) for area in own))
    return [table] if rows else []


def _apart(label: str, found: LabelFinding) -> Iterator[tuple[str, FeatureFinding]]:
    if "by_dataset" in found:
        yield label, found
    absent = found["absence"]
    if absent and "by_dataset" in absent and notable(found["pearson"], absent["pearson"]):
        yield absent_name(label), absent


def _area(area: Area) -> str:
    if area["auc"] is None:
        return f"{area['positives']} / {area['negatives']}"
    return f"{number(area['auc'])} ({_interval(area['low'], area['high'])})"


def replications(summary: Summary) -> list[str | Table]:
    """Return the further output of a run over several datasets."""
    return [*apart_table(summary), replication_table(summary), duplicates_line(summary)]


def replication_table(summary: Summary) -> Table:
    """Tabulate for each label and dataset the best feature, its correlation in all datasets, and the verdict."""
    found = summary["replication"]
    table = plain_table("label", "chosen in", right=("feature", *(f"Pearson in {name}" for name in found["datasets"])))
    table.add_column("verdict")
    for row in found["findings"]:
        values = (_pearson(row["datasets"][name]) for name in found["datasets"])
        name = row["label"] if row["present"] else absent_name(row["label"])
        table.add_row(escape(name), row["source"], str(row["feature"]), *values, row["verdict"].replace("_", " "))
    return table


def duplicates_line(summary: Summary) -> str:
    """Count near-duplicate images of two datasets."""
    found = summary["duplicates"]
    counts = ", ".join(f"{pair} {count:,}" for pair, count in found["pairs"].items())
    return f"near-duplicate images: {counts}; {found['in_different_splits']:,} of these pairs in different splits"


def _pearson(found: Correlation) -> str:
    interval = _interval(found["low"], found["high"])
    return "–" if found["r"] is None else f"{number(found['r'])} ({interval})"


def names_table(summary: Summary) -> Table:
    """Tabulate the model's names for the best feature of each label, with their test on test patients."""
    table = plain_table("label", "name of its feature", "verdict", right=("detection AUROC", "interval", "ceiling"))
    for label, found in summary["findings"].items():
        table.add_row(escape(label), *_named(found), number(found["ceiling"]))
        absent = found["absence"]
        if absent and notable(found["pearson"], absent["pearson"]):
            table.add_row(escape(absent_name(label)), *_named(absent), "")
    return table


def _named(unit: FeatureFinding) -> tuple[str, str, str, str]:
    verdict, interval = (unit["verdict"] or "–").replace("_", " "), _interval(unit["low"], unit["high"])
    return escape(unit["name"] or "–"), verdict, number(unit["detection_auroc"]), interval


def vocabulary_line(summary: Summary) -> str:
    """Count the names from a vocabulary."""
    found = summary["vocabulary_names"]
    tested = ", ".join(f"{found[kind]} {kind}" for kind in ("verified", "rejected") if kind in found)
    named = (
        f"{found['named']} features named from a vocabulary of {found['terms']} terms, {found['abstained']} abstained"
    )
    return f"{named}; of the names {tested}" if tested else named


def naming_lines(summary: Summary) -> str:
    """Count the names, those that chance would verify, and the time saved by running both branches at once."""
    names, vlm, beside = summary["names"], summary["vlm"], summary["overlap"]
    of_names, of_features = (
        ("verified", "rejected", "untested"),
        ("abstained", "insufficient_support", "failed", "dead"),
    )
    lines = [f"{names['features']} features: {names['named']} named, {_counted(names, of_features)}"]
    lines.append(f"{names['named']} names: {_counted(names, of_names)}")
    if names["expected_by_chance"] is not None:
        lines.append(
            f"a chance namer would have {names['expected_by_chance']:.1f} verified; names of other features reach an "
            f"AUROC of {number(names['random_name_auroc'])}, and {number(names['random_name_auroc_hard'])} against "
            "look-alikes"
        )
    if names["paper"]["names"]:
        lines.append(_as_the_paper_counts(names["paper"]))
    lines.append(
        f"{vlm['requests']:,} requests to {vlm['model']}: {vlm['prompt_tokens']:,} prompt tokens, "
        f"{vlm['cached_tokens'] / max(1, vlm['prompt_tokens']):.0%} of them from the cache"
    )
    if beside:
        lines.append(f"naming beside the analysis: {beside['makespan_s']:.0f} s, one by one {beside['sum_s']:.0f} s")
    return "\n".join(lines)


def _counted(names: NamesSummary, kinds: tuple[str, ...]) -> str:
    counts = dict[str, Any](names)
    return ", ".join(f"{counts[kind]} {kind.replace('_', ' ')}" for kind in kinds)


def _as_the_paper_counts(paper: PaperFigures) -> str:
    images = f"{paper['n_low']} to {paper['n_high']}" if paper["n_low"] < paper["n_high"] else str(paper["n_low"])
    return (
        f"accuracy of 0.70 or more (MedSAE's count): {paper['passed']} of {paper['names']} names on {images} images, "
        f"{number(paper['expected_by_chance'], 1)} expected of coin tosses"
    )


def sweep_table(rows: list[dict[str, Any]]) -> Table:
    """Tabulate a sweep's SAEs, by Pareto fronts of L0 and FVU; the chosen one is marked, a failed one has its
    reason."""
    measures = ("front", "L0", "FVU", "R2", "R2 (SAIL)", "cosine", "dead", "C x S", "needed", "at ten", "rank")
    table = plain_table("settings", right=measures)
    for row in rows:
        said = settings_text(row["settings"])
        if row["reason"]:
            table.add_row(said, row["reason"], *["–"] * (len(measures) - 1))
            continue
        figures = [number(row["l0"], 1), *(number(row[name], 3) for name in ("fvu", "r2", "r2_scalar", "cosine"))]
        ranks = (number(row[name], places) for name, places in (("monosemanticity", 3), ("needed", 1), ("at_ten", 2)))
        rest = (f"{row['dead']:.1%}", *ranks, number(row["rank"], 1))
        said = f"{said} <- chosen" if row["chosen"] else said
        table.add_row(said, str(row["front"]), *figures, *rest, style="bold" if row["pareto"] else None)
    return table


def headline(summary: Summary) -> str:
    """Return the paper's figures in two lines."""
    sae, entropy = summary["sae"], summary["entropy"]
    quality = f"held-out R2 {number(sae['r2'], 3)}, L0 {number(sae['l0'], 1)}, dead features {sae['dead']:.1%}"
    if entropy["sae"] is None:
        few = {0: "no label that varies", 1: "one label"}.get(entropy["labels"], "no correlation")
        return f"{quality}\n{few}: no entropy"
    null = f"null {number(entropy['null_mean'], 3)} ± {number(entropy['null_sd'], 3)}"
    said = f"entropy {number(entropy['sae'], 3)} nats ({null}), raw dimensions {number(entropy['raw'], 3)}"
    return f"{quality}\n{said}"


def monosemantic_table(summary: Summary) -> Table:
    """Tabulate the means over the ten best units of each kind, with those of chance; for entropy lower is better."""
    found = summary["monosemanticity"]["spaces"]
    measures = ("score", "similarity", "purity", "entropy")
    table = plain_table(
        "ten most monosemantic (by chance)", right=("coherence x specificity", *measures[1:]), collapse_padding=True
    )
    for space, name in (("sae", "SAE features"), ("raw", "raw dimensions"), ("untrained", "untrained SAE")):
        figures = dict[str, Any](found[space])
        table.add_row(name, *(_beside_chance(figures[measure]) for measure in measures))
    return table


def _beside_chance(figures: MeasureFigures) -> str:
    value, null = figures["found"]["top_10"], figures["null"]["top_10"]
    return number(value) if value is None else f"{number(value)} ({number(null)})"


def plain_table(*left: str, right: tuple[str, ...], collapse_padding: bool = False) -> Table:
    """Make a table without lines, whose columns `right` are numbers."""
    table = Table(*left, box=None, header_style="bold", collapse_padding=collapse_padding)
    for column in right:
        table.add_column(column, justify="right")
    return table


def _interval(low: float | None, high: float | None) -> str:
    return "–" if low is None or high is None else f"{number(low)} to {number(high)}"


def number(value: float | None, digits: int = 2) -> str:
    """Format a number for a table; a dash for None."""
    return "–" if value is None else f"{value:.{digits}f}"
