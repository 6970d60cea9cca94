"""What a run prints when it is done, and what a query to it prints."""

from collections.abc import Iterator
from typing import Any

from rich.markup import escape
from rich.table import Table

from medsae_ray.core.analysis.findings import absent_name, notable
from medsae_ray.core.artifacts.warnings import RunWarning
from medsae_ray.core.retrieval.query import BY_TEXT
from medsae_ray.core.sae.ranking import settings_text
from medsae_ray.runtime.run import StageRow, warning_line


def closing_table(rows: list[StageRow]) -> Table:
    """What was made, how large it is and how long it took."""
    table = _table("stage", "artifact", right=("rows", "not ok", "seconds", "rows/s"))
    for row in rows:
        rate = f"{row.rows / row.seconds:,.0f}" if row.seconds and row.rows else "–"
        seconds = f"{row.seconds:,.1f}" if row.seconds else "there"
        table.add_row(row.name, row.artifact, f"{row.rows:,}", f"{row.not_ok:,}", seconds, rate)
    return table


def warnings_block(warnings: list[RunWarning]) -> list[str]:
    """What to know before believing the figures above; nothing if there is nothing to say."""
    return ["\n".join(["[bold]Before you believe these figures[/]", *map(warning_line, warnings)])] if warnings else []


def findings_table(summary: dict[str, Any]) -> Table:
    """The best feature of each label, and of its absence where that is notable, with its AUROC on test patients.

    Beside them what the best raw dimension, all dimensions and all features reach: what the encoder knows at all.
    """
    right = ("feature", "Pearson", "AUROC", "interval", "best dim", "all dims", "all features")
    table = _table("label", right=right, collapse_padding=True)
    for label, found in summary["findings"].items():
        probes = (_auroc(found["probe"][kind]) for kind in ("dimensions", "features"))
        table.add_row(escape(label), *_unit(found), _auroc(found["dimension"]), *probes)
        absent = found["absence"]
        if absent and notable(found["pearson"], absent["pearson"]):
            table.add_row(escape(absent_name(label)), *_unit(absent), "", "", "", style="bold")
    return table


def _unit(found: dict[str, Any]) -> tuple[str, str, str, str]:
    feature = "–" if found["feature"] is None else str(found["feature"])
    interval = _interval(found["auroc_low"], found["auroc_high"])
    return feature, _number(found["pearson"]), _number(found["auroc"]), interval


def _auroc(found: dict[str, Any] | None) -> str:
    return _number(found["auroc"] if found else None)


def untested_lines(summary: dict[str, Any]) -> list[str]:
    """Labels that the test patients cannot measure, and why; nothing if there is none."""
    said = []
    for label, found in summary["findings"].items():
        unit = found if found["positives"] is not None else found["absence"] or found
        lacking = [f"0 {kind} in the test" for kind in ("positives", "negatives") if unit[kind] == 0]
        said += [f"{label}: {' and '.join(lacking)}, so no AUROC"] if lacking else []
    return ["\n".join(map(escape, said))] if said else []


def apart_table(summary: dict[str, Any]) -> list[Table]:
    """AUROC in each dataset beside that of all together, in a run over several."""
    rows = [row for label, found in summary["findings"].items() for row in _apart(label, found)]
    datasets = sorted({name for _, unit in rows for name in unit["by_dataset"]})
    table = _table("AUROC by dataset", right=("all", *datasets))
    for label, unit in rows:
        own = (unit["by_dataset"].get(name) for name in datasets)
        table.add_row(escape(label), _number(unit["auroc"]), *("–" if area is None else _area(area) for area in own))
    return [table] if rows else []


