"""MedCLIP's text tower: texts -> unit vectors in the space of the projected images of the same checkpoint.

Bio_ClinicalBERT; the mean over its tokens of the hidden states after layers 1, 2 and the last, averaged; a projection
without bias; L2 norm (MedCLIP's public reference code). The reference also averages over the padding of a batch, so
that a text's embedding depends on the longest text of its batch; here padding is left out, which equals the reference
for one text at a time. Compare with images by their cosine: image embeddings are not L2-normalised.

Legend: N texts, L tokens, D embedding dimension.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medsae_ray.core.encoders.checkpoint import check_state, read_metadata, read_state, resolve
from medsae_ray.core.encoders.medclip import URL_RESNET, URL_VIT
from medsae_ray.errors import EncoderError

if TYPE_CHECKING:
    from torch import Tensor, nn

TOKENIZER = "emilyalsentzer/Bio_ClinicalBERT"
PUBLISHED = {"medclip-vit": URL_VIT, "medclip-resnet": URL_RESNET}
_LAYERS = (1, 2, -1)
_MAX_TOKENS = 77
_PREFIX = "text_model."
_UNUSED = ("model.pooler.", "model.embeddings.position_ids")


@dataclass(frozen=True)
class BertGeometry:
    """The shape of the tower. The defaults are Bio_ClinicalBERT's, and a projection to 512."""

    vocab_size: int = 28996
    """The number of words of the tokenizer."""
    hidden_size: int = 768
    """The width of a token."""
    layers: int = 12
    """The number of transformer layers."""
    heads: int = 12
    """The number of attention heads per layer."""
    intermediate_size: int = 3072
    """The width of the inner layer of a block."""
    projection: int = 512
    """The embedding dimension D."""


class TextEncoder:
    """An encoder of texts. Build it with `load_text_encoder`."""

    dim: int
    """The embedding dimension D."""

    def __init__(self, tower: "nn.Module", tokenizer: Any, dim: int, device: str) -> None:
        self._tower, self._tokenizer, self._device, self.dim = tower, tokenizer, device, dim

    def encode(self, texts: Sequence[str], *, batch_size: int = 64) -> np.ndarray:
        """Embed texts (cut to 77 tokens) as float32 [N, D] of unit rows. A text's embedding does not depend on the
        others."""
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; it must be at least 1")
        batches = [self._batch(list(texts[i : i + batch_size])) for i in range(0, len(texts), batch_size)]
        return np.concatenate([np.empty((0, self.dim), np.float32), *batches])

    def _batch(self, texts: list[str]) -> np.ndarray:
        import torch

        words = self._tokenizer(texts, padding=True, truncation=True, max_length=_MAX_TOKENS, return_tensors="pt")
        with torch.inference_mode():
            x_ND = self._tower(words["input_ids"].to(self._device), words["attention_mask"].to(self._device))
            return torch.nn.functional.normalize(x_ND, dim=1).cpu().numpy()


def load_text_encoder(
    kind: str,
    weights: str | None = None,
    *,
    tokenizer: str = TOKENIZER,
    device: str = "cpu",
    threads: int | None = None,
) -> TextEncoder:
    """Load the text half of the checkpoint whose image half `load_encoder(kind, weights)` loads.

    `kind` is "medclip-vit" or "medclip-resnet". `tokenizer` is a Hugging Face id, or a folder with vocab.txt, as no
    checkpoint holds a vocabulary. Raises EncoderError if there is no text half, it does not fit, or there is no
    tokenizer.
    """
    import torch

    if kind not in PUBLISHED:
        raise EncoderError(f"encoder {kind!r} has no text half; those that have are {', '.join(PUBLISHED)}")
    if device == "cuda" and not torch.cuda.is_available():
        raise EncoderError('device is "cuda", but torch finds no CUDA device here')
    if threads is not None:
        torch.set_num_threads(threads)
    path = resolve(weights or PUBLISHED[kind])
    found, geometry = _text_part(path), _geometry(path)
    tower = build_text(geometry)
    check_state(path, found, tower.state_dict())
    tower.load_state_dict(found)
    words = _tokenizer(tokenizer)
    if len(words) > geometry.vocab_size:
        raise EncoderError(
            f"tokenizer {tokenizer} has {len(words)} words, the tower {geometry.vocab_size}: not its own"
        )
    return TextEncoder(tower.eval().requires_grad_(False).to(device), words, geometry.projection, device)


def build_text(geometry: BertGeometry) -> "nn.Module":
    """Build a randomly initialised tower: input_ids, attention_mask int64 [N, L] -> [N, projection], not normalised."""
    import torch
    from torch import nn
    from transformers import BertConfig, BertModel

    class TextTower(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            config = BertConfig(
                vocab_size=geometry.vocab_size,
                hidden_size=geometry.hidden_size,
                num_hidden_layers=geometry.layers,
                num_attention_heads=geometry.heads,
                intermediate_size=geometry.intermediate_size,
            )
            self.model = BertModel(config, add_pooling_layer=False)
            self.projection_head = nn.Linear(geometry.hidden_size, geometry.projection, bias=False)

        def forward(self, input_ids: "Tensor", attention_mask: "Tensor") -> "Tensor":
            states = self.model(input_ids, attention_mask, output_hidden_states=True).hidden_states
            x_NLD = torch.stack([states[layer] for layer in _LAYERS]).mean(0)
            share_NL1 = (attention_mask / attention_mask.sum(1, keepdim=True))[:, :, None]
            e_ND: Tensor = self.projection_head((x_NLD * share_NL1).sum(1))
            return e_ND

    return TextTower()


def _geometry(path: Path) -> BertGeometry:
    stored = read_metadata(path, "bert")
    try:
        return BertGeometry(**stored) if stored is not None else BertGeometry()
    except TypeError as error:
        raise EncoderError(f"weights {path}: BERT geometry {stored} cannot be used ({error})") from error


def _text_part(path: Path) -> "dict[str, Tensor]":
    """Read the text half of a checkpoint, without its prefix and without tensors that no forward pass here reads."""
    state = read_state(path)
    found = {key.removeprefix(_PREFIX): value for key, value in state.items() if key.startswith(_PREFIX)}
    if not found:
        raise EncoderError(f"weights {path}: no text half (names that begin with {_PREFIX})")
    return {key: value for key, value in found.items() if not key.startswith(_UNUSED)}


def _tokenizer(name: str) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    except Exception as error:  # OSError, ValueError, and the hub's own
        raise EncoderError(
            f"tokenizer {name}: cannot be loaded ({type(error).__name__}). Give the folder of one, or run "
            f"`hf download {TOKENIZER}` where there is a network"
        ) from error
