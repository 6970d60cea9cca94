"""Checkpoints of small models in the layouts that BiomedParse and MedCLIP were released in."""

import json
from dataclasses import asdict
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor, nn

from medsae_ray.core.encoders.biomedparse import FocalGeometry, released_name
from medsae_ray.core.encoders.text import BertGeometry


def save_focalnet(model: nn.Module, geometry: FocalGeometry, path: Path) -> None:
    """Write a FocalNet as safetensors under the released names, with its geometry in the header."""
    last = len(geometry.depths) - 1
    state = {f"backbone.{released_name(key, last)}": value.contiguous() for key, value in model.state_dict().items()}
    save_file(state, path, metadata={"format": "pt", "focalnet": json.dumps(asdict(geometry))})


def text_state(tower: nn.Module, geometry: BertGeometry) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return a text tower's tensors under the released names, and the header of a safetensors file."""
    state = {f"text_model.{key}": value.detach().cpu().contiguous() for key, value in tower.state_dict().items()}
    return state, {"bert": json.dumps(asdict(geometry))}
