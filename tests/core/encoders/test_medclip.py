"""MedCLIP's towers against its reference code, and small Swins through save and load."""

import json
import runpy
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from medsae_ray.core.encoders import Encoder, encoder_preprocess, load_encoder
from medsae_ray.core.encoders.medclip import SwinGeometry, build_vit, save_vit
from medsae_ray.core.encoders.networks import ResNetTower, released_state
from medsae_ray.core.images.decode import read_image
from medsae_ray.errors import EncoderError
from tests.support.shared import SHARED, needs_shared

GOLDEN = SHARED / "data" / "medclip_golden"
SMALL = SwinGeometry(image_size=32, embed_dim=8, depths=(2, 2), num_heads=(1, 2), window_size=4, projection=12)
PIXELS_NHW = np.random.default_rng(0).integers(0, 256, (5, 32, 32), dtype=np.uint8)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    module = build_vit(SMALL)
    for parameter in module.parameters():  # the bias tables start at zero, which would hide a lost one
        torch.nn.init.normal_(parameter, std=0.3)
    save_vit(module, SMALL, tmp_path / "small.safetensors", mean=0.4, std=0.2)
    return tmp_path / "small.safetensors"


@pytest.fixture(scope="module", params=["vit", "resnet"])
def released(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """(variant, a checkpoint as MedCLIP releases it, with random weights)."""
    state = runpy.run_path(str(GOLDEN / "make_weights.py"))["weights"](request.param)
    path = tmp_path_factory.mktemp(request.param) / "pytorch_model.bin"
    whole = {f"vision_model.{key}": value for key, value in state.items()}
    torch.save(whole | {"logit_scale": torch.tensor(1.0), "text_model.x": torch.zeros(2)}, path)
    return request.param, path


@needs_shared
def test_embeddings_equal_those_of_the_reference(released: tuple[str, Path]) -> None:
    variant, path = released
    encoder = load_encoder(f"medclip-{variant}", str(path.parent), threads=1)
    goldens = np.load(GOLDEN / "goldens.npz")
    images = [next((GOLDEN / "inputs").glob(f"{name}.*")) for name in goldens["names"]]
    x_ND = encoder.encode(images, batch_size=2)
    assert encoder.dim == 512 and x_ND.dtype == np.float32
    np.testing.assert_allclose(
        x_ND, goldens[f"{variant}_embed512"], rtol=0, atol={"resnet": 2e-4, "vit": 2e-5}[variant]
    )
    tokens = encoder.embed_tokens(encoder.preprocess(read_image(images[0].read_bytes()))[None])
    assert tokens.x.shape == (1, 49, 512) and tokens.grid == (7, 7)
    np.testing.assert_allclose(tokens.x.mean(1), x_ND[:1], rtol=1e-4, atol=1e-4)


@needs_shared
def test_the_position_index_is_that_of_the_released_layout(released: tuple[str, Path]) -> None:
    variant, path = released
    wanted = {key.removeprefix("vision_model."): value for key, value in torch.load(path, weights_only=True).items()}
    tower = build_vit(SwinGeometry()) if variant == "vit" else ResNetTower(512)
    state = released_state(tower)
    assert set(state) == {key for key in wanted if not key.startswith("text_model.") and key != "logit_scale"}
    for key in (key for key in state if key.endswith("relative_position_index")):
        assert torch.equal(state[key], wanted[key])


def test_a_saved_tower_embeds_as_the_module_does(small: Path) -> None:
    encoder = load_encoder("medclip-vit", str(small))
    module = build_vit(SMALL).eval()
    module.load_state_dict(encoder._tower.state_dict())  # type: ignore[attr-defined]
    x_NCHW = ((torch.from_numpy(PIXELS_NHW).float() / 255 - 0.4) / 0.2)[:, None].repeat(1, 3, 1, 1)
    with torch.no_grad():
        wanted = module(x_NCHW).numpy()
    assert encoder.dim == 12 and np.abs(wanted).max() > 1e-3
    np.testing.assert_allclose(encoder.embed(PIXELS_NHW), wanted, rtol=1e-5, atol=1e-6)


def test_a_saved_file_is_in_the_released_layout_with_its_geometry(small: Path) -> None:
    with safe_open(small, framework="pt") as file:
        keys, metadata = set(file.keys()), file.metadata()
    assert "model.encoder.layers.1.blocks.1.attention.self.relative_position_bias_table" in keys
    assert "model.encoder.layers.0.blocks.0.attention.self.relative_position_index" in keys
    assert "model.encoder.layers.0.blocks.0.output.dense.weight" in keys and "projection_head.weight" in keys
    assert SwinGeometry(**json.loads(metadata["swin"])) == SMALL
    assert json.loads(metadata["preprocess"]) == {"mean": 0.4, "std": 0.2, "size": 32}


def test_every_tensor_survives_save_and_load(small: Path, tmp_path: Path) -> None:
    encoder = load_encoder("medclip-vit", str(small))
    save_vit(encoder._tower, SMALL, tmp_path / "again.safetensors")  # type: ignore[attr-defined]
    first, again = load_file(small), load_file(tmp_path / "again.safetensors")
    assert first.keys() == again.keys() and all(torch.equal(first[key], again[key]) for key in first)


def test_the_mean_of_an_images_tokens_is_its_embedding(small: Path) -> None:
    encoder = load_encoder("medclip-vit", str(small))
    tokens = encoder.embed_tokens(PIXELS_NHW)
    assert tokens.x.shape == (5, 16, 12) and tokens.grid == (4, 4) and tokens.x.dtype == np.float32
    np.testing.assert_allclose(tokens.x.mean(1), encoder.embed(PIXELS_NHW), rtol=1e-4, atol=1e-5)
    assert encoder.embed_tokens(PIXELS_NHW[:0]).x.shape == (0, 16, 12)


def test_preprocess_is_known_without_the_weights(small: Path) -> None:
    assert encoder_preprocess("medclip-vit", str(small)).size == 32
    assert encoder_preprocess("medclip-vit") == encoder_preprocess("medclip-resnet")
    assert encoder_preprocess("medclip-vit", "https://example.org/medclip.zip").size == 224
    small.rename(small.with_name("model.safetensors"))
    assert encoder_preprocess("medclip-vit", str(small.parent)).size == 32


def _same(a: Encoder, b: Encoder) -> bool:
    pixels = np.zeros((1, *a.preprocess.shape), np.uint8)
    return np.array_equal(a.embed(pixels), b.embed(pixels))


@needs_shared
@pytest.mark.parametrize("released", ["resnet"], indirect=True)
def test_every_container_of_the_same_weights_makes_the_same_encoder(released: tuple[str, Path], tmp_path: Path) -> None:
    variant, path = released
    state = torch.load(path, weights_only=True)
    vision = {key.removeprefix("vision_model."): v for key, v in state.items() if key.startswith("vision_model.")}
    save_file(vision, tmp_path / "bare.safetensors")
    with zipfile.ZipFile(tmp_path / "medclip.zip", "w") as archive:
        archive.write(path, "medclip/pytorch_model.bin")
    reference = load_encoder(f"medclip-{variant}", str(path))
    for name in ("bare.safetensors", "medclip.zip"):
        assert _same(load_encoder(f"medclip-{variant}", str(tmp_path / name)), reference)


def test_a_checkpoint_that_does_not_fit_is_described(small: Path, tmp_path: Path) -> None:
    with safe_open(small, framework="pt") as file:
        metadata = file.metadata()
    state = load_file(small)
    state["model.spare"] = state.pop("model.layernorm.weight")
    state["projection_head.weight"] = torch.zeros(12, 3)
    save_file(state, tmp_path / "wrong.safetensors", metadata=metadata)
    with pytest.raises(EncoderError) as caught:
        load_encoder("medclip-vit", str(tmp_path / "wrong.safetensors"))
    for part in ("1 missing: model.layernorm.weight", "1 unexpected: model.spare", "is [12, 3] instead of [12, 16]"):
        assert part in str(caught.value)


def test_a_checkpoint_of_the_other_tower_is_refused(small: Path) -> None:
    with pytest.raises(EncoderError, match=r"missing: model\.conv1\.weight"):
        load_encoder("medclip-resnet", str(small))


def test_save_refuses_what_load_would_not_read(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="Linear"):
        save_vit(torch.nn.Linear(2, 2), SMALL, tmp_path / "x.safetensors")
    with pytest.raises(EncoderError, match="safetensors"):
        save_vit(build_vit(SMALL), SMALL, tmp_path / "x.bin")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_size": 30}, "do not tile"),
        ({"num_heads": (1,)}, "length"),
        ({"num_heads": (3, 2)}, "heads"),
        ({"window_size": 7}, "stage 1 has 4 tokens"),
        ({"projection": 0}, "at least 1"),
    ],
)
def test_an_impossible_geometry_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(EncoderError, match=message):
        SwinGeometry(**(SMALL.__dict__ | change))  # type: ignore[arg-type]
