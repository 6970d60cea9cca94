import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from medsae_ray.core.naming.prompts import CATEGORIES, DEFINITION_WORDS, NAME_WORDS, naming_schema
from medsae_ray.core.phantom.cohort import TRAINING_SEEDS, patient
from medsae_ray.core.phantom.render import render
from medsae_ray.core.phantom.vlm import films
from medsae_ray.core.phantom.vlm.concepts import CONCEPTS, NAMES, truth
from medsae_ray.core.phantom.vlm.tasks import FilmGroups, naming_answer, planted, unrelated

K = len(CONCEPTS)


def answer(drawn: FilmGroups, truth_NK: np.ndarray, p_K: np.ndarray) -> dict[str, object]:
    return naming_answer(truth_NK[drawn.rows_A], truth_NK[drawn.rows_B], p_K)


@settings(max_examples=60, deadline=None)
@given(st.data(), st.integers(4, 8), st.integers(2, 4))
def test_every_answer_fits_the_naming_schema(data: st.DataObject, n_a: int, n_b: int) -> None:
    groups = [data.draw(arrays(bool, (n, K))) for n in (n_a, n_b)]
    jsonschema.validate(naming_answer(*groups, np.full(K, 0.2)), naming_schema(n_a))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_a_name_is_shared_by_most_of_a_and_spared_by_most_of_b(seed: int) -> None:
    rng = np.random.default_rng(seed)
    p_K = rng.uniform(0.1, 0.4, K)
    truth_NK = rng.random((300, K)) < p_K
    drawn = planted(truth_NK, rng)
    given_ = answer(drawn, truth_NK, p_K)
    if not given_["abstain"]:
        column = truth_NK[:, NAMES.index(str(given_["name"]))]
        assert column[drawn.rows_A].mean() >= 0.6 and column[drawn.rows_B].mean() <= 0.25
        assert given_["fraction_of_a"] == round(float(column[drawn.rows_A].mean()), 2)


def test_most_random_groups_are_abstained_on_and_few_planted_ones() -> None:
    rng = np.random.default_rng(0)
    p_K = rng.uniform(0.1, 0.4, K)
    truth_NK = rng.random((500, K)) < p_K
    share = [
        np.mean([answer(draw(truth_NK, rng), truth_NK, p_K)["abstain"] for _ in range(200)])
        for draw in (unrelated, planted)
    ]
    assert share[0] > 0.85 and share[1] < 0.2


def test_concepts_are_short_and_their_categories_known() -> None:
    for concept in CONCEPTS:
        assert concept.category in CATEGORIES
        assert len(concept.name.split()) <= NAME_WORDS and len(concept.definition.split()) <= DEFINITION_WORDS


def test_the_truth_of_a_film_is_what_was_planted() -> None:
    for study in patient(3, 5):
        shown = dict(zip(NAMES, truth(study), strict=True))
        assert {name: shown[name] for name in study.truth} == {name: bool(v) for name, v in study.truth.items()}
        assert shown["No Finding"] == (not any(study.truth.values()))
        assert shown["AP projection"] == (study.view == "AP")


@given(st.integers(0, 2**31).filter(lambda seed: seed not in TRAINING_SEEDS))
def test_seeds_of_runs_are_refused(seed: int) -> None:
    with pytest.raises(ValueError, match="belongs to runs"):
        films.draw(seed, 0, located=False)


def test_a_finding_is_located_where_its_picture_changes() -> None:
    study = next(s for n in range(40) for s in patient(TRAINING_SEEDS[5], n) if s.truth["Pleural Effusion"])
    w_TF = films.locate(study, render(study))
    assert w_TF[:, NAMES.index("Pleural Effusion")].max() > 200
    assert all(w_TF[:, k].max() == 0 for k, name in enumerate(study.truth) if not study.truth[name])
