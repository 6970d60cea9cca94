import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medsae_ray.core.artifacts import schema
from medsae_ray.core.artifacts.artifact import Record
from medsae_ray.core.sae.ranking import Failure, pareto_fronts, ranked, result_row, settings_text

costs = st.integers(0, 6).map(float)
"""Few values, so that ties are common."""


def beats(a: tuple[float, float], b: tuple[float, float]) -> bool:
    return a[0] <= b[0] and a[1] <= b[1] and a != b


@given(st.lists(st.tuples(costs, costs), max_size=20))
def test_a_point_is_one_front_behind_the_last_that_beats_it(points: list[tuple[float, float]]) -> None:
    fronts = pareto_fronts(np.array(points).reshape(-1, 2)).tolist()
    for point, front in zip(points, fronts, strict=True):
        assert front == 1 + max((f for p, f in zip(points, fronts, strict=True) if beats(p, point)), default=0)


def record(fvu: float, l0: float, name: str) -> Record:
    last = {"fvu": fvu, "r2": 1 - fvu, "r2_scalar": 0.9, "l0": l0, "cosine": 0.8, "dead_share": 0.25, "epoch": 7}
    return Record(name, "sae", 3, "", {}, {}, [], 0, {}, {"last_epoch": last}, {"seconds": 1.5})


def test_rows_are_ranked_by_front_and_l0_and_what_failed_comes_last() -> None:
    rows = [
        result_row(0, {"k": 4}, Failure("diverged", "training diverged in epoch 1")),
        result_row(1, {"k": 8}, record(0.2, 8.0, "sae-b")),
        result_row(2, {"k": 2}, record(0.4, 2.0, "sae-a")),
        result_row(3, {"k": 9}, record(0.3, 9.0, "sae-c")),
    ]
    table = ranked(rows)
    schema.conform(table, schema.sweep(), "test")
    assert table["member"].to_pylist() == [2, 1, 3, 0]
    assert table["front"].to_pylist() == [1, 1, 2, None]
    assert table["pareto"].to_pylist() == [True, True, False, False]
    assert table["fvu"].to_pylist() == [0.4, 0.2, 0.3, None]
    assert table["dead"].to_pylist()[0] == 0.25 and table["seconds"].to_pylist()[0] == 1.5
    assert table["reason"].to_pylist() == [None, None, None, "diverged"]


def test_a_sweep_of_failures_is_a_table_too() -> None:
    table = ranked([result_row(0, {"k": 4}, Failure("memory", "too wide"))])
    assert table.num_rows == 1 and table["message"].to_pylist() == ["too wide"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"k": 8, "lr": 0.001}, "k 8, lr 0.001"),
        ({"width": 16, "levels": [4, 16], "ks": [1, 2]}, "levels 4-16, ks 1-2"),
        ({"width": 16}, "width 16"),
    ],
)
def test_settings_are_said_once(settings: dict[str, object], said: str) -> None:
    assert settings_text(json.dumps(settings)) == said
