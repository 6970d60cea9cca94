"""A list of entries gives what dense products give."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from medsae_ray.core.sae.sparse_support import AffineEncoder, Everything, Pairs

B, D, M = 7, 5, 11


def leaves(seed: int, dtype: torch.dtype) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = [(D, M), (M,), (D,), (M, D)]
    return [torch.randn(shape, generator=generator, dtype=dtype).requires_grad_() for shape in shapes]


def compare(seed: int, share: float, dtype: torch.dtype, atol: float) -> None:
    """Reconstruction and gradients of a list against autograd of the masked dense formula."""
    generator = torch.Generator().manual_seed(seed + 1)
    x_BD = torch.randn(B, D, generator=generator, dtype=dtype)
    keep_BM = torch.rand(B, M, generator=generator) < share
    goal_BD = torch.randn(B, D, generator=generator, dtype=dtype)
    results = []
    for kind in ("plain", "pairs", "everything"):
        W_enc, b_enc, b_dec, W_dec = parameters = leaves(seed, dtype)
        h_BM = (x_BD - b_dec) @ W_enc + b_enc
        if kind == "plain":
            guess_BD = (h_BM.square() * keep_BM) @ W_dec
        else:
            rows, columns = keep_BM.nonzero(as_tuple=True)
            pairs = Pairs(rows, columns, h_BM.detach()[rows, columns], (B, M))
            support = pairs if kind == "pairs" else Everything(B)
            h_S = support.pick(h_BM.detach().clone(), x_BD, AffineEncoder(W_enc, b_enc, b_dec))
            z_S = h_S.square() if kind == "pairs" else h_S.square() * keep_BM
            guess_BD = support.decode(z_S, W_dec)
            assert torch.equal(support.fired(z_S), keep_BM.any(0))
            torch.testing.assert_close(support.dense(z_S), h_BM.detach().square() * keep_BM)
        (guess_BD - goal_BD).square().sum().backward()
        results.append([guess_BD.detach(), *(parameter.grad for parameter in parameters)])
    for found in results[1:]:
        for mine, wanted in zip(found, results[0], strict=True):
            torch.testing.assert_close(mine, wanted, rtol=atol, atol=atol)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 9999), share=st.sampled_from([0.0, 0.05, 0.3, 1.0]))
def test_a_list_and_all_entries_give_the_dense_formula(seed, share):
    compare(seed, share, torch.float64, 1e-11)


@pytest.mark.parametrize("share", [0.1, 0.9])
def test_in_float32_too(share):
    compare(3, share, torch.float32, 2e-5)


def test_a_frozen_decoder_gets_no_gradient_and_the_code_does():
    pairs = Pairs(torch.tensor([0, 2]), torch.tensor([3, 3]), torch.ones(2), (B, M))
    for support, shape in ((pairs, (2,)), (Everything(B), (B, M))):
        z_S, W_MD = torch.ones(shape, requires_grad=True), torch.ones(M, D)
        support.decode(z_S, W_MD).sum().backward()
        assert torch.equal(z_S.grad, torch.full(shape, float(D)))


def test_entries_can_be_decoded_level_by_level():
    pairs = Pairs(torch.tensor([0, 0, 1]), torch.tensor([9, 2, 10]), torch.tensor([1.0, 2.0, 3.0]), (2, M))
    regrouped = pairs.regrouped(torch.tensor([1, 0, 1]), 2)
    W_MD = torch.eye(M)
    guess_LBM = regrouped.decode(regrouped.h_A, W_MD).unflatten(0, (2, 2))
    assert guess_LBM[0, 0].nonzero().tolist() == [[2]] and guess_LBM[0, 0, 2] == 2
    assert guess_LBM[1, 0, 9] == 1 and guess_LBM[1, 1, 10] == 3
    assert guess_LBM[0, 1].abs().sum() == 0
    assert torch.equal(Pairs.stacked([pairs, pairs]).rows_A, torch.tensor([0, 0, 1, 2, 2, 3]))
