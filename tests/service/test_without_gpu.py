"""A machine without a GPU, and a run that was made on one."""

import pytest
import torch

import medsae_ray
from tests.service.conftest import Small


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_file_is_looked_for_on_a_machine_without_the_recipes_gpus(small: Small) -> None:
    how = small.recipe.how
    pools = {name: getattr(how, name).model_copy(update={"gpus": 1.0}) for name in ("embed", "encode")}
    on_gpus = small.recipe.model_copy(update={"how": how.model_copy(update=pools)})
    picture = next(small.images.rglob("*.png"))
    assert medsae_ray.similar(on_gpus, small.root, picture) == medsae_ray.similar(small.recipe, small.root, picture)
