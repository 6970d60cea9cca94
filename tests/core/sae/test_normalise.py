import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medsae_ray.core.sae.normalise import Normalisation
from medsae_ray.errors import DatasetError


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), n=st.integers(2, 50), d=st.integers(1, 20), size=st.floats(1e-3, 1e3))
def test_normalised_rows_have_mean_zero_and_mean_square_norm_d(seed, n, d, size):
    generator = torch.Generator().manual_seed(seed)
    x_ND = size * (torch.randn(n, d, generator=generator, dtype=torch.float64) + 3)
    mean_D, scale, _ = Normalisation.fit(x_ND)
    y_ND = (x_ND - mean_D) * scale
    assert y_ND.mean(0).abs().max() < 1e-9
    assert y_ND.square().sum(1).mean().item() == pytest.approx(d, rel=1e-9)


def test_more_rows_than_one_part_agree_with_numpy():
    x_ND = torch.randn(40_000, 3, generator=torch.Generator().manual_seed(0)) * 5 + 100
    mean_D, scale, _ = Normalisation.fit(x_ND)
    x = x_ND.double().numpy()
    np.testing.assert_allclose(mean_D.numpy(), x.mean(0), rtol=1e-12)
    assert scale == pytest.approx(np.sqrt(3 / x.var(0).sum()), rel=1e-12)


def test_the_order_of_rows_does_not_matter():
    x_ND = torch.randn(5000, 8, generator=torch.Generator().manual_seed(0)) + 4
    first, second = Normalisation.fit(x_ND), Normalisation.fit(x_ND.flip(0))
    torch.testing.assert_close(first.mean_D, second.mean_D, rtol=1e-13, atol=0)
    assert first.scale == pytest.approx(second.scale, rel=1e-13)


def test_rows_that_are_not_finite_are_counted_and_named():
    x_ND = torch.randn(10, 4)
    x_ND[3, 1], x_ND[7, 0] = torch.nan, torch.inf
    with pytest.raises(DatasetError, match=r"2 of 10 training embeddings .* row 3"):
        Normalisation.fit(x_ND)


@pytest.mark.parametrize(
    "x_ND", [torch.ones(5, 4), torch.zeros(5, 4), torch.full((5, 4), 0.1) + 1e-9, torch.randn(1, 4)]
)
def test_rows_without_variance_are_refused(x_ND):
    with pytest.raises(DatasetError, match=r"all equal|one training image only"):
        Normalisation.fit(x_ND)


def test_no_rows_are_refused():
    with pytest.raises(DatasetError, match="rows x dimensions"):
        Normalisation.fit(torch.empty(0, 4))


def test_whitening_decorrelates_keeps_the_mean_square_norm_and_can_be_undone():
    generator = torch.Generator().manual_seed(1)
    x_ND = torch.randn(500, 6, generator=generator) @ torch.randn(6, 6, generator=generator) + 3
    found = Normalisation.fit(x_ND, whiten=1e-9)
    scaled_ND = (x_ND.double() - found.mean_D) * found.scale
    white_ND = scaled_ND @ found.whitening.there_DD
    torch.testing.assert_close(white_ND.T @ white_ND / 500, torch.eye(6, dtype=torch.float64), atol=1e-5, rtol=0)
    torch.testing.assert_close(white_ND @ found.whitening.back_DD, scaled_ND)


def test_a_ridge_leaves_components_below_it_small():
    x_ND = torch.randn(4000, 3, generator=torch.Generator().manual_seed(2)) * torch.tensor([1.0, 0.5, 0.001])
    found = Normalisation.fit(x_ND, whiten=1e-3)
    white_ND = (x_ND.double() - found.mean_D) * found.scale @ found.whitening.there_DD
    variance_D = white_ND.var(0)
    assert abs(float(white_ND.square().sum(1).mean()) - 3) < 1e-9
    assert variance_D[2] < 0.01 < 1.4 < variance_D[:2].min()
