from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from medsae_ray.core.naming.candidates import INSUFFICIENT, SUFFICIENT, Candidates, ImageSample
from medsae_ray.core.naming.sampling import (
    check_sample,
    detection_sample,
    naming_sample,
)
from medsae_ray.errors import ArtifactError
from tests.support.usual import detection_design, naming_design

NAMING, DETECTION = naming_design(), detection_design()
LARGE = detection_design(pool=2000)


def cohort(seed: int, n: int, share: float, patients: int | None = None, features: int = 3) -> dict[str, Any]:
    """Images with random embeddings and features active on about `share` of them; one per patient by default."""
    rng = np.random.default_rng(seed)
    of_patient = np.arange(n) if patients is None else rng.integers(0, patients, n)
    x_NF = np.where(rng.random((n, features)) < share, rng.integers(1, 30, (n, features)) / 4, 0.0)
    view, age = rng.choice(["PA", "AP"], n).tolist(), [str(a) for a in rng.integers(20, 90, n)]
    return {
        "row_N": rng.permutation(10 * n)[:n],
        "image_N": np.array([f"image{i:05d}" for i in range(n)]),
        "patient_N": np.array([f"patient{p}" for p in of_patient]),
        "e_ND": rng.normal(size=(n, 6)).astype(np.float32) + 5,
        "x_NF": sparse.csc_array(x_NF.astype(np.float32)),
        "metadata": {"view": view, "age": age},
    }


def permuted(cohort: dict[str, Any], seed: int) -> dict[str, Any]:
    order = np.random.default_rng(seed).permutation(len(cohort["row_N"]))
    columns = {name: [column[i] for i in order] for name, column in cohort["metadata"].items()}
    return {**{k: v[order] for k, v in cohort.items() if k != "metadata"}, "metadata": columns}


def same(a: ImageSample, b: ImageSample) -> bool:
    return a[:2] == b[:2] and all(np.array_equal(x, y) for x, y in zip(a[2:], b[2:], strict=True))


def check(sample: ImageSample, cohort: dict[str, Any], positive_roles: tuple[str, ...]) -> list[int]:
    """What holds of every sample; the places of its images in `cohort`."""
    place = {int(row): i for i, row in enumerate(cohort["row_N"])}
    places = [place[int(row)] for row in sample.row_n]
    assert len({cohort["patient_N"][i] for i in places}) == len(places)
    dense = cohort["x_NF"].toarray()
    np.testing.assert_array_equal(sample.value_n, dense[places, sample.feature])
    np.testing.assert_array_equal(sample.value_n > 0, [role in positive_roles for role in sample.role_n])
    np.testing.assert_array_equal(sample.y_n, sample.value_n > 0)
    return places


def nearest_contrasts(cohort: dict[str, Any], group_a: list[int], feature: int) -> list[int]:
    """By hand: the first images of group A in turn take the nearest inactive image of a patient not yet used."""
    inactive = np.flatnonzero(cohort["x_NF"].toarray()[:, feature] == 0)
    used, chosen = set(cohort["patient_N"][group_a]), []
    for place in group_a[:4]:
        free = [i for i in inactive if cohort["patient_N"][i] not in used]
        distance = ((cohort["e_ND"][free].astype(float) - cohort["e_ND"][place]) ** 2).sum(axis=1)
        chosen.append(int(free[distance.argmin()]))
        used.add(cohort["patient_N"][chosen[-1]])
    return chosen


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    n=st.integers(20, 150),
    share=st.sampled_from([0.05, 0.2, 0.6, 0.97]),
    patients=st.sampled_from([12, 40, 400]),
)
def test_a_naming_sample_has_its_roles_and_no_patient_twice(seed: int, n: int, share: float, patients: int) -> None:
    made = cohort(seed, n, share, patients)
    images, shuffled = Candidates.of(**made, seed=1), Candidates.of(**permuted(made, seed), seed=1)
    for feature in (2, 0, 1):
        got = naming_sample(images, feature, 7, NAMING)
        assert same(got, naming_sample(shuffled, feature, 7, NAMING))
        active = made["x_NF"].toarray()[:, feature] > 0
        assert got.active == len(set(made["patient_N"][active]))
        if got.status == INSUFFICIENT:
            assert len(got.row_n) == 0 and (got.active < 8 or got.inactive < 4)
            continue
        assert got.status == SUFFICIENT and got.role_n == ["top"] * 5 + ["middle"] * 3 + ["contrast"] * 4
        places = check(got, made, ("top", "middle"))
        assert places[8:] == nearest_contrasts(made, places[:8], feature)
        assert got.value_n[0] == made["x_NF"].toarray()[:, feature].max()