def _apart(label: str, found: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    if "by_dataset" in found:
        yield label, found
    absent = found["absence"]
    if absent and "by_dataset" in absent and notable(found["pearson"], absent["pearson"]):
        yield absent_name(label), absent


def _area(area: dict[str, Any]) -> str:
    if area["auc"] is None:
        return f"{area['positives']} / {area['negatives']}"
    return f"{_number(area['auc'])} ({_interval(area['low'], area['high'])})"


def replications(summary: dict[str, Any]) -> list[str | Table]:
    """What a run over several datasets has besides."""
    return [*apart_table(summary), replication_table(summary), duplicates_line(summary)]


def replication_table(summary: dict[str, Any]) -> Table:
    """For each label and dataset the best feature there, its correlation in all datasets, and whether it replicates."""
    found = summary["replication"]
    table = _table("label", "chosen in", right=("feature", *(f"Pearson in {name}" for name in found["datasets"])))
    table.add_column("verdict")
    for row in found["findings"]:
        values = (_pearson(row["datasets"][name]) for name in found["datasets"])
        name = row["label"] if row["present"] else absent_name(row["label"])
        table.add_row(escape(name), row["source"], str(row["feature"]), *values, row["verdict"].replace("_", " "))
    return table


def duplicates_line(summary: dict[str, Any]) -> str:
    """Near-duplicate images of two datasets."""
    found = summary["duplicates"]
    counts = ", ".join(f"{pair} {count:,}" for pair, count in found["pairs"].items())
    return f"near-duplicate images: {counts}; {found['in_different_splits']:,} of these pairs in different splits"


def _pearson(found: dict[str, float | None]) -> str:
    interval = _interval(found["low"], found["high"])
    return "–" if found["r"] is None else f"{_number(found['r'])} ({interval})"


def names_table(summary: dict[str, Any]) -> Table:
    """What the vision-language model called the best feature of each label, and how that name did on test patients."""
    table = _table("label", "name of its feature", "verdict", right=("detection AUROC", "interval", "ceiling"))
    for label, found in summary["findings"].items():
        table.add_row(escape(label), *_named(found), _number(found["ceiling"]))
        absent = found["absence"]
        if absent and notable(found["pearson"], absent["pearson"]):
            table.add_row(escape(absent_name(label)), *_named(absent), "")
    return table


def _named(unit: dict[str, Any]) -> tuple[str, str, str, str]:
    verdict, interval = (unit["verdict"] or "–").replace("_", " "), _interval(unit["low"], unit["high"])
    return escape(unit["name"] or "–"), verdict, _number(unit["detection_auroc"]), interval


def vocabulary_line(summary: dict[str, Any]) -> str:
    """What came of a vocabulary."""
    found = summary["vocabulary_names"]
    tested = ", ".join(f"{found[kind]} {kind}" for kind in ("verified", "rejected") if kind in found)
    named = (
        f"{found['named']} features named from a vocabulary of {found['terms']} terms, {found['abstained']} abstained"
    )
    return f"{named}; of the names {tested}" if tested else named


def naming_lines(summary: dict[str, Any]) -> str:
    """Counts of names, what chance would verify, and what running both branches at once saved."""
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
            f"AUROC of {_number(names['random_name_auroc'])}, and {_number(names['random_name_auroc_hard'])} against "
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


def _counted(names: dict[str, Any], kinds: tuple[str, ...]) -> str:
    return ", ".join(f"{names[kind]} {kind.replace('_', ' ')}" for kind in kinds)


def _as_the_paper_counts(paper: dict[str, Any]) -> str:
    images = f"{paper['n_low']} to {paper['n_high']}" if paper["n_low"] < paper["n_high"] else str(paper["n_low"])
    return (
        f"accuracy of 0.70 or more (MedSAE's count): {paper['passed']} of {paper['names']} names on {images} images, "
        f"{_number(paper['expected_by_chance'], 1)} expected of coin tosses"
    )


def sweep_table(rows: list[dict[str, Any]]) -> Table:
    """The SAEs of a sweep, by Pareto fronts of L0 and FVU; one that failed with its reason."""
    table = _table("settings", right=("front", "L0", "FVU", "R2", "R2 (SAIL)", "cosine", "dead", "epochs", "seconds"))
    for row in rows:
        said = settings_text(row["settings"])
        if row["reason"]:
            table.add_row(said, row["reason"], *["–"] * 8)
            continue
        figures = [_number(row["l0"], 1), *(_number(row[name], 3) for name in ("fvu", "r2", "r2_scalar", "cosine"))]
        rest = (f"{row['dead']:.1%}", str(row["epochs"]), f"{row['seconds']:,.1f}")
        table.add_row(said, str(row["front"]), *figures, *rest, style="bold" if row["pareto"] else None)
    return table


def headline(summary: dict[str, Any]) -> str:
    """The paper's figures in two lines."""
    sae, entropy = summary["sae"], summary["entropy"]
    quality = f"held-out R2 {_number(sae['r2'], 3)}, L0 {_number(sae['l0'], 1)}, dead features {sae['dead']:.1%}"
    if entropy["sae"] is None:
        few = {0: "no label that varies", 1: "one label"}.get(entropy["labels"], "no correlation")
        return f"{quality}\n{few}: no entropy"
    null = f"null {_number(entropy['null_mean'], 3)} ± {_number(entropy['null_sd'], 3)}"
    said = f"entropy {_number(entropy['sae'], 3)} nats ({null}), raw dimensions {_number(entropy['raw'], 3)}"
    return f"{quality}\n{said}"


def query_tables(answer: dict[str, Any]) -> list[str | Table]:
    """How the features of a query were found, these, and their images."""
    by_text = answer["way"] == BY_TEXT
    how = "the encoder's text half; score is a cosine" if by_text else "the words of their names; score is BM25"
    if not answer["features"]:
        return [f"no feature answers this query, by {how}"]
    features = _table("name", "from", "verdict", right=("feature", "score", "p"))
    for row in answer["features"]:
        p = "–" if row["p"] is None else f"{row['p']:.2g}"
        texts = (row["name"] or "–", row["name_source"] or "–", row["verdict"] or "–")
        features.add_row(*texts, str(row["feature"]), _number(row["score"]), p)
    images = _table("image", "patients", "feature: activation", right=("score",))
    for row in answer["images"]:
        active = ", ".join(f"{f['feature']}: {f['activation']:.2f}" for f in row["features"])
        images.add_row(row["image_id"], row["split"], active, _number(row["score"]))
    return [f"features by {how}", features, "", images]


def _table(*left: str, right: tuple[str, ...], collapse_padding: bool = False) -> Table:
    table = Table(*left, box=None, header_style="bold", collapse_padding=collapse_padding)
    for column in right:
        table.add_column(column, justify="right")
    return table


def _interval(low: float | None, high: float | None) -> str:
    return "–" if low is None or high is None else f"{_number(low)} to {_number(high)}"


def _number(value: float | None, digits: int = 2) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
