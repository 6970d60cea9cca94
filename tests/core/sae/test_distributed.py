import pytest
import torch

from medsae_ray.core.sae.distributed import Ranks
from medsae_ray.errors import RecipeError


def test_a_single_rank_hears_itself():
    values = torch.tensor([1.0, 2.0])
    assert Ranks().sum(values) is values
    assert Ranks().gather(values) is values
    assert Ranks().any(torch.tensor([True, False])).tolist() == [True, False]


def test_ranks_that_torch_does_not_know_are_refused():
    Ranks().check()
    with pytest.raises(RecipeError, match="not initialised"):
        Ranks(0, 2).check()
    with pytest.raises(RecipeError, match="rank 2 is not one of 2"):
        Ranks(2, 2).check()