def test_top_images_are_strong_and_diverse_and_middle_ones_are_above_the_median() -> None:
    """2,000 active images: the top 20 of them in 5 places far apart, 4 in each; so one of each is chosen."""
    n = 4000
    value = np.where(np.arange(n) < 2000, 2000.0 - np.arange(n), 0.0)
    e_ND = np.random.default_rng(0).normal(size=(n, 5))
    e_ND[:20] = np.repeat(np.eye(5) * 100, 4, axis=0) + 0.01 * e_ND[:20]
    ids = np.array([f"i{i:04d}" for i in range(n)])
    images = Candidates.of(np.arange(n), ids, ids, e_ND, sparse.csc_array(value[:, None]), seed=0)
    rows = naming_sample(images, 0, 0, NAMING).row_n
    assert sorted(rows[:5] // 4) == [0, 1, 2, 3, 4] and rows[0] == 0
    assert ((rows[5:8] >= 100) & (rows[5:8] <= 1000)).all()


def test_contrasts_are_the_nearest_inactive_images_of_other_patients() -> None:
    """Group A at 0, 10, ..., 70. The nearest to 0 shows the same patient, so the next nearest is taken."""
    e_ND = np.array([[10.0 * i] for i in range(8)] + [[0.1], [0.2], [10.3], [20.4], [30.5], [500.0]])
    value = np.array([8.0 - i for i in range(8)] + [0.0] * 6)
    patients = np.array([f"p{i}" for i in range(8)] + ["p0", "q1", "q2", "q3", "q4", "q5"])
    images = Candidates.of(
        np.arange(14), [f"i{i:02d}" for i in range(14)], patients, e_ND, sparse.csc_array(value[:, None]), seed=0
    )
    got = naming_sample(images, 0, 0, NAMING)
    distance = np.abs(e_ND[got.row_n[:4]] - e_ND[got.row_n[8:]])
    assert (distance < 15).all() and 8 not in got.row_n
    assert got.inactive == 5


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    n=st.integers(60, 400),
    share=st.sampled_from([0.1, 0.3, 0.7, 0.95]),
    pool=st.sampled_from([0, 20, 100, 1000]),
    each=st.sampled_from([12, 25, 50]),
)
def test_a_detection_sample_has_its_roles_and_no_patient_twice(
    seed: int, n: int, share: float, pool: int, each: int
) -> None:
    made, design = cohort(seed, n, share), detection_design(positives=each, negatives=each, pool=pool)
    images, shuffled = Candidates.of(**made, seed=1), Candidates.of(**permuted(made, seed), seed=1)
    for feature in (1, 0, 2):
        got = detection_sample(images, feature, 7, design)
        assert same(got, detection_sample(shuffled, feature, 7, design))
        assert got.active + got.inactive == n
        if got.status == INSUFFICIENT:
            assert len(got.row_n) == 0 and min(got.active, got.inactive) < 30
            continue
        bins = tuple(f"bin{b}" for b in range(5))
        check(got, made, bins)
        assert (got.y_n == 0).sum() == min(each, got.inactive)
        assert (got.y_n == 1).sum() <= each
        if got.active >= each + 5:
            assert (got.y_n == 1).sum() == each
        highest = [max((v for v, r in zip(got.value_n, got.role_n, strict=True) if r == b), default=0) for b in bins]
        assert highest == sorted(highest)
        equal, unmatched = got.role_n.count("equal"), got.unmatched
        if got.inactive >= each:
            assert equal == round(0.4 * each) + unmatched
            assert got.role_n.count("hard") == round(0.3 * each)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), share=st.sampled_from([0.05, 0.3, 0.5]))
