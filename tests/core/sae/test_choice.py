"""The default grid of a sweep, and the choice of one of its SAEs."""

import itertools
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medsae_ray.config import Sae
from medsae_ray.core.sae.choice import NEAR, WORSE, Figures, best, mean_ranks, near_front
from medsae_ray.core.sae.defaults import Spread, choose
from medsae_ray.core.sae.grid import default_grid

NAN = math.nan
SHARE = st.floats(0.01, 1.0)
COUNT, RECOVERY = st.floats(1, 100), st.floats(-0.2, 1.2)
FIGURES = st.builds(Figures, st.floats(0.5, 100), SHARE, *(known | st.just(NAN) for known in (SHARE, COUNT, RECOVERY)))
LEVELS = [8, 32, 128]
KINDS = [
    {},
    {"architecture": "topk"},
    {"architecture": "relu_l1"},
    {"architecture": "gated"},
    {"architecture": "jumprelu"},
    {"architecture": "jumprelu", "target_l0": 8.0},
    {"architecture": "matryoshka", "levels": LEVELS},
    {"architecture": "matryoshka", "levels": LEVELS, "selection": "per_level", "ks": [2, 4, 8]},
]


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize(("rows", "directions"), [(30, 2.0), (900, 20.0), (200_000, 300.0)])
def test_every_sae_of_a_default_grid_can_be_had(kind: dict[str, Any], rows: int, directions: float) -> None:
    base = Sae.model_validate(kind)
    settings = choose(base.settings(), rows, Spread(directions))
    grid = default_grid(settings)
    assert 1 <= len(grid) <= 9 and all(grid.count(changes) == 1 for changes in grid)
    for changes in grid:
        Sae.model_validate(base.model_dump() | changes)
    if rows > 1000:
        assert len(grid) == 9 or "ks" in kind
        assert {tuple(changes) for changes in grid} == {tuple(grid[0])}


def test_the_middle_of_the_grid_is_what_one_sae_would_be() -> None:
    settings = choose(Sae().settings(), 20_000, Spread(40.0))
    assert {"width": settings["width"], "k": settings["k"]} in default_grid(settings)


def test_ranks_are_shared_by_ties_and_the_unknown_ranks_last() -> None:
    found = [Figures(1, 1, 0.9, 5, 1), Figures(1, 1, 0.5, NAN, 1), Figures(1, 1, 0.5, 2, 1)]
    assert mean_ranks(found).tolist() == [(1 + 2) / 2, (2.5 + 3) / 2, (2.5 + 1) / 2]


@given(st.lists(FIGURES, min_size=1, max_size=9))
def test_what_is_chosen_is_near_the_front(found: list[Figures]) -> None:
    place = best(found)
    assert near_front(found)[place]
    assert found[place].fvu <= WORSE * min(f.fvu for f in found if f.l0 <= NEAR * found[place].l0)


def test_an_l0_that_is_lower_by_chance_excuses_no_worse_reconstruction() -> None:
    assert near_front([Figures(8.00, 0.019, 0.9, 1, 1), Figures(8.05, 0.015, 0.5, 5, 1)]).tolist() == [False, True]


@given(st.lists(FIGURES, min_size=1, max_size=5, unique_by=lambda f: f.l0))
def test_the_order_of_a_sweep_does_not_decide(found: list[Figures]) -> None:
    known = [f._replace(monosemanticity=0.5 if math.isnan(f.monosemanticity) else f.monosemanticity) for f in found]
    assert len({known[best(known)], *(order[best(list(order))] for order in itertools.permutations(known))}) == 1


def test_without_labels_the_knee_of_the_front_is_taken() -> None:
    found = [Figures(l0, fvu, NAN, NAN, NAN) for l0, fvu in [(2, 0.9), (4, 0.3), (64, 0.25), (8, 0.6)]]
    assert best(found) == 1


def test_with_labels_the_ranks_decide_among_those_near_the_front() -> None:
    found = [Figures(4, 0.3, 0.4, 20, 0.9), Figures(8, 0.2, 0.8, 5, 0.9), Figures(8, 0.4, 0.9, 1, 0.9)]
    assert best(found) == 1, "the third explains half as much as the second with as many active features"


def test_ranks_do_not_excuse_ten_features_that_carry_less() -> None:
    found = [Figures(4, 0.3, 0.9, 2, 0.7), Figures(8, 0.2, 0.4, 20, 0.9)]
    assert best(found) == 1
    assert best([one._replace(at_ten=-one.at_ten) for one in found]) == 0
