"""The figures of rankings: against plain counts, and SAIL's published table from made rankings."""

import json
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from medsae_ray.core.naming.ranking import LETTERS, Task, parse_ranking, rank_of
from medsae_ray.core.naming.ranking_scores import CHANCE, Judged, doubt, rank_figures, sight
from medsae_ray.errors import NamingError


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 5), st.none() | st.integers(1, 5)), max_size=40), st.integers(0, 3))
def test_figures_are_those_of_plain_counts(pairs: list[tuple[int, int | None]], failed: int) -> None:
    found = rank_figures([Judged(shown, rank, "ABCDE") for shown, rank in pairs], failed)
    ranks = [rank for _, rank in pairs if rank]
    assert found["ranked"] == len(ranks) and found["unparsed"] == len(pairs) - len(ranks) and found["failed"] == failed
    assert found["rank_counts"] == [ranks.count(r) for r in range(1, 6)] and sum(found["rank_counts"]) == len(ranks)
    if not ranks:
        assert found["success"] is found["success_low"] is found["mean_rank"] is None
        return
    assert found["success"] == pytest.approx(np.mean([r <= 2 for r in ranks]))
    assert found["mean_rank"] == pytest.approx(np.mean(ranks))
    wilson = binomtest(found["successes"], len(ranks)).proportion_ci(method="wilson")
    assert (found["success_low"], found["success_high"]) == pytest.approx((wilson.low, wilson.high), abs=1e-12)
    assert found["sail"]["mean_rank"] == pytest.approx(np.mean([rank or shown for shown, rank in pairs]))


PUBLISHED = [
    ("BiomedParse", [141, 44, 21, 34, 10], 1, 0.740, 1.912),
    ("DINOv3", [170, 38, 18, 19, 5], 7, 0.832, 1.604),
]
"""SAIL's table: rank-1 counts, success and mean rank of 250, and unreadable rankings; the other counts are such that
these follow. An unreadable ranking counts there as the order shown."""


@pytest.mark.parametrize(("encoder", "counts", "unread", "success", "mean_rank"), PUBLISHED)
def test_sails_table_follows_from_its_rankings(
    encoder: str, counts: list[int], unread: int, success: float, mean_rank: float
) -> None:
    rng, judged = np.random.default_rng(0), []
    ranks = [rank for rank, count in enumerate(counts, 1) for _ in range(count)]
    for number, rank in enumerate(ranks):
        lost = number < unread  # of rank 1, as the true name was shown first
        task = Task(tuple("vwxyz"), 0 if lost else int(rng.integers(5)))
        others = rng.permutation([letter for letter in LETTERS if letter != LETTERS[task.truth]]).tolist()
        order = [*others[: rank - 1], LETTERS[task.truth], *others[rank - 1 :]]
        reply = "I cannot say" if lost else json.dumps({"ranking": order})
        try:
            judged.append(Judged(task.truth + 1, rank_of(parse_ranking(reply), task)))
        except NamingError:
            judged.append(Judged(task.truth + 1, None))
    found = rank_figures(judged)
    assert found["sail"] == {"n": 250, "success": pytest.approx(success), "mean_rank": pytest.approx(mean_rank)}
    assert found["unparsed"] == unread and found["ranked"] == 250 - unread
    assert found["rank_counts"] == [counts[0] - unread, *counts[1:]]
    assert found["success"] == pytest.approx((250 * success - unread) / (250 - unread))


def test_any_ranking_of_shuffled_letters_has_the_success_of_chance() -> None:
    ranks = ["".join(order).index("A") + 1 for order in permutations(LETTERS)]
    assert rank_figures([Judged(1, rank) for rank in ranks])["success"] == pytest.approx(CHANCE)


def made(ranked: int, successes: int, unread: int = 0) -> list[Judged]:
    return [Judged(1, 1)] * successes + [Judged(1, 4)] * (ranked - successes) + [Judged(1, None)] * unread


def test_a_figure_at_chance_says_nothing_if_the_model_cannot_rank() -> None:
    chance, good, none = (rank_figures(made(*of)) for of in ((50, 20), (50, 45), (0, 0)))
    assert [sight(labels) for labels in (chance, good, none, rank_figures(made(0, 0, 20)))] == [
        "blind",
        "seen",
        "unknown",
        "blind",
    ]
    assert doubt(good, none) is None and doubt(good, chance) is None, "a success shows that the model can rank"
    assert doubt(chance, good) is None, "the names are bad"
    assert "no better than chance" in str(doubt(chance, chance))
    assert "too few labels" in str(doubt(chance, none))
    assert "no name" in str(doubt(none, good)) and "30 of 50" in str(doubt(rank_figures(made(20, 20, 30)), good))
