from itertools import pairwise
from math import isnan

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medsae_ray.core.sae.architectures import build
from medsae_ray.core.sae.metrics import image_errors, reconstruction
from medsae_ray.core.sae.normalise import Normalisation
from tests.core.sae.planted import NORMALISED, planted, relu_config, stir

X_ND = planted(rows=200).train_ND.double()


@pytest.mark.parametrize(
    ("make", "other"),
    NORMALISED,
)
def test_figures_are_those_of_what_the_sae_is_to_reconstruct(make, other):
    config = make(**other)
    sae = stir(build(config, Normalisation.fit(X_ND, config.whiten, config.normalisation)))
    found = reconstruction(sae, X_ND)
    z_NM = sae.encode(X_ND)
    target_ND = X_ND / X_ND.norm(dim=1, keepdim=True) if config.normalisation == "l2" else X_ND
    left = (target_ND - sae.decode(z_NM)).square().sum()
    total = (target_ND - target_ND.mean(0)).square().sum()
    assert found.fvu == pytest.approx((left / total).item(), rel=1e-5)
    assert found.r2 == pytest.approx(1 - found.fvu)
    assert found.l0 == pytest.approx((z_NM > 0).double().sum(1).mean().item())
    assert found.dead_share == pytest.approx(1 - (z_NM > 0).any(0).double().mean().item())
    assert found.sq_norm / found.count == pytest.approx(32, rel=1e-5)
    assert found.r2_scalar == pytest.approx(1 - (left / (target_ND - target_ND.mean()).square().sum()).item(), rel=1e-5)
    cosine_N = torch.cosine_similarity(target_ND - target_ND.mean(0), sae.decode(z_NM) - target_ND.mean(0))
    assert found.cosine == pytest.approx(cosine_N.mean().item(), rel=1e-5)


@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(0, 200), max_size=4))
def test_sums_over_any_split_merge_to_the_whole(cuts):
    sae = stir(build(relu_config(), Normalisation.fit(X_ND)))
    sae.b_enc.data -= 2
    whole = reconstruction(sae, X_ND)
    edges = [0, *sorted(cuts), 200]
    merged = reconstruction(sae, X_ND[:0])
    for low, high in pairwise(edges):
        merged = merged.merge(reconstruction(sae, X_ND[low:high]))
    assert merged[2:4] == whole[2:4]
    assert torch.equal(merged.fired_M, whole.fired_M)
    assert merged[:-1] == pytest.approx(whole[:-1], rel=1e-11)
    assert merged.r2_scalar == pytest.approx(whole.r2_scalar) and merged.cosine == pytest.approx(whole.cosine)


def test_guessing_the_mean_scores_nothing_but_in_sails_r2():
    sae = build(relu_config(), Normalisation.fit(X_ND + 5)).double()
    sae.b_enc.data -= 1e6
    found = reconstruction(sae, X_ND + 5)
    assert found.r2 == pytest.approx(0, abs=1e-6) and found.cosine == 0
    means_D = (X_ND + 5).mean(0)
    between = (means_D - means_D.mean()).square().mean() / (X_ND + 5).square().mean().sub((X_ND + 5).mean() ** 2)
    assert found.r2_scalar == pytest.approx(between.item(), rel=1e-5) and between > 0


def test_no_images_give_no_figures():
    found = reconstruction(build(relu_config(), Normalisation.fit(X_ND)).double(), X_ND[:0])
    assert all(isnan(value) for value in (found.fvu, found.r2, found.l0, found.cosine, found.r2_scalar))


def test_errors_per_image_add_up_to_the_sums():
    sae = stir(build(relu_config(), Normalisation.fit(X_ND)))
    errors = image_errors(sae, X_ND, sae.encode(X_ND))
    whole = reconstruction(sae, X_ND)
    assert errors.sq_error_N.shape == errors.sq_norm_N.shape == (200,)
    assert errors.sq_error_N.dtype == torch.float64
    assert (errors.sq_error_N.sum().item(), errors.sq_norm_N.sum().item()) == pytest.approx(whole[:2])
