import math

import numpy as np

from medsae_ray.core.artifacts.columns import nan_to_null, null_to_nan, nullable_column, with_nan, with_null


def test_nan_is_null_in_a_row_that_is_stored_and_nan_again_when_it_is_read() -> None:
    stored = with_null({"auroc": math.nan, "patients": 3, "name": "x", "p": np.float64("nan")})
    assert stored == {"auroc": None, "patients": 3, "name": "x", "p": None}
    read = with_nan(stored)
    assert math.isnan(read["auroc"]) and math.isnan(read["p"]) and (read["patients"], read["name"]) == (3, "x")


def test_values_that_are_neither_stay_as_they_are() -> None:
    values: list[object] = [0, 0.0, False, "", [], math.inf]
    assert [nan_to_null(value) for value in values] == values == [null_to_nan(value) for value in values]


def test_a_column_is_null_where_its_values_are_nan() -> None:
    assert nullable_column(np.array([1, np.nan, -0.5], np.float32)).to_pylist() == [1.0, None, -0.5]
