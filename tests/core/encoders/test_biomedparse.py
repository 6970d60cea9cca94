"""BiomedParse's backbone against its formulas, written out in float64 on tensors by their released names."""

import json
import re
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from medsae_ray.core.encoders import encoder_preprocess, load_encoder
from medsae_ray.core.encoders.biomedparse import (
    BiomedparseOptions,
    FocalGeometry,
    build_focalnet,
    released_name,
)
from medsae_ray.errors import EncoderError
from tests.core.encoders.small_models import stirred
from tests.support.released import save_focalnet

SMALL = FocalGeometry(embed_dim=8, depths=(1, 1, 2, 1), focal_levels=(4, 3, 2, 2), focal_windows=(3, 3, 3, 5))
PIXELS = np.random.default_rng(0).integers(0, 256, (3, 96, 96, 3), dtype=np.uint8)
IMAGENET = torch.tensor([[123.675, 116.28, 103.53], [58.395, 57.12, 57.375]], dtype=torch.float64)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("biomedparse") / "small.safetensors"
    save_focalnet(stirred(build_focalnet(SMALL)), SMALL, path)
    return path


def norm(w: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"])


def linear(w: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def patch_embed(w: dict[str, Tensor], name: str, x_NHWC: Tensor, stride: int, padding: int) -> Tensor:
    x = F.conv2d(x_NHWC.movedim(-1, 1), w[f"{name}.proj.weight"], w[f"{name}.proj.bias"], stride, padding)
    return norm(w, f"{name}.norm", x.movedim(1, -1))


def modulation(w: dict[str, Tensor], name: str, x_NHWC: Tensor) -> Tensor:
    """Focal modulation, equations 4 to 7 of the FocalNet paper, with the modulator divided by its number of terms."""
    width = x_NHWC.shape[-1]
    query, context, gates = linear(w, f"{name}.f", x_NHWC).tensor_split([width, 2 * width], dim=-1)
    levels = gates.shape[-1] - 1
    total = torch.zeros_like(context)
    for level in range(levels):
        kernel = w[f"{name}.focal_layers.{level}.0.weight"]
        side = kernel.shape[-1]
        context = F.gelu(F.conv2d(context.movedim(-1, 1), kernel, padding=side // 2, groups=width)).movedim(1, -1)
        total = total + gates[..., level, None] * context
    total = total + gates[..., levels, None] * F.gelu(context.mean((1, 2), keepdim=True))
    modulator = F.conv2d((total / (levels + 1)).movedim(-1, 1), w[f"{name}.h.weight"], w[f"{name}.h.bias"]).movedim(
        1, -1
    )
    return linear(w, f"{name}.proj", query * modulator)


def backbone(w: dict[str, Tensor], x_NHWC: Tensor) -> Tensor:
    """Normalised images -> tokens after norm3, [N, H, W, D]."""
    x = patch_embed(w, "patch_embed", x_NHWC, 4, 2)
    for stage, depth in enumerate(SMALL.depths):
        for block in (f"layers.{stage}.blocks.{i}" for i in range(depth)):
            x = x + w[f"{block}.gamma_1"] * norm(w, f"{block}.norm1", modulation(w, f"{block}.modulation", x))
            inner = linear(w, f"{block}.mlp.fc2", F.gelu(linear(w, f"{block}.mlp.fc1", x)))
            x = x + w[f"{block}.gamma_2"] * norm(w, f"{block}.norm2", inner)
        if stage < len(SMALL.depths) - 1:
            x = patch_embed(w, f"layers.{stage}.downsample", x, 2, 1)
    return norm(w, "norm3", x)


@pytest.fixture(scope="module")
def wanted(checkpoint: Path) -> np.ndarray:
    """float64 [N, H, W, D]."""
    w = {key.removeprefix("backbone."): value.double() for key, value in load_file(checkpoint).items()}
    return backbone(w, (torch.from_numpy(PIXELS).double() - IMAGENET[0]) / IMAGENET[1]).numpy()


def test_embeddings_and_tokens_equal_the_formulas(checkpoint: Path, wanted: np.ndarray) -> None:
    encoder = load_encoder("biomedparse", str(checkpoint), size=96)
    x_ND, tokens = encoder.embed(PIXELS), encoder.embed_tokens(PIXELS)
    scale = np.abs(wanted).max()
    assert encoder.dim == 64 and x_ND.dtype == np.float32 and tokens.grid == wanted.shape[1:3] == (3, 3)
    np.testing.assert_allclose(tokens.x.reshape(wanted.shape), wanted, rtol=1e-5, atol=1e-5 * scale)
    np.testing.assert_allclose(x_ND, wanted.mean((1, 2)), rtol=1e-5, atol=1e-5 * scale)


def test_grey_and_colours_are_options(checkpoint: Path) -> None:
    grey = PIXELS[..., 0]
    colour = load_encoder("biomedparse", str(checkpoint), size=96).embed(np.repeat(grey[..., None], 3, -1))
    one = load_encoder("biomedparse", str(checkpoint), size=96, channels="L").embed(grey)
    np.testing.assert_array_equal(one, colour)
    other = load_encoder("biomedparse", str(checkpoint), size=96, channels="L", mean=0.25, std=0.24).embed(grey)
    assert np.abs(other - one).max() > 1e-3


def test_the_default_geometry_has_the_released_names_and_shapes() -> None:
    with torch.device("meta"):
        model = build_focalnet(FocalGeometry())
    shapes = {released_name(key, 3): tuple(value.shape) for key, value in model.state_dict().items()}
    assert shapes["patch_embed.proj.weight"] == (192, 3, 7, 7)
    assert shapes["layers.2.blocks.17.modulation.f.weight"] == (2 * 768 + 5, 768)
    assert shapes["layers.2.blocks.17.modulation.h.weight"] == (768, 768, 1, 1)
    assert shapes["layers.3.blocks.1.modulation.focal_layers.3.0.weight"] == (1536, 1, 9, 9)
    assert shapes["layers.0.downsample.proj.weight"] == (384, 192, 3, 3)
    assert shapes["norm3.weight"] == shapes["layers.3.blocks.0.gamma_1"] == (1536,)
    known = (
        r"(patch_embed|layers\.\d\.downsample)\.(proj|norm)|layers\.\d\.blocks\.\d+\.(norm[12]|mlp\.fc[12]|gamma_[12]|"
    )
    known += r"modulation\.(f|h|proj|focal_layers\.\d\.0))|norm3"
    assert all(re.fullmatch(rf"({known})(\.weight|\.bias)?", name) for name in shapes)


def test_a_checkpoint_with_all_its_parts_and_any_prefix_is_read(checkpoint: Path, tmp_path: Path) -> None:
    header = {"focalnet": json.dumps(asdict(SMALL))}
    state = {f"model.{key}": value for key, value in load_file(checkpoint).items()}
    state |= {"model.backbone.norm0.weight": torch.zeros(8), "model.sem_seg_head.predictor.x": torch.zeros(2)}
    save_file(state, tmp_path / "whole.safetensors", metadata=header)
    whole, bare = (load_encoder("biomedparse", str(p), size=96) for p in (tmp_path / "whole.safetensors", checkpoint))
    np.testing.assert_array_equal(whole.embed(PIXELS), bare.embed(PIXELS))


def test_a_checkpoint_that_does_not_fit_is_described(checkpoint: Path, tmp_path: Path) -> None:
    state = load_file(checkpoint)
    state["backbone.layers.9.x"] = state.pop("backbone.layers.2.blocks.1.gamma_1")
    state["backbone.norm3.bias"] = torch.zeros(5)
    torch.save(state, tmp_path / "small.pt")  # without a header the released geometry is meant
    with pytest.raises(EncoderError) as caught:
        load_encoder("biomedparse", str(tmp_path / "small.pt"), size=96)
    shape = "patch_embed.proj.weight is [8, 3, 7, 7] instead of [192, 3, 7, 7]"
    for part in ("missing: ", "1 unexpected: layers.9.x", shape):
        assert part in str(caught.value)
    torch.save({"x": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(EncoderError, match=r"0 tensors named \*patch_embed\.proj\.weight"):
        load_encoder("biomedparse", str(tmp_path / "other.pt"))


def test_options_and_geometries_that_cannot_be_are_refused(checkpoint: Path) -> None:
    with pytest.raises(EncoderError, match="multiple of 32"):
        load_encoder("biomedparse", str(checkpoint), size=100)
    with pytest.raises(EncoderError, match="one number is needed, or 3"):
        load_encoder("biomedparse", str(checkpoint), size=96, std=(1.0, 2.0))
    with pytest.raises(EncoderError, match="per stage"):
        FocalGeometry(depths=(1, 2))


def test_images_are_stretched_to_1024_pixels_as_sail_does() -> None:
    preprocess = encoder_preprocess("biomedparse")
    assert (preprocess.shape, preprocess.fit, preprocess.resample) == ((1024, 1024, 3), "stretch", "bilinear")
    assert BiomedparseOptions(kind="biomedparse").published == "microsoft/BiomedParse"
