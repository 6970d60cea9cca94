import numpy as np

from medsae_ray.core.naming.scores import score
from medsae_ray.core.naming.self_check import self_check

Y = np.repeat([1.0, 0.0], 15)


def test_one_in_ten_names_without_meaning_is_kept_and_hardly_any_true_one_is_lost() -> None:
    rng = np.random.default_rng(0)
    none = [self_check(score(rng.random(30), Y)) for _ in range(500)]
    assert 0.05 < np.mean([check.kept for check in none if check]) < 0.13
    true = [self_check(score(rng.normal(1.4 * Y), Y)) for _ in range(300)]
    assert np.mean([check.kept for check in true if check]) > 0.95
    wrong = self_check(score(1 - Y, Y))
    assert wrong and not wrong.kept and "AUROC 0.00" in wrong.reason


def test_without_answers_nothing_is_known() -> None:
    assert self_check(score(np.full(30, np.nan), Y)) is None and self_check(score([], [])) is None
    half = np.where(np.arange(30) % 3 == 0, np.nan, Y)
    assert self_check(score(half, Y)) is not None
