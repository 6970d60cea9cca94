from pathlib import Path

import numpy as np
import pytest
from scipy import sparse
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from medsae_ray.core.analysis import probes as module
from medsae_ray.core.analysis.auroc import auroc
from medsae_ray.core.analysis.probes import Columns, ProbeWork, fit, gathered, probe, probe_rows
from tests.core.made import cohort, feature_work

N, K = 600, 20


def made(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Columns of which all say a little of a label, the label, and who is for what."""
    rng = np.random.default_rng(seed)
    y_N = (rng.random(N) < 0.4).astype(float)
    x_NK = rng.normal(3, rng.uniform(0.5, 2, K), (N, K)) + 0.4 * y_N[:, None]
    return (x_NK * (rng.random((N, K)) < 0.7)).astype(np.float32), y_N, rng.choice(3, N, p=[0.5, 0.2, 0.3])


@pytest.mark.parametrize("strength", [0.001, 0.1])
@pytest.mark.parametrize("as_sparse", [False, True])
def test_the_weights_are_those_of_scikit_learn_on_standardised_columns(strength: float, as_sparse: bool) -> None:
    x_NK, y_N, _ = made()
    scaled_NK = StandardScaler().fit_transform(x_NK.astype(np.float64))
    other = LogisticRegression(C=strength, tol=1e-10, max_iter=5000).fit(scaled_NK, y_N)
    weights = fit(Columns.of(sparse.csr_array(x_NK) if as_sparse else x_NK), y_N, strength)
    np.testing.assert_allclose(weights, [*other.coef_[0], *other.intercept_], atol=2e-4)


def test_what_is_spread_over_columns_is_found_by_a_probe_and_by_no_column() -> None:
    x_NK, y_N, role_N = made()
    found = probe(x_NK, y_N, role_N, 0.95)
    test = role_N == 2
    best = max(auroc(x_N[test], y_N[test]).auc for x_N in x_NK.T)
    assert found.area.auc > best + 0.03 and found.area.low < found.area.auc < found.area.high
    assert found.patients == (role_N < 2).sum() and found.strength in module.STRENGTHS
    assert (found.area.positives, found.area.negatives) == (y_N[test].sum(), (1 - y_N[test]).sum())
    assert probe(sparse.csr_array(x_NK), y_N, role_N, 0.95).area.auc == pytest.approx(found.area.auc, abs=1e-3)


def test_the_test_chooses_nothing_and_a_constant_column_does_no_harm() -> None:
    x_NK, y_N, role_N = made()
    x_NK[:, 0] = 5
    first = probe(x_NK, y_N, role_N, 0.95)
    turned = np.where(role_N == 2, 1 - y_N, y_N)
    other = probe(x_NK, turned, role_N, 0.95)
    assert other.strength == first.strength and other.area.auc == pytest.approx(1 - first.area.auc)


def test_noise_is_at_chance() -> None:
    areas = []
    for seed in range(10):
        x_NK, y_N, role_N = made(seed)
        areas.append(probe(x_NK, np.random.default_rng(seed).permutation(y_N), role_N, 0.95).area.auc)
    assert abs(np.mean(areas) - 0.5) < 0.05


def test_without_a_class_there_is_no_probe_and_with_few_images_a_fixed_strength() -> None:
    x_NK, y_N, role_N = made()
    none = probe(x_NK, np.where(role_N < 2, 0.0, y_N), role_N, 0.95)
    assert np.isnan(none.area.auc) and none.strength is None and none.patients == 0 and none.area.positives > 0
    untested = probe(x_NK, np.where(role_N == 2, 0.0, y_N), role_N, 0.95)
    assert np.isnan(untested.area.auc) and untested.area.positives == 0 < untested.patients
    few = np.where(role_N == 1, 0.0, y_N)
    assert probe(x_NK, few, role_N, 0.95).strength == module.USUAL
    assert np.isnan(probe(x_NK, np.full(N, np.nan), role_N, 0.95).area.auc)


def test_the_sample_holds_one_image_of_each_patient_within_the_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = cohort()
    features = feature_work(tmp_path, data, 7)
    labels = features.labels
    monkeypatch.setattr(module, "MOST", 25)
    chosen_N = probe_rows(labels)
    assert (chosen_N & labels.discovery_one_N).sum() == (chosen_N & labels.test_N).sum() == 25 and chosen_N.sum() == 50
    work = ProbeWork(features.embeddings, features.activations, labels.shard_N, chosen_N, data.z_NM.shape[1])
    sample = gathered([work.compute(shards) for shards in work.groups()])
    np.testing.assert_array_equal(sample.row_n, np.flatnonzero(chosen_N))
    np.testing.assert_array_equal(sample.raw_nD, data.x_ND[chosen_N])
    np.testing.assert_array_equal(sample.sae_nF.toarray(), data.z_NM[chosen_N])
