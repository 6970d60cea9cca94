"""What a run prints when it is done."""

from typing import Any

from rich.table import Table

from medsae_ray.stages.run import StageRow


def closing_table(rows: list[StageRow]) -> Table:
    """What was made, how large it is and how long it took."""
    table = _table("stage", "artifact", right=("rows", "not ok", "seconds", "rows/s"))
    for row in rows:
        rate = f"{row.rows / row.seconds:,.0f}" if row.seconds and row.rows else "–"
        seconds = f"{row.seconds:,.1f}" if row.seconds else "there"
        table.add_row(row.name, row.artifact, f"{row.rows:,}", f"{row.not_ok:,}", seconds, rate)
    return table


def findings_table(summary: dict[str, Any]) -> Table:
    """The best feature of each label, and its AUROC on test patients with its interval."""
    table = _table("label", right=("feature", "Pearson", "AUROC", "interval"))
    for label, found in summary["findings"].items():
        interval = f"{_number(found['auroc_low'])} to {_number(found['auroc_high'])}"
        table.add_row(label, str(found["feature"]), _number(found["pearson"]), _number(found["auroc"]), interval)
    return table


def headline(summary: dict[str, Any]) -> str:
    """The paper's figures in two lines."""
    sae, entropy = summary["sae"], summary["entropy"]
    null = f"null {_number(entropy['null_mean'], 3)} ± {_number(entropy['null_sd'], 3)}"
    return (
        f"held-out R2 {_number(sae['r2'], 3)}, L0 {_number(sae['l0'], 1)}, dead features {sae['dead']:.1%}\n"
        f"entropy {_number(entropy['sae'], 3)} nats ({null}), raw dimensions {_number(entropy['raw'], 3)}"
    )


def _table(*left: str, right: tuple[str, ...]) -> Table:
    table = Table(*left, box=None, header_style="bold")
    for column in right:
        table.add_column(column, justify="right")
    return table


def _number(value: float | None, digits: int = 2) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
