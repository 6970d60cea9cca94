import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from medsae_ray.core.naming.metadata import best_column, numbers, strata


def test_numbers_and_categories_are_told_apart() -> None:
    ages = [str(a) for a in range(20, 30)] + [None]
    known = numbers(ages)
    assert known is not None and known[0] == 20 and np.isnan(known[-1])
    assert numbers(["M", "F"] * 5) is None
    assert numbers(["0", "1"] * 5) is None


def test_strata_join_images_with_equal_categories_and_neighbouring_ages() -> None:
    sex, age = ["M", "M", "F", None] * 25, [str(a) for a in range(100)]
    stratum = strata({"sex": sex, "age": age})
    assert stratum[0] == stratum[1] != stratum[2]
    assert stratum[0] != stratum[97] and len(np.unique(stratum)) == 3 * 5


def test_the_best_column_is_the_one_that_tells_the_classes_apart_in_either_direction() -> None:
    rng = np.random.default_rng(0)
    y = np.repeat([1.0, 0.0], 50)
    age = np.where(y == 1, 40, 60) + rng.normal(0, 10, 100)
    columns = {"age": [f"{a:.1f}" for a in age], "sex": rng.choice(["M", "F"], 100).tolist(), "same": ["x"] * 100}
    best = best_column(columns, y)
    assert best.name == "age" and best.auroc == pytest.approx(1 - roc_auc_score(y, np.round(age, 1)))
    assert best.beyond_chance
    view = np.where(y == 1, "PA", "AP").tolist()
    assert best_column({**columns, "view": view}, y)[1:] == (1.0, True)


def test_the_best_of_many_useless_columns_is_not_beyond_chance() -> None:
    rng, y = np.random.default_rng(0), np.repeat([1.0, 0.0], 50)
    found = [best_column({f"c{i}": rng.choice(list("abcd"), 100).tolist() for i in range(6)}, y) for _ in range(60)]
    assert np.mean([f.auroc for f in found]) > 0.55
    assert np.mean([f.beyond_chance for f in found]) <= 0.1


def test_no_metadata_gives_no_column() -> None:
    best = best_column({"same": ["x", "x"], "none": [None, None]}, np.array([1.0, 0.0]))
    assert best.name is None and np.isnan(best.auroc)
