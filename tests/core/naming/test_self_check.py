import numpy as np

from medsae_ray.core.naming.plan import Concept
from medsae_ray.core.naming.scores import score
from medsae_ray.core.naming.self_check import SelfCheck, choose, names_to_try, self_check

Y = np.repeat([1.0, 0.0], 25)


def checked(p_n: np.ndarray) -> SelfCheck | None:
    return self_check(score(p_n, Y))


def test_one_in_ten_features_named_without_meaning_is_kept_however_many_names_are_tried() -> None:
    rng = np.random.default_rng(0)
    for tried in (1, 2, 4):
        none = [choose([checked(rng.random(50)) for _ in range(tried)]) for _ in range(500)]
        assert 0.05 < np.mean([choice.kept for choice in none if choice]) < 0.13


def test_hardly_any_true_name_is_lost_and_the_wrong_way_round_is_no_name() -> None:
    rng = np.random.default_rng(0)
    true = [choose([checked(rng.normal(1.2 * Y)), *[checked(rng.random(50))] * 3]) for _ in range(300)]
    assert np.mean([choice.kept for choice in true if choice]) > 0.95
    wrong = choose([checked(1 - Y)])
    assert wrong and not wrong.kept and "AUROC 0.00" in wrong.reason(["haze"])


def test_the_name_that_is_found_again_best_is_chosen_and_the_first_of_equals() -> None:
    weak, strong = checked(np.where(np.arange(50) % 3 == 0, 1 - Y, Y)), checked(Y)
    for checks, place in (([weak, strong], 1), ([strong, weak], 0), ([strong, strong], 0), ([weak, None, strong], 2)):
        choice = choose(checks)
        assert choice and choice.place == place and choice.tried == len(checks)
    assert choose([None, strong]) is None


def test_without_answers_nothing_is_known() -> None:
    assert checked(np.full(50, np.nan)) is None and self_check(score([], [])) is None
    assert checked(np.where(np.arange(50) % 3 == 0, np.nan, Y)) is not None


def test_other_names_are_tried_once_each_and_only_if_they_can_be_names() -> None:
    first = Concept("Lung opacity", "any white part")
    others = ["lung-opacity", "Pneumonia", "", "PNEUMONIA", "chest radiograph", "a " * 11, "edema"]
    assert names_to_try(first, others) == [first, Concept("Pneumonia"), Concept("edema")]
