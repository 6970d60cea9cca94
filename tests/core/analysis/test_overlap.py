from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse, stats

from medsae_ray.core.analysis.overlap import Overlap
from medsae_ray.errors import ArtifactError

N, UNITS, LABELS = 40, 5, 3


def shard(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(-1, 3, (N, UNITS)).astype(np.float32), rng.choice([0.0, 1.0, np.nan], (N, LABELS))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), cuts=st.lists(st.integers(0, N), max_size=4), dense=st.booleans())
def test_any_sharding_counts_the_same(seed: int, cuts: list[int], dense: bool) -> None:
    x_NF, y_NL = shard(seed)
    order, bounds = np.random.default_rng(seed).permutation(N), [0, *sorted(cuts), N]
    total = Overlap.of(x_NF[:0], y_NL[:0])
    for rows in (order[a:b] for a, b in pairwise(bounds)):
        total = Overlap.of(x_NF[rows] if dense else sparse.csr_array(x_NF[rows]), y_NL[rows]).merge(total)
    for mine, others in zip(total, Overlap.of(x_NF, y_NL), strict=True):
        assert mine.dtype == np.int64
        np.testing.assert_array_equal(mine, others)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_p_is_fishers_exact_test(seed: int) -> None:
    x_NF, y_NL = shard(seed)
    label_F = np.random.default_rng(seed).integers(-1, LABELS, UNITS)
    for x_N, label, p in zip(x_NF.T, label_F, Overlap.of(x_NF, y_NL).p(label_F), strict=True):
        if label < 0:
            assert np.isnan(p)
            continue
        active, has = (v[~np.isnan(y_NL[:, label])] for v in (x_N != 0, y_NL[:, label] == 1))
        table = [[(a & h).sum() for h in (has, ~has)] for a in (active, ~active)]
        assert p == pytest.approx(stats.fisher_exact(table, alternative="greater").pvalue, rel=1e-9)


def test_two_coincidences_of_a_rare_unit_with_a_rare_label_are_not_taken_for_proof() -> None:
    x_NF, y_NL = np.zeros((1000, 1)), np.zeros((1000, 1))
    x_NF[:3], y_NL[1:11] = 1, 1
    (p,) = Overlap.of(x_NF, y_NL).p(np.array([0]))
    t_test = stats.pearsonr(x_NF[:, 0], y_NL[:, 0]).pvalue
    assert t_test < 1e-30 < 1e-4 < p < 1e-3


def test_shapes_that_do_not_match_are_refused() -> None:
    with pytest.raises(ArtifactError):
        Overlap.of(np.ones((3, 1)), np.ones((2, 1)))
