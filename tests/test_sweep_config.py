"""Which SAEs a recipe's what.sweep asks for."""

import copy
import json
from typing import Any

import pytest

from medsae_ray.config import Members, load_recipe, parse_recipe
from medsae_ray.errors import RecipeError
from tests.test_config import GOOD


def members(sweep: Any, **sae: Any) -> Members:
    data = copy.deepcopy(GOOD)
    data["what"] |= {"sweep": sweep, "sae": sae}
    return parse_recipe(data).what.members()


def test_a_grid_is_every_combination_in_the_order_of_the_recipe() -> None:
    found = members({"grid": {"k": [2, 4], "seed": [0, 1]}}, width=8, k=3, lr=0.01).members
    assert [m.changes for m in found] == [{"k": k, "seed": s} for k in (2, 4) for s in (0, 1)]
    assert all(m.sae.width == 8 and m.sae.lr == 0.01 and m.sae.k == m.changes["k"] for m in found)


def test_settings_that_belong_together_each_get_the_grid() -> None:
    each = [{"architecture": "topk", "k": 3}, {"architecture": "relu_l1", "l1": 1.0}]
    found = members({"each": each, "grid": {"seed": [5, 6]}}).members
    assert [(m.sae.architecture, m.sae.seed) for m in found] == [
        ("topk", 5),
        ("topk", 6),
        ("relu_l1", 5),
        ("relu_l1", 6),
    ]


def test_the_width_goes_with_the_last_level() -> None:
    found = members(
        {"grid": {"levels": [[2, 4], [4, 16]]}}, architecture="matryoshka", levels=[8], width=8, k=2
    ).members
    assert [m.sae.width for m in found] == [4, 16]


def test_combinations_that_come_to_the_same_sae_count_once() -> None:
    found = members({"grid": {"architecture": ["relu_l1", "topk"], "k": [2, 4]}}).members
    assert [m.changes for m in found] == [
        {"architecture": "relu_l1", "k": 2},
        {"architecture": "topk", "k": 2},
        {"architecture": "topk", "k": 4},
    ]


def test_combinations_that_no_sae_can_have_are_left_out_if_that_is_asked_for() -> None:
    grid = {"width": [8, 16], "k": [2, 12]}
    found = members({"grid": grid, "invalid": "leave_out"})
    assert [(m.sae.width, m.sae.k) for m in found.members] == [(8, 2), (16, 2), (16, 12)] and found.left_out == 1
    with pytest.raises(RecipeError, match=r'\{"width": 8, "k": 12\}: k is 12, more than the 8 .* set sweep.invalid'):
        members({"grid": grid})


@pytest.mark.parametrize(
    ("sweep", "message"),
    [
        ({"grid": {"widht": [8]}}, "widht: unknown key; did you mean 'width'"),
        ({"grid": {"lr": [0.1, 8]}, "invalid": "leave_out"}, 'lr": 8.*allowed: more than 0 and less than 1'),
        (
            {"grid": {"width": [8, 16], "k": [2, 40]}, "invalid": "leave_out"},
            "no SAE can have k = 40: .*more than the 8",
        ),
        ({"grid": {"width": 8}}, r"what\.sweep\.grid\.width: .*valid list"),
        ({"grid": {"width": []}}, r"what\.sweep\.grid\.width: .*at least 1"),
        ({"each": [{"k": 2}], "grid": {"k": [1]}}, "k cannot be in grid and in each"),
        ({"gird": {"k": [1]}}, "did you mean 'grid'"),
    ],
)
def test_a_wrong_sweep_is_refused_with_what_is_allowed(sweep: Any, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        members(sweep)


def test_a_sweep_that_names_no_sae_leaves_them_to_the_data() -> None:
    for sweep in ({}, {"each": [{}]}, {"choose": True}):
        assert members(sweep) == Members([], 0)


def test_a_recipe_without_a_sweep_has_no_members() -> None:
    assert parse_recipe(GOOD).what.members() == Members([], 0)


def test_sails_grid_has_its_28_configurations() -> None:
    """scripts/train_matryoshka_sae.py: 4 dictionaries x 8 sparsities, K_1 > D_1 skipped."""
    found = load_recipe("sail-sweep").what.members()
    assert len(found.members) == 28 and found.left_out == 4
    assert len({json.dumps(m.changes) for m in found.members}) == 28
    saes = [m.sae for m in found.members]
    assert {(s.compat, s.normalisation, s.selection, s.epochs, s.lr, s.batch_size) for s in saes} == {
        ("sail", "l2", "per_level", 100, 1e-4, 2048)
    }
    chosen = [([128, 512, 2048, 8192], [20, 40, 80, 160]), ([128, 512, 2048, 8192], [5, 10, 20, 40])]
    assert all(
        pair in [(s.levels, s.ks) for s in saes] for pair in [*chosen, ([64, 256, 1024, 4096], [30, 60, 120, 240])]
    )
    assert min(s.ks[0] for s in saes if s.ks) == 5 and all(s.ks[0] <= s.levels[0] for s in saes if s.ks and s.levels)
