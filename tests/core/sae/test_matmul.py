import pytest
import torch

from medsae_ray.core.sae.matmul import bfloat16_pays, product, product_into, seconds_of


def test_products_are_exact_or_rounded_to_eight_bits():
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(9, 30, generator=generator), torch.randn(30, 7, generator=generator)
    assert torch.equal(product(a, b), a @ b)
    rounded = product(a, b, torch.bfloat16)
    assert rounded.dtype == torch.float32 and not torch.equal(rounded, a @ b)
    torch.testing.assert_close(rounded, a @ b, rtol=0.02, atol=0.1)


def test_a_product_into_memory_has_its_bias_added_in_float32():
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(600, 30, generator=generator), torch.randn(30, 7, generator=generator)
    bias = 1e4 + torch.randn(7, generator=generator)
    for low, wanted in ((None, a @ b), (torch.bfloat16, product(a, b, torch.bfloat16))):
        out = torch.empty(600, 7)
        assert product_into(out, a, b, bias, low) is out
        torch.testing.assert_close(out, wanted + bias, rtol=0, atol=0.1)  # in bfloat16 a sum of 1e4 is off by up to 32


@pytest.mark.parametrize(("seconds", "wanted"), [({None: 2.0, torch.bfloat16: 1.0}, True), ({None: 1.4}, False)])
def test_bfloat16_is_taken_if_it_is_half_as_fast_again(seconds, wanted):
    assert bfloat16_pays(4, 3, 5, torch.device("cpu"), lambda x_BD, W_DM, low: seconds.get(low, 1.0)) is wanted


@pytest.mark.parametrize("low", [None, torch.bfloat16])
def test_a_product_is_timed_on_this_machine(low):
    assert 0 < seconds_of(torch.ones(64, 32), torch.ones(32, 128), low) < 10