def test_images_outside_the_pool_are_used_only_where_a_bin_has_too_few(seed: int, share: float) -> None:
    """Without matching, negatives never need a top-up here; a bin needs as many as the pool lacks."""
    made = {**cohort(seed, 1000, share), "metadata": None}
    images, design = Candidates.of(**made, seed=1), DETECTION
    got = detection_sample(images, 0, 7, design)
    active = images.active(0)
    if got.status == INSUFFICIENT:
        return
    parts = np.array_split(active.place_A[np.argsort(active.value_A, kind="stable")], 5)
    inside = [int((images.order_N[part] < 400).sum()) for part in parts]
    lacking = [min(10, len(part)) - min(10, k) for part, k in zip(parts, inside, strict=True)]
    assert (~np.isin(got.row_n, images.row_N[images.order_N < 400])).sum() == sum(lacking)
    assert got.unmatched == 15 and got.role_n.count("equal") == 35


def test_hard_negatives_are_nearer_to_the_positives_and_matched_ones_share_their_metadata() -> None:
    """Half of the inactive images look like the active ones, half do not; active ones are PA in women only."""
    n, rng = 900, np.random.default_rng(0)
    value = np.where(np.arange(n) < 300, 1 + rng.random(n), 0.0)
    e_ND = rng.normal(size=(n, 4)) + np.where(np.arange(n) < 600, 0, 50)[:, None]
    pa = (np.arange(n) < 300) | (np.arange(n) % 5 == 0)
    metadata = {"view": np.where(pa, "PA", "AP").tolist(), "sex": ["F"] * n}
    ids = np.array([f"i{i:04d}" for i in rng.permutation(n)])
    images = Candidates.of(np.arange(n), ids, ids, e_ND, sparse.csc_array(value[:, None]), 0, metadata)
    got = detection_sample(images, 0, 0, detection_design(pool=600))
    rows = {role: got.row_n[[r == role for r in got.role_n]] for role in ("equal", "hard", "matched")}
    assert [len(r) for r in rows.values()] == [20, 15, 15]
    assert (rows["hard"] < 600).all() and (rows["equal"] >= 600).sum() > 3
    assert pa[rows["matched"]].all() and not pa[rows["equal"]].all()
    assert got.unmatched == 0


def test_negatives_are_as_strong_as_the_positives_where_the_pool_has_such_images() -> None:
    """A third of the images is active in one of two features, by 2 to 3 in all; the others have a faint third."""
    n, rng = 900, np.random.default_rng(0)
    which = np.arange(n) % 6
    x_NF = np.stack([which == 0, which == 1, which > 1], axis=1) * np.array([2.0, 2.0, 0.1]) + 0.0
    x_NF[x_NF > 1] += rng.random(n)[which < 2]
    ids = [f"i{i:04d}" for i in range(n)]
    images = Candidates.of(np.arange(n), ids, ids, np.ones((n, 2)), sparse.csc_array(x_NF), 0, {"sex": ["F"] * n})
    got = detection_sample(images, 0, 0, detection_design(pool=900))
    strong = x_NF[got.row_n].sum(axis=1) > 1
    for role in ("equal", "matched"):
        assert strong[[r == role for r in got.role_n]].all()


def test_negatives_without_a_match_are_equal_in_strength_and_counted() -> None:
    made = cohort(3, 400, 0.3)
    active = made["x_NF"].toarray()[:, 0] > 0
    made["metadata"] = {"view": np.where(active, "PA", "AP").tolist()}
    got = detection_sample(Candidates.of(**made, seed=1), 0, 7, LARGE)
    assert got.unmatched == 15
    assert (got.role_n.count("equal"), got.role_n.count("matched")) == (35, 0)


