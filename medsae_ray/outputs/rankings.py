"""What a run prints of names ranked among five."""

from rich.table import Table

from medsae_ray.core.artifacts.rankings import ArmFigures, RankFigures, RankingsMetrics
from medsae_ray.core.report.rankings import ARM_WORDS, in_order
from medsae_ray.outputs.console import number, plain_table


def rankings_table(found: RankingsMetrics) -> Table:
    """Tabulate the arms: the share of true names of rank 1 or 2 among five, beside chance and the same for labels."""
    right = ("distinct names", "ranked", "unread", "rank 1 or 2 (chance 0.40)", "mean rank (3)", "labels")
    table = plain_table("names ranked among five", right=right, collapse_padding=True)
    for arm, figures in in_order(found):
        names = f"{figures['distinct_names']} of {figures['named']}"
        counts = (str(figures["ranked"]), str(figures["unparsed"] + figures["failed"]))
        table.add_row(ARM_WORDS[arm], names, *counts, success(figures), mean_rank(figures), share(figures["labels"]))
    return table


def success(figures: ArmFigures) -> str:
    """Write an arm's share with its interval, or that it says nothing."""
    return "cannot be judged" if figures["doubt"] else share(figures)


def mean_rank(figures: ArmFigures) -> str:
    """Write an arm's mean rank, or a dash where it says nothing."""
    return number(None if figures["doubt"] else figures["mean_rank"])


def share(figures: RankFigures) -> str:
    """Write a share with its interval; a dash without one."""
    if figures["success"] is None:
        return "–"
    return f"{number(figures['success'])} ({number(figures['success_low'])} to {number(figures['success_high'])})"
