"""The map of a stored SAE's features, by its directions among raw embeddings."""

from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from medsae_ray.config import parse_recipe
from medsae_ray.core.analysis.feature_map import feature_map
from medsae_ray.core.artifacts.artifact import Draft
from medsae_ray.core.artifacts.store import Store
from medsae_ray.core.sae.architectures import build
from medsae_ray.core.sae.checkpoint import sae_to_bytes
from medsae_ray.core.sae.normalise import Normalisation
from medsae_ray.pipeline import STAGES
from medsae_ray.runtime.run import Run
from medsae_ray.sae import Sae
from tests.support.small import recipe_data
from tests.support.usual import sae_config


@pytest.mark.parametrize("normalisation", ["centre", "l2"])
def test_the_table_has_a_place_for_every_feature(tmp_path: Path, normalisation: str) -> None:
    config = sae_config(architecture="topk", d_in=6, width=12, k=2, normalisation=normalisation)
    torch.manual_seed(0)
    sae = build(config, Normalisation(torch.arange(6.0), 2.0))
    weights, settings = sae_to_bytes(sae, config, {})
    parent = Draft(Store(str(tmp_path)), "sae", 1, {}, {})
    files = [parent.write_file("weights", ".safetensors", weights), parent.write_file("config", ".json", settings)]
    stored = parent.commit(files, {}, {"start": "", "end": ""})
    with Run(parse_recipe(recipe_data(tmp_path, tmp_path)), Store(str(tmp_path)), STAGES, Console(quiet=True)) as run:
        draft = run.draft(STAGES["feature_map"], {"sae": stored})
        made = STAGES["feature_map"].make(run, draft)
        table = draft.commit(made.files, made.metrics, {"start": "", "end": ""}).table()
    assert table["feature"].to_pylist() == list(range(12))
    from medsae_ray import load_sae

    loaded: Sae = load_sae(stored.store.uri)
    expected = feature_map(loaded.W_dec.numpy(), 0)
    np.testing.assert_allclose(np.stack([table["x"].to_numpy(), table["y"].to_numpy()], 1), expected, atol=1e-6)
