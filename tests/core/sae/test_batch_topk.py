import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medsae_ray.core.sae.architectures import build
from medsae_ray.core.sae.auxk import variance
from medsae_ray.core.sae.batch_topk import BatchTopK
from medsae_ray.core.sae.distributed import Ranks
from medsae_ray.core.sae.select import smallest_kept
from tests.core.sae.planted import normalisation, topk_config


def make(**other: object) -> BatchTopK:
    sae = build(topk_config(**other), normalisation())
    assert isinstance(sae, BatchTopK)
    return sae


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), rows=st.integers(1, 30), k=st.integers(1, 48), shift=st.floats(-3, 3))
def test_selection_is_the_flat_topk_of_the_relu(seed, rows, k, shift):
    h_BM = torch.randn(rows, 48, generator=torch.Generator().manual_seed(seed)) + shift
    top = h_BM.relu().flatten().topk(k * rows)
    flat = torch.zeros(h_BM.numel()).scatter(0, top.indices, top.values).view_as(h_BM)
    assert torch.equal(make(k=k).select(h_BM), flat)


def test_negative_pre_activations_are_never_kept():
    z_BM = make(k=48).select(torch.tensor([[-1.0] * 47 + [2.0]]))
    assert z_BM.sum() == 2 and (z_BM >= 0).all()


def test_a_batch_without_positive_pre_activations_selects_nothing_and_leaves_the_threshold():
    sae = make()
    sae.threshold.fill_(0.5)
    assert not sae.select(-torch.ones(2, 48)).any()
    assert sae.threshold == 0.5


def test_entries_that_tie_with_the_smallest_are_all_kept():
    assert smallest_kept(torch.tensor([3.0, 1.0, 1.0, -2.0]), 2, Ranks()) == 1.0
    assert (make(k=2, width=4).select(torch.tensor([[3.0, 1.0, 1.0, -2.0]])) > 0).sum() == 3


def test_the_running_threshold_is_the_mean_of_an_epochs_batches_and_later_moves_slowly():
    sae = make(k=1, width=4)
    for batch, wanted in ((4.0, 4.0), (5.0, 4.5), (6.0, 5.0)):
        sae.select(torch.tensor([[batch, 1.0, 0.0, 0.0]]))
        assert sae.threshold.item() == pytest.approx(wanted)
    sae.begin_epoch()
    sae.select(torch.tensor([[9.0, 1.0, 0.0, 0.0]]))
    assert sae.threshold.item() == 9.0
    sae.batches.fill_(1e6)
    sae.select(torch.tensor([[10.0, 1.0, 0.0, 0.0]]))
    assert sae.threshold.item() == pytest.approx(9.01)
    sae.eval().select(torch.tensor([[50.0, 1.0, 0.0, 0.0]]))
    assert sae.threshold.item() == pytest.approx(9.01)


def test_inference_keeps_values_above_the_threshold_unshrunk():
    sae = make(k=1, width=4)
    sae.threshold.fill_(1.0)
    assert sae.activate(torch.tensor([[1.0, 1.5, -3.0, 4.0]])).tolist() == [[0.0, 1.5, 0.0, 4.0]]


def test_variance_is_that_of_the_rows():
    x_BD = torch.randn(50, 6, generator=torch.Generator().manual_seed(0)) + 1
    torch.testing.assert_close(variance(x_BD, Ranks()), x_BD.var(0, correction=0).sum())
