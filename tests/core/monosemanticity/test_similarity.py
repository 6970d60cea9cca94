import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from medsae_ray.core.monosemanticity.similarity import PairSums
from medsae_ray.errors import ArtifactError
from medsae_ray.metrics import monosemanticity_score


def made(seed: int, n: int = 30, dims: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Features: sparse, always active, negative, never active, equal on all images, active on one."""
    rng = np.random.default_rng(seed)
    z_NF = rng.gamma(1, 1, (n, 6)).astype(np.float32)
    z_NF[:, 0] *= rng.random(n) < 0.4
    z_NF[:, 1] += 3
    z_NF[:, 2] -= 2
    z_NF[:, 3], z_NF[:, 4] = 0, 5
    z_NF[1:, 5] = 0
    return z_NF, rng.normal(0.5, 1, (n, dims)).astype(np.float32)


def looped(z_N: np.ndarray, e_ND: np.ndarray) -> float:
    """The score of one feature, pair by pair."""
    z_N = z_N.astype(np.float64)
    a_N = (z_N - z_N.min()) / (np.ptp(z_N) or np.nan)
    e_ND = e_ND.astype(np.float64)
    cosine = weight = 0.0
    for n in range(len(a_N)):
        for m in range(n):
            length = np.linalg.norm(e_ND[n]) * np.linalg.norm(e_ND[m])
            cosine += a_N[n] * a_N[m] * float(e_ND[n] @ e_ND[m]) / length
            weight += a_N[n] * a_N[m]
    return cosine / weight if weight > 0 else np.nan


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 30), st.integers(1, 6), st.booleans())
def test_it_is_the_double_loop_for_any_sharding_and_order(seed: int, n: int, shards: int, is_sparse: bool) -> None:
    z_NF, e_ND = made(seed, n)
    z_NF = np.delete(z_NF, 2, axis=1) if is_sparse and seed % 2 else z_NF
    sums = PairSums.zero(z_NF.shape[1], e_ND.shape[1])
    for rows in np.array_split(np.random.default_rng(seed).permutation(n), shards):
        z_nF = sparse.csr_array(z_NF[rows]) if is_sparse else z_NF[rows]
        sums = PairSums.of(z_nF, e_ND[rows]).merge(sums)
    wanted = [looped(z_N, e_ND) for z_N in z_NF.T]
    np.testing.assert_allclose(sums.similarity().ms_F, wanted, rtol=0, atol=1e-10)
    np.testing.assert_allclose(monosemanticity_score(z_NF, e_ND), wanted, rtol=0, atol=1e-10)


def test_the_null_is_that_of_shuffled_embeddings() -> None:
    z_NF, e_ND = made(3, n=40)
    found, rng = PairSums.of(z_NF, e_ND).similarity(), np.random.default_rng(0)
    drawn = np.array([monosemanticity_score(z_NF, e_ND[rng.permutation(40)]) for _ in range(3000)])[:, :3]
    np.testing.assert_allclose(drawn.std(axis=0), found.null_sd_F[:3], rtol=0.05)
    assert (np.abs(drawn.mean(axis=0) - found.null) < 4 * found.null_sd_F[:3] / 3000**0.5).all()


def test_a_feature_of_alike_images_is_far_above_the_null() -> None:
    rng = np.random.default_rng(1)
    kind_N = rng.integers(0, 4, 200)
    e_ND = rng.normal(size=(4, 8))[kind_N] + 0.3 * rng.normal(size=(200, 8))
    z_NF = np.stack([kind_N == 0, rng.random(200) < 0.25], axis=1) * rng.gamma(2, 1, (200, 2))
    found = PairSums.of(z_NF, e_ND).similarity()
    distance_F = (found.ms_F - found.null) / found.null_sd_F
    assert distance_F[0] > 10 > 4 > abs(distance_F[1]) and found.ms_F[0] > 0.8


def test_what_has_no_pairs_has_no_score() -> None:
    z_NF, e_ND = made(0)
    found = monosemanticity_score(z_NF, e_ND)
    assert np.isfinite(found[:3]).all() and np.isnan(found[3:]).all()
    blind_ND = e_ND.copy()
    blind_ND[4], blind_ND[5, 0] = 0, np.nan
    np.testing.assert_allclose(
        monosemanticity_score(z_NF, blind_ND), monosemanticity_score(*(np.delete(v, [4, 5], 0) for v in (z_NF, e_ND)))
    )
    for n in (0, 1):
        few = PairSums.of(z_NF[:n], e_ND[:n]).similarity()
        assert np.isnan([*few.ms_F, few.null, *few.null_sd_F]).all()
    assert np.isnan(monosemanticity_score(z_NF, np.zeros_like(e_ND))).all()
    with pytest.raises(ArtifactError):
        monosemanticity_score(z_NF, e_ND[1:])
    with pytest.raises(ArtifactError):
        monosemanticity_score(np.full_like(z_NF, np.nan), e_ND)
