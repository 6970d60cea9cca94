"""What SAIL's published code does, where its paper says otherwise."""

import pytest
import torch

from medsae_ray.core.sae.architectures import build
from medsae_ray.core.sae.checkpoint import sae_from_bytes, sae_to_bytes
from medsae_ray.core.sae.sail import Sail
from tests.core.sae.planted import normalisation, sail_config


def make(**other: object) -> Sail:
    sae = build(sail_config(width=4, levels=[2, 4], ks=[1, 2], **other), normalisation())
    assert isinstance(sae, Sail)
    return sae


def test_inference_takes_the_threshold_off():
    sae = make()
    sae.threshold.fill_(1.0)
    assert sae.activate(torch.tensor([[1.0, 1.5, -3.0, 4.0]])).tolist() == [[0.0, 0.5, 0.0, 3.0]]


def test_negative_pre_activations_are_kept_if_nothing_larger_is_there():
    z_RM = make().select(torch.tensor([[-1.0, -2.0, -3.0, 5.0]]))
    assert z_RM.tolist() == [[-1.0, 0.0, 0.0, 0.0], [-1.0, 0.0, 0.0, 5.0]]


def test_the_threshold_is_the_mean_of_the_smallest_positive_values_kept_at_the_last_level():
    sae = make()
    for last in (2.0, 4.0, 9.0):
        sae.support(torch.tensor([[1.0, 0.5, last, 20.0]]))
    assert sae.threshold.item() == pytest.approx((2 + 4 + 9) / 3)
    sae.support(-torch.ones(1, 4))
    assert sae.threshold.item() == pytest.approx(5) and sae.batches == 3
    sae.eval().support(torch.ones(1, 4))
    assert sae.batches == 3


def test_the_decoder_is_the_encoders_transpose_and_no_parameter():
    sae = make()
    assert {name for name, _ in sae.named_parameters()} == {"W_enc", "b_enc", "b_dec"}
    with torch.no_grad():
        sae.W_enc *= 3
    sae.finish_step()
    assert torch.equal(sae.W_dec, sae.W_enc.T)
    assert (sae.W_dec.norm(dim=1) > 2).all()  # and is not brought back to unit norm


def test_a_checkpoint_says_so_and_keeps_the_threshold():
    sae = make()
    sae.support(torch.tensor([[1.0, 0.5, 2.0, 20.0]]))
    config = sail_config(width=4, levels=[2, 4], ks=[1, 2])
    found = sae_from_bytes(*sae_to_bytes(sae, config, {}))
    assert found.config.compat == "sail" and isinstance(found.sae, Sail)
    assert found.sae.threshold == 2.0


def test_the_size_of_an_embedding_does_not_matter():
    sae, x_ND = make(), torch.randn(5, 32, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(sae.encode(7 * x_ND), sae.encode(x_ND))
    assert sae.encode(torch.zeros(1, 32)).isfinite().all()
