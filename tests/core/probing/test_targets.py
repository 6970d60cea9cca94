import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medsae_ray.core.probing.targets import CATEGORIES, FREQUENT, number, targets_of

FIT_N = np.ones(40, dtype=bool)
NONE = np.empty((40, 0))


def of_column(values: list[str | None], thresholds: dict[str, list[str]] | None = None) -> dict[str, np.ndarray]:
    found = targets_of([], NONE, {"age": values}, FIT_N, thresholds or {})
    return {target.name if target.untested is None else target.untested: target.y_N for target in found}


def test_thresholds_cut_a_column_and_what_is_no_number_is_unknown() -> None:
    ages = ["39", "40", "80", " 079Y", "006M", "", None, "nan", "inf", "old"] * 4
    found = of_column(ages, {"AGE": ["<40", ">=80", "<40"]})
    nan = np.nan
    assert list(found) == ["age<40", "age>=80"]
    np.testing.assert_array_equal(found["age<40"][:10], [1, 0, 0, 0, *[nan] * 6])
    np.testing.assert_array_equal(found["age>=80"][:10], [0, 0, 1, 0, *[nan] * 6])


def test_categories_stand_against_the_rest_and_two_say_the_same() -> None:
    assert list(of_column(["m", "f"] * 20)) == ["age=f"]
    found = of_column(["x", "y", "z", ""] * 10)
    assert list(found) == ["age=x", "age=y", "age=z"]
    np.testing.assert_array_equal(found["age=y"][:4], [0, 1, 0, np.nan])
    assert list(of_column(["100", "120"] * 20)) == ["age=100"], "few numbers are categories"


def test_many_numbers_are_cut_at_their_median_and_many_words_are_no_categories() -> None:
    found = of_column([str(value) for value in range(40)])
    assert list(found) == ["age>=19.5"] and found["age>=19.5"].sum() == 20
    assert list(of_column([f"id{value}" for value in range(40)])) == [
        "40 values in 40 training patients are no categories"
    ]
    assert list(of_column([""] * 40)) == list(of_column([None] * 40)) == ["no value in a training patient"]


def test_of_many_categories_the_frequent_ones_are_targets() -> None:
    values = [f"k{kind:02d}" for kind in range(FREQUENT + 5) for _ in range(10 + kind)]
    fit_N = np.ones(len(values), dtype=bool)
    found = targets_of([], np.empty((len(values), 0)), {"kind": values}, fit_N, {})
    assert [target.name for target in found] == [f"kind=k{kind:02d}" for kind in range(5, FREQUENT + 5)]
    assert {target.group for target in found} == {"kind"}


@given(st.lists(st.sampled_from(["a", "b", "c", "", "7", "nan"]), min_size=40, max_size=40), st.randoms())
def test_what_is_predicted_is_decided_without_the_test_patients(values: list[str], random: object) -> None:
    fit_N = np.arange(40) < 25
    other = values[:25] + [random.choice(["q", "7", "", "a"]) for _ in range(15)]  # type: ignore[attr-defined]
    found, poisoned = (targets_of([], NONE, {"m": texts}, fit_N, {}) for texts in (values, other))
    assert [target[:2] for target in found] == [target[:2] for target in poisoned]
    for one, two in zip(found, poisoned, strict=True):
        np.testing.assert_array_equal(one.y_N[:25], two.y_N[:25])


def test_labels_come_first_and_columns_by_name() -> None:
    y_NL = np.eye(40)[:, :2]
    columns = {"view": ["AP", "PA"] * 20, "age": [str(value) for value in range(40)]}
    found = targets_of(["l0", "l1"], y_NL, columns, FIT_N, {"age": ["<5"]})
    assert [(target.name, target.group) for target in found] == [
        *(("l0", "labels"), ("l1", "labels"), ("age<5", "age"), ("view=AP", "view"))
    ]
    backwards = targets_of(["l0", "l1"], y_NL, dict(reversed(columns.items())), FIT_N, {"age": ["<5"]})
    assert [target.name for target in backwards] == [target.name for target in found]


@pytest.mark.parametrize(("text", "value"), [("058Y", 58), ("-3.5", -3.5), ("1e3", 1000), ("", None), ("12M", None)])
def test_a_number_is_read_or_unknown(text: str, value: float | None) -> None:
    assert number(text) == value if value is not None else np.isnan(number(text))
    assert CATEGORIES < FREQUENT