def test_features_reuse_the_pool() -> None:
    made = cohort(5, 4000, 0.2, features=60)
    images = Candidates.of(**made, seed=1)
    used = np.concatenate([detection_sample(images, f, 7, detection_design(pool=500)).row_n for f in range(60)])
    assert len(used) == 60 * 100 and len(np.unique(used)) < 560


def test_another_seed_or_feature_number_is_another_draw() -> None:
    made = cohort(5, 1000, 0.3)
    made["x_NF"] = sparse.csc_array(np.repeat(made["x_NF"].toarray()[:, :1], 3, axis=1))
    images = Candidates.of(**made, seed=1)
    draws = [detection_sample(images, f, s, LARGE).row_n.tolist() for f, s in [(0, 7), (1, 7), (0, 8)]]
    assert draws[0] != draws[1] and draws[0] != draws[2]
    assert not np.array_equal(images.order_N, Candidates.of(**made, seed=2).order_N)


def test_what_cannot_be_sampled_is_refused() -> None:
    made = cohort(0, 60, 0.5, patients=20)
    with pytest.raises(ArtifactError, match="one image per patient"):
        detection_sample(Candidates.of(**made, seed=0), 0, 0, LARGE)
    with pytest.raises(ArtifactError, match="negative or not finite"):
        Candidates.of(**{**made, "x_NF": -made["x_NF"]}, seed=0)
    with pytest.raises(ArtifactError, match=r"\[59, 60\] rows"):
        Candidates.of(**{**made, "image_N": np.array(["twice", *made["image_N"][2:], "twice"])}, seed=0)
    with pytest.raises(ArtifactError, match="embedding is not finite"):
        Candidates.of(**{**made, "e_ND": np.where(made["e_ND"] > 7, np.nan, made["e_ND"])}, seed=0)


def test_a_name_is_checked_on_images_of_patients_that_it_was_not_written_from() -> None:
    of = cohort(4, 300, 0.2)
    images = Candidates.of(**of, seed=0)
    free_N = np.random.default_rng(0).random(300) < 0.7
    for feature in range(3):
        sample = check_sample(images, feature, 0, free_N, 0.0)
        check(sample, of, tuple(f"bin{b}" for b in range(5)))
        assert set(sample.row_n) <= set(images.row_N[free_N]) and (sample.y_n.sum(), len(sample.y_n)) == (25, 50)
        assert same(sample, check_sample(images, feature, 0, free_N, 0.0))
    few = check_sample(images, 0, 0, images.x_NF.toarray()[:, 0] == 0, 0.0)
    assert few.status == INSUFFICIENT and not len(few.row_n)


def test_images_on_which_a_feature_is_faint_are_neither_active_nor_silent() -> None:
    of = cohort(5, 900, 0.3)
    images = Candidates.of(**of, seed=0)
    x_N = images.x_NF.toarray()[:, 1]
    least = 0.4 * np.quantile(x_N[x_N > 0], 0.99)
    faint_N = (x_N > 0) & (x_N < least)
    assert faint_N.sum() > 20
    test = detection_sample(images, 1, 0, detection_design(positives=40, negatives=40, pool=200, faint=0.4))
    tried = check_sample(images, 1, 0, np.ones(len(images), bool), faint=0.4)
    named = naming_sample(images, 1, 0, naming_design(faint=0.4))
    for sample in (test, tried, named):
        assert sample.status == SUFFICIENT and not set(sample.row_n) & set(images.row_N[faint_N])
        assert (sample.value_n[sample.value_n > 0] >= least).all()
    assert (test.faint, test.active, test.inactive) == (faint_N.sum(), (x_N >= least).sum(), (x_N == 0).sum())
    assert detection_sample(images, 1, 0, LARGE).faint == 0
    few = detection_sample(images, 1, 0, detection_design(support=int((x_N >= least).sum()) + 1, faint=0.4))
    assert few.status == INSUFFICIENT and few.faint == faint_N.sum()
