"""The SAE before its first step is the one that training starts from."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from medsae_ray.core.sae.checkpoint import StoredSAE
from medsae_ray.core.sae.config import SAEConfig
from medsae_ray.core.sae.fit import fit
from medsae_ray.core.sae.untrained import untrained

SAIL = {"levels": (8, 32), "ks": (2, 4), "selection": "per_level", "compat": "sail", "normalisation": "l2"}
KINDS: list[dict[str, Any]] = [
    {"architecture": "batch_topk", "k": 4},
    {"architecture": "matryoshka", "k": 4, "levels": (8, 32), "whiten": 0.01},
    {"architecture": "jumprelu", "l0": 0.1},
    {"architecture": "matryoshka", **SAIL},
]


@pytest.mark.parametrize("kind", KINDS)
def test_it_codes_as_an_sae_that_learns_nothing(kind: dict[str, Any]) -> None:
    x_ND = torch.randn(256, 12, generator=torch.Generator().manual_seed(1)) * 2 + 1
    usual = {"normalisation": "centre", "whiten": None, "init": None, "precision": "float32", "epochs": 1}
    config = SAEConfig.from_dict({**usual, "d_in": 12, "width": 32, "batch_size": 64, "lr": 1e-12, "seed": 5, **kind})
    start = fit(config, x_ND, x_ND)
    trained = fit(replace(config, lr=1e-2, epochs=4), x_ND, x_ND)
    found = untrained(StoredSAE(trained, config, {}), x_ND)
    torch.testing.assert_close(found.W_enc, start.W_enc)
    z_NM = found.encode(x_ND)
    if config.compat is None:  # SAIL's threshold is a mean over the batches of training
        torch.testing.assert_close(z_NM, start.encode(x_ND))
    if config.architecture != "jumprelu":
        assert float((z_NM > 0).sum(1).double().mean()) == pytest.approx(4, abs=0.1)
    assert not torch.allclose(z_NM, trained.encode(x_ND))
