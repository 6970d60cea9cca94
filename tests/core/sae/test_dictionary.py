import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medsae_ray.core.sae import dictionary
from medsae_ray.core.sae.dictionary import coherence


def rows(count: int, seed: int, dim: int = 6) -> torch.Tensor:
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 9999), count=st.integers(2, 12))
def test_coherence_is_that_of_all_pairs(seed, count):
    W_MD = rows(count, seed)
    found = coherence(W_MD)
    cosines = [
        [
            abs(float(torch.cosine_similarity(a.double(), b.double(), dim=0)))
            for b in W_MD[[j for j in range(count) if j != i]]
        ]
        for i, a in enumerate(W_MD)
    ]
    assert found.nearest_M.tolist() == pytest.approx([max(row) for row in cosines])
    assert found.largest == pytest.approx(max(map(max, cosines)))
    assert found.mean_square == pytest.approx(sum(c * c for row in cosines for c in row) / (count * (count - 1)))


def test_coherence_in_parts_is_that_of_the_whole(monkeypatch):
    whole = coherence(rows(20, 3))
    monkeypatch.setattr(dictionary, "_ROWS", 7)
    parts = coherence(rows(20, 3))
    torch.testing.assert_close(parts.nearest_M, whole.nearest_M)
    assert parts[1:] == pytest.approx(whole[1:])


def test_orthogonal_features_have_none_and_one_feature_neither():
    assert coherence(torch.eye(4)).largest == 0
    assert coherence(torch.ones(1, 4)) == (torch.zeros(1), 0.0, 0.0)
