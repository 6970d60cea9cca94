"""A small MedCLIP with random weights, both halves in one checkpoint, a tokenizer, and terms that it can read."""

import json
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import load_file, save_file

from medsae_ray.core.encoders.checkpoint import read_metadata
from medsae_ray.core.encoders.medclip import SwinGeometry, build_vit, save_vit
from medsae_ray.core.encoders.text import BertGeometry, TextEncoder, build_text, load_text_encoder
from tests.core.encoders.small_models import stirred
from tests.support.released import text_state

DIM = 32
PLACES = ("left", "right", "apical", "basal")
THINGS = ("effusion", "edema", "nodule", "fracture", "catheter", "scar", "rib", "heart")
TERMS = [f"{place} {thing}" for place in PLACES for thing in THINGS]
TEMPLATES = ["{}", "a film with {}"]
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "film", "with", *PLACES, *THINGS]
BERT = BertGeometry(len(WORDS), hidden_size=32, layers=4, heads=2, intermediate_size=48, projection=DIM)
SWIN = SwinGeometry(image_size=32, embed_dim=8, depths=(2, 2), num_heads=(1, 2), window_size=4, projection=DIM)


class SmallMedclip(NamedTuple):
    weights: Path
    tokenizer: Path

    def texts(self) -> TextEncoder:
        return load_text_encoder("medclip-vit", str(self.weights), tokenizer=str(self.tokenizer))


def small_medclip(folder: Path) -> SmallMedclip:
    """Written below `folder`; the same at every call."""
    from transformers import BertTokenizer

    tokenizer = folder / "tokenizer"
    tokenizer.mkdir(parents=True)
    (tokenizer / "vocab.txt").write_text("\n".join(WORDS))
    BertTokenizer(str(tokenizer / "vocab.txt")).save_pretrained(tokenizer)
    torch.manual_seed(0)
    save_vit(stirred(build_vit(SWIN)), SWIN, folder / "image.safetensors")
    state, header = text_state(stirred(build_text(BERT)), BERT)
    state |= {f"vision_model.{key}": value for key, value in load_file(folder / "image.safetensors").items()}
    swin = json.dumps(read_metadata(folder / "image.safetensors", "swin"))
    save_file(state, folder / "medclip.safetensors", metadata=header | {"swin": swin})
    return SmallMedclip(folder / "medclip.safetensors", tokenizer)
