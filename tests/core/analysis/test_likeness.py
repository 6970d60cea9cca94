from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.covariance import OAS
from sklearn.neighbors import NearestNeighbors

from medsae_ray.core.analysis.likeness import Estimator, Reference, from_file, to_file
from medsae_ray.core.analysis.scatter import Scatter


def cloud(rng: np.random.Generator, n: int, dim: int = 5) -> np.ndarray:
    return rng.normal(size=(n, dim)) * np.arange(1, dim + 1) + 3


def estimator(x_ND: np.ndarray, groups: np.ndarray | None = None) -> Estimator:
    group_N = np.zeros(len(x_ND), int) if groups is None else groups
    found = Estimator.of(Scatter.of(x_ND, group_N, int(group_N.max()) + 1), x_ND)
    assert found is not None
    return found


@pytest.mark.parametrize("n", [4, 12, 300])  # fewer images than neighbours, fewer than dimensions, and more
def test_distances_are_those_of_scikit_learn(n: int) -> None:
    rng = np.random.default_rng(0)
    x_ND, other_ND = cloud(rng, n, 15), cloud(rng, 2000, 15).astype(np.float32)
    precision_DD = OAS().fit(x_ND).precision_
    near = NearestNeighbors(n_neighbors=min(n, 10), metric="mahalanobis", metric_params={"VI": precision_DD})
    expected, _ = near.fit(x_ND).kneighbors(other_ND.astype(np.float64))
    np.testing.assert_allclose(estimator(x_ND).distances(other_ND), expected[:, -1], rtol=1e-5)


def test_a_second_hospital_is_near_its_own_images() -> None:
    rng = np.random.default_rng(1)
    one, two = cloud(rng, 200), cloud(rng, 200) + 1000
    found = estimator(np.concatenate([one, two]), np.repeat([0, 1], 200))
    between = found.distances(np.concatenate([one, two]).mean(0, keepdims=True))[0]
    assert between > 50 > 6 > found.distances(cloud(rng, 100) + 1000).max()


@pytest.mark.parametrize("x_ND", [np.full((9, 3), 0.1, np.float32), np.ones((1, 3)), np.zeros((4, 3))])
def test_equal_embeddings_have_no_estimator(x_ND: np.ndarray) -> None:
    halves = [Scatter.of(part, np.zeros(len(part), int), 1) for part in (x_ND[:1], x_ND[1:])]
    assert Estimator.of(halves[0].merge(halves[1]), x_ND) is None


def test_dimensions_that_never_vary_are_noticed_when_they_do() -> None:
    x_ND = cloud(np.random.default_rng(2), 100)
    x_ND[:, 0] = 0
    found = estimator(x_ND)
    odd_ND = x_ND[:5] + np.eye(5)[0] * 5
    assert found.distances(odd_ND).min() > found.distances(x_ND).max()


def test_a_file_keeps_everything() -> None:
    x_ND = cloud(np.random.default_rng(4), 50)
    found, reference = estimator(x_ND), Reference.of(np.arange(7.0), np.array(["a", "a", *"bcdef"]))
    for kept, made in zip(from_file(to_file(found, reference)), (found, reference), strict=True):
        for name, value in ((f.name, getattr(made, f.name)) for f in fields(made)):
            np.testing.assert_array_equal(getattr(kept, name), value)


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 300), level=st.sampled_from([0.8, 0.95, 0.98]))
def test_the_threshold_of_single_images_is_that_of_split_conformal_prediction(seed: int, n: int, level: float) -> None:
    distance_N = np.random.default_rng(seed).normal(size=n)
    found = Reference.of(distance_N, np.arange(n)).threshold(level)
    place = int(np.ceil(level * (n + 1) - 1e-9))
    assert found == (None if place > n else np.sort(distance_N)[place - 1])


def test_a_patient_with_many_images_counts_once() -> None:
    distance_N = np.concatenate([np.arange(99.0), np.full(1000, 500.0)])
    patient_N = np.concatenate([np.arange(99), np.full(1000, 99)])
    found = Reference.of(distance_N, patient_N)
    assert found.patients == 100
    assert found.percentile(400.0) == pytest.approx(99)
    assert found.threshold(0.95) == 95.0
    assert found.percentile(-1.0) == 0 and found.percentile(1e9) == pytest.approx(100)


def test_new_patients_exceed_the_threshold_as_often_as_promised() -> None:
    """Patients have their own offset and 1 to 8 images, and those with many lie further out."""
    rng, level, shares = np.random.default_rng(3), 0.9, []
    for _ in range(300):
        images = rng.integers(1, 9, 60)
        patient_N = np.repeat(np.arange(60), images)
        distance_N = rng.gamma(2, 1, 60)[patient_N] * images[patient_N] + rng.random(len(patient_N))
        old = patient_N < 40
        threshold = Reference.of(distance_N[old], patient_N[old]).threshold(level)
        assert threshold is not None
        shares += [np.mean(distance_N[patient_N == p] > threshold) for p in range(40, 60)]
    assert np.mean(shares) <= 1 - level + 0.01 and np.mean(shares) > 0.05


def test_a_judgement_says_why() -> None:
    found = Reference.of(np.arange(100.0), np.arange(100))
    far, at = found.judged(98.5, 0.98), found.judged(98.0, 0.98)
    assert far == {"flag": True, "distance": 98.5, "percentile": pytest.approx(99), "threshold": 98.0}
    assert at["flag"] is False and at["percentile"] == pytest.approx(98)
    few = Reference.of(np.arange(10.0), np.arange(10)).judged(50.0, 0.98)
    assert few["flag"] is None and few["threshold"] is None and few["percentile"] == pytest.approx(100)
    none = Reference.of(np.empty(0), np.empty(0))
    assert none.threshold(0.98) is None and none.percentile(1.0) == 0
