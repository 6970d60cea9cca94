"""MedCLIP's two vision towers as torch modules, and the released checkpoint's names for their tensors.

Wang et al., "MedCLIP: Contrastive Learning from Unpaired Medical Images and Text", EMNLP 2022. The released layout is
that of its pytorch_model.bin without the prefix "vision_model.". Legend: N images, S side, D embedding dimension, T
tokens.
"""

import re
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import ResNetConfig, ResNetModel, SwinConfig, SwinModel

from medsae_ray.core.encoders.checkpoint import check_state, read_state, vision_part
from medsae_ray.core.encoders.torch_encoder import map_tokens, square

# (transformers 5, released): the fragments in which Swin's names differ.
_SWIN_NAMES = (
    (".attention.q_proj.", ".attention.self.query."),
    (".attention.k_proj.", ".attention.self.key."),
    (".attention.v_proj.", ".attention.self.value."),
    (".attention.o_proj.", ".attention.output.dense."),
    (".attention.relative_position_bias.", ".attention.self."),
    (".mlp.fc1.", ".intermediate.dense."),
    (".mlp.fc2.", ".output.dense."),
)
_BIAS_TABLE, _POSITION_INDEX = "relative_position_bias_table", "relative_position_index"

_PART = {"convolution": "conv", "normalization": "bn"}
_STEM = re.compile(r"^model\.embedder\.embedder\.(\w+)\.")
_BLOCK = re.compile(r"^model\.encoder\.stages\.(\d)\.layers\.(\d)\.(?:layer\.(\d)|shortcut)\.(\w+)\.")


class Tower(nn.Module):
    """A vision tower: pixel_values float [N, 3, S, S], normalised -> embeddings [N, D]."""

    dim: int
    """The embedding dimension D."""

    def tokens(self, pixel_values: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Compute projected tokens [N, T, D] of `pixel_values`, and their rows and columns. Their mean is the
        embedding."""
        raise NotImplementedError

    @staticmethod
    def released_name(key: str) -> str:
        """Translate the `state_dict` name of a tensor to that of the released checkpoint."""
        raise NotImplementedError


class VitTower(Tower):
    """Swin, the mean of its final tokens, and a projection without bias."""

    def __init__(self, config: SwinConfig, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.model = SwinModel(config)
        self.projection_head = nn.Linear(config.hidden_size, dim, bias=False)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Compute embeddings [N, D] of images [N, 3, S, S]."""
        e_ND: Tensor = self.projection_head(self.model(pixel_values).pooler_output)
        return e_ND

    def tokens(self, pixel_values: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Compute projected final tokens [N, T, D] of images [N, 3, S, S], and their grid (rows, columns)."""
        x_NTD = self.projection_head(self.model(pixel_values).last_hidden_state)
        return x_NTD, square(x_NTD.shape[1])

    @staticmethod
    def released_name(key: str) -> str:
        """Translate a parameter's name to the one in the released checkpoint."""
        for current, released in _SWIN_NAMES:
            key = key.replace(current, released)
        return key


class ResNetTower(Tower):
    """ResNet-50 v1.5 (the stride is in the 3 x 3 convolution) whose last layer is a projection without bias."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.model = ResNetModel(ResNetConfig(downsample_in_bottleneck=False))
        self.projection = nn.Linear(2048, dim, bias=False)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Compute embeddings [N, D] of images [N, 3, S, S]."""
        e_ND: Tensor = self.projection(self.model(pixel_values).pooler_output.flatten(1))
        return e_ND

    def tokens(self, pixel_values: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Compute projected cells of the last feature map [N, T, D] of images [N, 3, S, S], and their grid (rows,
        columns)."""
        return map_tokens(self.model(pixel_values).last_hidden_state, self.projection)

    @staticmethod
    def released_name(key: str) -> str:
        """Translate a parameter's name to the one in the released checkpoint."""
        key = key.replace("projection.weight", "model.fc.weight")
        key = _STEM.sub(lambda m: f"model.{_PART[m[1]]}1.", key)
        return _BLOCK.sub(_released_block, key)


def _released_block(match: re.Match[str]) -> str:
    stage, block, layer, part = match.groups()
    where = f"model.layer{int(stage) + 1}.{block}"
    if layer is None:
        return f"{where}.downsample.{list(_PART).index(part)}."
    return f"{where}.{_PART[part]}{int(layer) + 1}."


def released_state(tower: Tower) -> dict[str, Tensor]:
    """Return the tower's tensors in the released layout, with the constant index of each relative position bias."""
    state = {tower.released_name(key): value.detach().cpu().contiguous() for key, value in tower.state_dict().items()}
    for key in [key for key in state if key.endswith(_BIAS_TABLE)]:
        window = (round(len(state[key]) ** 0.5) + 1) // 2
        state[key.replace(_BIAS_TABLE, _POSITION_INDEX)] = relative_position_index(window)
    return state


def relative_position_index(window: int) -> Tensor:
    """Return int64 [window^2, window^2]: the row of the bias table for each pair of a window's tokens (Swin, section
    3.2)."""
    axis = torch.arange(window)
    row, column = (grid.flatten() for grid in torch.meshgrid(axis, axis, indexing="ij"))
    offset_row, offset_column = (x[:, None] - x[None, :] + window - 1 for x in (row, column))
    return offset_row * (2 * window - 1) + offset_column


def load_released(tower: Tower, path: Path) -> None:
    """Fill `tower` from a checkpoint in the released layout; EncoderError names every kind of misfit.

    Tensors that no forward pass reads (the constant position index, the batch counters) are neither needed nor kept.
    """
    found = {key: value for key, value in vision_part(read_state(path)).items() if _matters(key)}
    wanted = {tower.released_name(key): value for key, value in tower.state_dict().items() if _matters(key)}
    check_state(path, found, wanted)
    with torch.no_grad():
        for key, value in tower.state_dict().items():
            if _matters(key):
                value.copy_(found[tower.released_name(key)])


def _matters(key: str) -> bool:
    return not key.endswith((_POSITION_INDEX, "num_batches_tracked"))
