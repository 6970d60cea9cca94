"""`medsae_ray.Sae`: what it says of itself is what it computes, and what it writes for others."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import medsae_ray
from medsae_ray.core.sae.architectures import build
from medsae_ray.core.sae.checkpoint import StoredSAE
from medsae_ray.core.sae.config import SAEConfig
from medsae_ray.core.sae.formats.saelens import HOLDS
from medsae_ray.core.sae.normalise import Normalisation
from tests.core.sae.planted import NORMALISED, row_topk_config, sail_config, topk_config

Make = Callable[..., SAEConfig]


def of(make: Make, **other: object) -> medsae_ray.Sae:
    """An SAE with weights of no symmetry, as training leaves them."""
    settings, generator = make(seed=3, **other), torch.Generator().manual_seed(1)
    x_ND = torch.randn(200, 32, generator=generator) * torch.linspace(1, 3, 32) + 1
    sae = build(settings, Normalisation.fit(x_ND, settings.whiten, settings.normalisation))
    with torch.no_grad():
        for weights in sae.parameters():
            weights += 0.05 * torch.randn(weights.shape, generator=generator)
        if "threshold" in sae.state_dict():
            sae.state_dict()["threshold"].abs_().clamp_(min=0.1)
    return medsae_ray.Sae(StoredSAE(sae.eval(), settings, {}))


def embeddings(n: int = 20) -> torch.Tensor:
    return torch.randn(n, 32, generator=torch.Generator().manual_seed(2)) * torch.linspace(1, 3, 32) + 1


@pytest.mark.parametrize(("make", "other"), NORMALISED)
def test_decode_of_encode_is_the_reconstruction_of_the_model(make: Make, other: dict[str, object]) -> None:
    sae, x_ND = of(make, **other), embeddings()
    with torch.no_grad():
        wanted = sae.module.decode(sae.module.encode(x_ND))
    assert torch.equal(sae.decode(sae.encode(x_ND)), wanted)
    np.testing.assert_array_equal(sae.decode(sae.encode(x_ND.numpy())), wanted.numpy())


@pytest.mark.parametrize(("make", "other"), NORMALISED)
def test_the_weights_are_those_of_raw_embeddings(make: Make, other: dict[str, object]) -> None:
    sae, x_ND = of(make, **other), embeddings()
    z_NM = sae.encode(x_ND)
    assert sae.W_enc.shape == (32, 48) and sae.W_dec.shape == (48, 32) and sae.b_dec.shape == (32,)
    torch.testing.assert_close(z_NM @ sae.W_dec + sae.b_dec, sae.decode(z_NM), rtol=1e-4, atol=1e-4)
    if sae.config.architecture == "gated":
        assert sae.b_enc is None and set(sae.gates) == {"b_gate", "b_mag", "r_mag"}
        return
    seen_ND = torch.nn.functional.normalize(x_ND) if sae.normalisation.kind == "l2" else x_ND
    assert sae.b_enc is not None and sae.b_enc.shape == (48,)
    h_NM = (seen_ND - sae.b_dec) @ sae.W_enc + sae.b_enc
    active = z_NM > 0
    assert active.any() and not active.all()
    above_NM = h_NM - sae.gates["threshold"] if sae.config.compat else h_NM  # SAIL's codes begin at the threshold
    torch.testing.assert_close(above_NM[active], z_NM[active], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("make", "other"), NORMALISED)
def test_the_export_to_saelens_has_the_same_weights(make: Make, other: dict[str, object], tmp_path: Path) -> None:
    sae = of(make, **other)
    if sae.normalisation.kind == "l2" or sae.config.architecture not in HOLDS:
        with pytest.raises(medsae_ray.ArtifactError, match=r"unit norm|sail can"):
            sae.save(tmp_path / "out")
        return
    files = sae.save(tmp_path / "out")
    assert sorted(files) == [str(tmp_path / "out" / name) for name in ("cfg.json", "sae_weights.safetensors")]
    written = load_file(tmp_path / "out" / "sae_weights.safetensors")
    for name in {"W_enc", "W_dec", "b_dec", "b_enc"} & set(written):
        assert torch.equal(written[name], getattr(sae, name)), name
    back = medsae_ray.load_sae(tmp_path / "out", format="saelens")
    assert torch.equal(back.W_dec, sae.W_dec)
    if sae.config.architecture in ("relu_l1", "topk"):
        torch.testing.assert_close(back.encode(embeddings()), sae.encode(embeddings()), rtol=1e-4, atol=1e-4)


def test_a_checkpoint_is_replaced_only_if_that_is_wanted(tmp_path: Path) -> None:
    first, second = of(row_topk_config), of(row_topk_config, k=5)
    first.save(tmp_path, "sparsify")
    with pytest.raises(medsae_ray.ArtifactError, match="is not empty"):
        second.save(tmp_path, "sparsify")
    second.save(tmp_path, "sparsify", overwrite=True)
    assert json.loads((tmp_path / "cfg.json").read_text())["k"] == 5
    with pytest.raises(medsae_ray.RecipeError, match="format 'sealens' is unknown"):
        second.save(tmp_path / "x", "sealens")


def test_it_says_what_it_is() -> None:
    sae = of(topk_config)
    assert repr(sae) == "Sae(batch_topk, D=32, M=48, device='cpu')"
    assert sae.config.k == 3 and sae.device == torch.device("cpu") and set(sae.gates) == {"threshold"}
    kind, mean, scale, there = sae.normalisation
    assert kind == "centre" and mean.shape == (32,) and scale > 0 and there is None
    assert of(sail_config).normalisation.kind == "l2"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_tensor_comes_back_to_the_device_that_it_came_from(tmp_path: Path) -> None:
    sae, x_ND = of(topk_config), embeddings()
    wanted = sae.encode(x_ND)
    moved = of(topk_config).to("cuda")
    assert moved.W_dec.is_cuda and moved.encode(x_ND).device.type == "cpu"
    assert moved.encode(x_ND.cuda()).is_cuda and isinstance(moved.encode(x_ND.numpy()), np.ndarray)
    torch.testing.assert_close(moved.encode(x_ND), wanted, rtol=1e-3, atol=1e-3)
    moved.save(tmp_path)
    assert torch.equal(load_file(tmp_path / "sae_weights.safetensors")["W_dec"], moved.W_dec.cpu())
