import math

import numpy as np
import pytest
from scipy import stats

from medsae_ray.core.artifacts import schema
from medsae_ray.core.naming.metadata import BestColumn
from medsae_ray.core.naming.scores import LabelScore, Score, beats, control, score
from medsae_ray.core.naming.verdict import (
    REJECTED,
    UNTESTED,
    VERIFIED,
    Trial,
    Untested,
    chance_namer,
    judge,
    paper_count,
    scores,
    scores_table,
)

Y = np.repeat([1.0, 0.0], 50)


def answers(rng: np.random.Generator, area: float) -> np.ndarray:
    """p(yes) of a namer with this AUROC: two normals, their distance from the area, through a sigmoid."""
    return 1 / (1 + np.exp(-rng.normal(Y * math.sqrt(2) * stats.norm.ppf(area), 1)))


def made(rng: np.random.Generator, feature: int, area: float, controls: float = 0.5) -> Trial:
    nulls = tuple(control(answers(rng, controls), Y) for _ in range(3))
    return Trial(feature, f"n{feature}", score(answers(rng, area), Y), nulls, control(answers(rng, 0.5), Y))


@pytest.mark.parametrize("seed", range(3))
def test_random_names_are_not_verified_and_true_names_are(seed: int) -> None:
    rng = np.random.default_rng(seed)
    random = [made(rng, f, 0.5) for f in range(200)]
    assert [j.verdict for j in judge(random)].count(VERIFIED) <= 2
    mixed = [made(rng, f, 0.9 if f < 50 else 0.5) for f in range(250)]
    verdicts = [j.verdict for j in judge(mixed)]
    assert verdicts[:50].count(VERIFIED) >= 49 and verdicts[50:].count(VERIFIED) <= 10
    chance = chance_namer(mixed)
    assert chance.expected_verified <= 5 and abs(chance.mean_auroc - 0.5) < 0.02


def test_q_is_that_of_benjamini_and_hochberg_over_all_names() -> None:
    rng = np.random.default_rng(0)
    names = [made(rng, f, area) for f, area in enumerate(rng.uniform(0.4, 0.8, 40))]
    p = np.array([max(t.score.p, *(beats(t.score, c) for c in t.nulls)) for t in names])
    by_hand = [
        min(p[p >= p[i]][j] * 40 / (p <= p[p >= p[i]][j]).sum() for j in range((p >= p[i]).sum())) for i in range(40)
    ]
    np.testing.assert_allclose([j.q for j in judge(names)], by_hand)


def perfect_but(**changes: object) -> Trial:
    null = score(np.full(100, 0.5), Y)
    return Trial(**{"feature": 0, "name": "x", "score": score(Y, Y), "nulls": (null,) * 3, "trivial": null, **changes})


def test_each_condition_of_the_verdict_matters() -> None:
    weak = score(answers(np.random.default_rng(1), 0.62), Y)
    assert weak.p < 0.05 and weak.area.low < 0.6
    null = perfect_but().nulls[0]
    lost = np.where(np.arange(100) % 10 < 6, np.nan, Y)
    cases = {
        VERIFIED: [
            perfect_but(),
            perfect_but(nulls=()),
            perfect_but(trivial=None, nulls=()),
            perfect_but(hard=0.8, hard_low=0.6),
            perfect_but(score=score(Y, Y, np.full(100, 0.3))),
        ],
        REJECTED: [
            perfect_but(score=weak),
            perfect_but(nulls=(null, score(Y, Y), null)),
            perfect_but(trivial=score(Y, Y)),
            perfect_but(trivial=score(1 - Y, Y)),
            perfect_but(score=score(1 - Y, Y)),
            perfect_but(nulls=(null, score(1 - Y, Y))),
            perfect_but(others=(score(1 - Y, Y),)),
            perfect_but(hard=0.5),
            perfect_but(hard=0.8, hard_low=0.48),
            perfect_but(score=score(np.where(np.arange(100) % 10 < 5, np.nan, Y), Y)),
        ],
        UNTESTED: [
            perfect_but(score=score(lost, Y)),
            perfect_but(score=score(Y, Y, np.full(100, 5e-9))),
            perfect_but(score=score(Y[:50], Y[:50]), nulls=(), trivial=None),
            perfect_but(doubt="the model cannot see this"),
        ],
    }
    for verdict, names in cases.items():
        for name in names:
            assert judge([name])[0].verdict == verdict
    noise = [perfect_but(score=score(answers(np.random.default_rng(s), 0.5), Y)) for s in range(400)]
    barely = perfect_but(score=score(answers(np.random.default_rng(4), 0.78), Y))
    assert barely.score.area.low > 0.6
    assert judge([barely])[0].q < judge([barely, *noise])[0].q
    few = perfect_but(score=score(np.arange(16) / 16, np.repeat([0, 1], 8)))
    assert few.score.area.low > 0.6 and judge([few])[0].verdict == VERIFIED
    assert judge([few, *noise])[0].verdict == REJECTED


def test_a_control_without_answers_is_no_control() -> None:
    empty = control(np.full(100, np.nan), Y)
    assert judge([perfect_but(nulls=(empty,), trivial=empty)])[0].verdict == VERIFIED
    row = scores_table("vlm", [perfect_but(nulls=(empty,), trivial=empty)]).to_pylist()[0]
    assert row["null_mean"] is None and row["gain"] is None and row["trivial"] is None


