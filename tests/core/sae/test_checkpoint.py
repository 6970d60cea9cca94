import json

import pytest
import torch
from safetensors.torch import load, save

from medsae_ray.core.sae.architectures import build
from medsae_ray.core.sae.checkpoint import sae_from_bytes, sae_to_bytes
from medsae_ray.core.sae.normalise import Normalisation
from medsae_ray.errors import ArtifactError
from tests.core.sae.planted import NORMALISED, normalisation, topk_config

CONFIG = topk_config(seed=3)


def stored() -> tuple[bytes, bytes]:
    sae = build(CONFIG, normalisation())
    sae.threshold.fill_(0.75)
    return sae_to_bytes(sae, CONFIG, {"encoder": "toy"})


@pytest.mark.parametrize(
    ("make", "other"),
    NORMALISED,
)
def test_a_checkpoint_encodes_raw_embeddings_as_its_writer_did(make, other):
    settings = make(seed=3, **other)
    x_ND = torch.randn(50, 32) * torch.linspace(1, 3, 32)
    fitted = Normalisation.fit(x_ND, settings.whiten, settings.normalisation)
    sae = build(settings, fitted)
    weights, config = sae_to_bytes(sae, settings, {"encoder": "toy"})
    found = sae_from_bytes(weights, config)
    x_ND = torch.randn(5, 32)
    assert torch.equal(found.sae.encode(x_ND), sae.encode(x_ND))
    assert torch.equal(found.sae.decode(sae.encode(x_ND)), sae.decode(sae.encode(x_ND)))
    assert found.config == settings and found.provenance == {"encoder": "toy"}
    assert not found.sae.training


def test_the_threshold_and_the_normalisation_are_stored():
    weights, config = stored()
    sae = sae_from_bytes(weights, config).sae
    assert sae.threshold == 0.75 and sae.scale == torch.tensor(0.7)
    torch.testing.assert_close(sae.mean, torch.linspace(-1, 1, 32))
    assert json.loads(config)["normalisation"]["scale"] == pytest.approx(0.7)


def test_equal_saes_give_equal_bytes():
    assert stored() == stored()


def test_nan_is_refused_on_the_way_out_and_on_the_way_in():
    sae = build(CONFIG, normalisation())
    sae.b_enc.data[0] = torch.nan
    with pytest.raises(ArtifactError, match="b_enc holds NaN"):
        sae_to_bytes(sae, CONFIG, {})
    weights, config = stored()
    tensors = load(weights)
    tensors["W_dec"][0, 0] = torch.inf
    with pytest.raises(ArtifactError, match="W_dec holds NaN or Inf"):
        sae_from_bytes(save(tensors), config)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"W_enc": torch.zeros(48, 32)}, r"W_enc is \(48, 32\) torch.float32, \(32, 48\)"),
        ({"b_dec": torch.zeros(32, dtype=torch.float64)}, "b_dec is .* torch.float64"),
        ({"threshold": None}, r"missing tensors \['threshold'\]"),
        ({"extra": torch.zeros(1)}, r"foreign tensors \['extra'\]"),
        ({"scale": torch.tensor(0.0)}, "scale is 0.0"),
    ],
)
def test_foreign_weights_are_refused_by_name(change, message):
    weights, config = stored()
    tensors = {name: tensor for name, tensor in (load(weights) | change).items() if tensor is not None}
    with pytest.raises(ArtifactError, match=message):
        sae_from_bytes(save(tensors), config)


def test_damaged_or_foreign_files_are_refused(tmp_path):
    weights, config = stored()
    with pytest.raises(ArtifactError, match="damaged or incomplete"):
        sae_from_bytes(weights[:-9], config)
    with pytest.raises(ArtifactError, match="not JSON"):
        sae_from_bytes(weights, config[:-9])
    with pytest.raises(ArtifactError, match="format None"):
        sae_from_bytes(weights, b"{}")
    with pytest.raises(ArtifactError, match="lacks provenance"):
        sae_from_bytes(weights, json.dumps({"format": "medsae-ray sae 1", "config": {}}).encode())
    with pytest.raises(ArtifactError, match="unknown setting 'kk'"):
        sae_from_bytes(weights, config.replace(b'"k"', b'"kk"'))
