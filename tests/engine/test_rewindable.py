"""vLLM moves a request's generator back after each part of a long prompt, also on a CPU."""

import pytest
import torch

from medsae_ray.engine.rewindable import RewindableGenerator


def test_a_generator_that_is_moved_back_begins_again() -> None:
    generator = RewindableGenerator(device="cpu")
    generator.manual_seed(7)
    first = torch.empty(5).exponential_(generator=generator)
    generator.set_offset(generator.get_offset() - 4)
    assert torch.equal(torch.empty(5).exponential_(generator=generator), first)
    plain = torch.Generator().manual_seed(7)
    assert torch.equal(torch.empty(5).exponential_(generator=plain), first)
    with pytest.raises(RuntimeError, match="does not use offset"):
        plain.get_offset()