def test_the_chance_namer_goes_through_the_same_verdict() -> None:
    """Of each three random names the first describes the feature: a third of the random names is verified."""
    rng = np.random.default_rng(0)
    names = [made(rng, f, 0.9) for f in range(30)]
    lucky = [Trial(t.feature, t.name, t.score, (t.score, *t.nulls[1:]), t.trivial) for t in names]
    assert chance_namer(lucky).expected_verified == pytest.approx(10, abs=0.5)
    twice = [Trial(t.feature, t.name, t.score, (t.score, t.score), t.trivial) for t in names]
    assert chance_namer(twice).expected_verified == 0
    assert math.isnan(chance_namer([perfect_but(nulls=())]).expected_verified)


def test_random_names_have_a_mean_against_hard_negatives_too() -> None:
    some = [perfect_but(nulls_hard=(0.4, 0.5, math.nan)), perfect_but(nulls_hard=(0.75,)), perfect_but()]
    assert chance_namer(some).mean_auroc_hard == pytest.approx(0.55)
    assert math.isnan(chance_namer([perfect_but()]).mean_auroc_hard)


def right(correct: int, n: int) -> Score:
    y = np.repeat([1.0, 0.0], n // 2)
    return score(np.where(np.arange(n) < correct, y, 1 - y), y)


def test_the_number_of_names_that_chance_lets_pass_is_that_of_the_binomial() -> None:
    few, many = paper_count([right(13, 20)] * 8192), paper_count([right(69, 100)] * 8192)
    assert (few.passed, round(few.expected_by_chance), few.n_low) == (0, 472, 20)
    assert (many.passed, round(many.expected_by_chance, 1), many.n_high) == (0, 0.3, 100)
    mixed = paper_count([right(14, 20), right(70, 100), right(63, 90), right(62, 90)])
    assert (mixed.passed, mixed.names, mixed.n_low, mixed.n_high) == (3, 4, 20, 100)
    assert paper_count([]) == (0, 0, 0, 0, 0)


def test_metadata_that_beats_the_name_is_a_suspected_shortcut() -> None:
    weak = score(answers(np.random.default_rng(1), 0.6), Y)
    suspicion = [
        perfect_but(score=weak, metadata=BestColumn("view = AP", auc, beyond)).shortcut_suspected
        for auc, beyond in [(0.9, True), (0.9, False), (0.55, True), (math.nan, False)]
    ]
    assert suspicion == [True, False, False, False]
    assert not perfect_but(metadata=BestColumn("view = AP", 0.9, True)).shortcut_suspected


def test_the_table_holds_every_feature_once_with_its_figures() -> None:
    rng = np.random.default_rng(0)
    full = Trial(
        feature=5,
        name="edema",
        score=score(answers(rng, 0.9), Y, np.full(100, 0.3)),
        nulls=made(rng, 0, 0.5).nulls,
        trivial=score(Y * 0, Y),
        blank_p=0.25,
        ceiling=0.95,
        label=LabelScore("Edema", 0.8),
        metadata=BestColumn("view = AP", 0.97, True),
        hard=0.7,
        nulls_hard=(0.45, math.nan),
    )
    untested = [Untested(7, "abstained"), Untested(2, "insufficient_support", "rib", 12, 300)]
    table = schema.conform(scores_table("vlm", [full, perfect_but(feature=3)], untested), scores(), "scores")
    rows = table.to_pylist()
    assert [(r["feature"], r["verdict"]) for r in rows] == [
        (2, "insufficient_support"), (3, VERIFIED), (5, VERIFIED), (7, "abstained"),
    ]  # fmt: skip
    row, nulls = rows[2], [n.area.auc for n in full.nulls]
    assert (row["name"], row["source"], row["low_mass"], row["n_pos"]) == ("edema", "vlm", 100, 50)
    assert row["null_mean"] == pytest.approx(np.mean(nulls)) and row["null_max"] == max(nulls)
    assert row["gain"] == pytest.approx(full.score.area.auc - np.mean(nulls))
    assert row["auroc_hard"] == 0.7 and rows[1]["auroc_hard"] is None
    assert (row["trivial"], row["blank_p"], row["ceiling"], row["label_auroc"]) == (0.5, 0.25, 0.95, 0.8)
    assert row["shortcut_suspected"] and row["best_metadata"] == "view = AP"
    assert (rows[0]["n_pos"], rows[0]["name"], rows[0]["auroc"]) == (12, "rib", None)
    assert scores_table("vlm", []).schema == scores()


@pytest.mark.parametrize("seed", range(5))
def test_a_name_that_is_a_control_turned_over_is_not_verified(seed: int) -> None:
    """A model that answers all questions by one thing it sees, here the brightness of normal chests: the only other
    name points the other way, at 0.26, and was free to beat."""
    rng = np.random.default_rng(seed)
    bright = np.log(answers(rng, 0.78))
    name, other = bright + rng.normal(0, 0.2, 100), -bright + rng.normal(0, 0.2, 100)
    trial = Trial(0, "Consolidation", score(name, Y), (control(other, Y),) * 3, control(answers(rng, 0.5), Y))
    assert trial.nulls[0].area.auc < 0.35 and trial.score.area.auc > 0.65
    assert judge([trial])[0].verdict == REJECTED


def test_of_names_that_are_no_better_than_their_best_control_hardly_any_is_verified() -> None:
    rng = np.random.default_rng(1)

    def alike() -> Trial:
        seen = stats.norm.ppf(0.8) * math.sqrt(2) * Y + rng.normal(0, 1, 100)
        name, *others = (seen + rng.normal(0, 1, 100) for _ in range(4))
        return Trial(0, "x", score(name, Y), tuple(control(other, Y) for other in others))

    verdicts = [j.verdict for j in judge([alike() for _ in range(300)])]
    assert verdicts.count(VERIFIED) <= 3
