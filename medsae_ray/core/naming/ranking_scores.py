"""The figures of rankings: the share of true names of rank 1 or 2 among five, beside chance, and what it may say.

Rankings that cannot be read are counted apart. SAIL's code scores the shuffled order for them, which is chance; its
figures are given too, for comparison.
"""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from medsae_ray.core.artifacts.columns import nan_to_null
from medsae_ray.core.artifacts.name_metrics import Sight
from medsae_ray.core.artifacts.rankings import RankFigures
from medsae_ray.core.naming.ranking import LETTERS
from medsae_ray.core.naming.scores import wilson

SUCCESS = 2
"""The worst rank of a true name that counts as success."""
CHANCE = SUCCESS / len(LETTERS)
LEAST_ASKED = 10
"""The fewest rankings of labels that tell whether a model can rank."""
MOST_SAME = 0.9
"""The share of rankings with the same letters above which a model does not read what it ranks."""
MOST_UNREAD = 0.5
"""The share of unread rankings above which nothing is said of the others."""


class Judged(NamedTuple):
    """One ranking."""

    shown: int
    """The place of the true name in the shuffled order, 1 for the first letter."""
    rank: int | None
    """The rank of the true name; None if the ranking could not be read."""
    letters: str | None = None
    """The ranking by letters."""


def rank_figures(judged: Sequence[Judged], failed: int = 0) -> RankFigures:
    """Return the figures of rankings; `failed` ones did not come."""
    ranks = [one.rank for one in judged if one.rank is not None]
    successes, n = sum(rank <= SUCCESS for rank in ranks), len(ranks)
    low, high = wilson(successes, n)
    as_sail = [one.shown if one.rank is None else one.rank for one in judged]
    orders = Counter(one.letters for one in judged if one.letters)
    return {
        "ranked": n,
        "unparsed": len(judged) - n,
        "failed": failed,
        "successes": successes,
        "success": successes / n if n else None,
        "success_low": nan_to_null(low),
        "success_high": nan_to_null(high),
        "chance": CHANCE,
        "mean_rank": sum(ranks) / n if n else None,
        "mean_rank_chance": (len(LETTERS) + 1) / 2,
        "rank_counts": [ranks.count(rank) for rank in range(1, len(LETTERS) + 1)],
        "same_order": max(orders.values()) / orders.total() if orders else None,
        "sail": {
            "n": len(as_sail),
            "success": sum(rank <= SUCCESS for rank in as_sail) / len(as_sail) if as_sail else None,
            "mean_rank": sum(as_sail) / len(as_sail) if as_sail else None,
        },
    }


def sight(labels: RankFigures) -> Sight:
    """Return whether a model ranks labels above chance: unknown with fewer than `LEAST_ASKED`
    rankings, read or not."""
    if labels["ranked"] + labels["unparsed"] < LEAST_ASKED:
        return "unknown"
    return "seen" if _above(labels) else "blind"


def doubt(names: RankFigures, labels: RankFigures) -> str | None:
    """Return the reason why the ranks of names say nothing of them; None if there is none.

    A success above chance shows both that the names fit and that the model can rank. Anything else may be the model's
    fault, unless it ranks labels above chance.
    """
    asked = names["ranked"] + names["unparsed"]
    if not asked:
        return "no name was ranked"
    if names["unparsed"] > MOST_UNREAD * asked:
        return f"{names['unparsed']} of {asked} rankings could not be read"
    if names["ranked"] >= LEAST_ASKED and (names["same_order"] or 0) > MOST_SAME:
        return "the model gives the same letters whatever it is shown"
    if _above(names):
        return None
    if (seen := sight(labels)) == "seen":
        return None
    if seen == "blind":
        return "the model ranks labels that are there no better than chance, so its ranks of names say nothing of them"
    return "too few labels could be asked about to tell whether the model can rank"


def _above(figures: RankFigures) -> bool:
    return figures["success_low"] is not None and figures["success_low"] > CHANCE
