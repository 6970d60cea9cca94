"""Small models of true architectures with random weights, as save_pretrained writes them."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

TINY: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
SIDE = 64
"""Pixels; patches are 8 x 8."""
NAMES = ("vit", "dinov2", "clip", "siglip", "swin", "convnext", "dinov3-vit", "dinov3-convnext")
PROCESSOR: dict[str, Any] = {
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.5, 0.4, 0.3],
    "image_std": [0.2, 0.25, 0.3],
    "image_processor_type": "ViTImageProcessor",
    "resample": 2,
    "rescale_factor": 1 / 255,
    "size": {"height": SIDE, "width": SIDE},
}


def stirred(module: nn.Module, by: float = 0.2) -> nn.Module:
    """Every parameter off its initial zero or one, which would hide a lost one."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(by * torch.randn(parameter.shape, generator=generator))
    return module.eval()


def vision(name: str) -> nn.Module:
    """A model of one of NAMES for SIDE x SIDE pixels, the same at every call."""
    import transformers as hf

    tiny = TINY | {"image_size": SIDE, "patch_size": 8}
    stages = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 2, 1]}
    text = TINY | {"vocab_size": 50}
    made = {
        "vit": lambda: hf.ViTModel(hf.ViTConfig(**tiny)),
        "dinov2": lambda: hf.Dinov2WithRegistersModel(hf.Dinov2WithRegistersConfig(**tiny, num_register_tokens=4)),
        "clip": lambda: hf.CLIPModel(hf.CLIPConfig(text_config=text, vision_config=tiny, projection_dim=16)),
        "siglip": lambda: hf.SiglipModel(hf.SiglipConfig(text_config=text, vision_config=tiny)),
        "swin": lambda: hf.SwinModel(
            hf.SwinConfig(image_size=SIDE, patch_size=4, embed_dim=16, depths=[1, 1], num_heads=[2, 2], window_size=4)
        ),
        "convnext": lambda: hf.ConvNextModel(hf.ConvNextConfig(**stages)),
        "dinov3-vit": lambda: hf.DINOv3ViTModel(hf.DINOv3ViTConfig(**tiny, num_register_tokens=4)),
        "dinov3-convnext": lambda: hf.DINOv3ConvNextModel(hf.DINOv3ConvNextConfig(**stages)),
    }
    torch.manual_seed(0)
    return stirred(made[name]())


def saved(folder: Path, name: str, **processor: Any) -> Path:
    """The model `name` in `folder`, with PROCESSOR changed by `processor`."""
    vision(name).save_pretrained(folder)  # type: ignore[operator]
    (folder / "preprocessor_config.json").write_text(json.dumps(PROCESSOR | processor))
    return folder
