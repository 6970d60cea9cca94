"""sparsify (EleutherAI): cfg.json and sae.safetensors, as `SparseCoder.load_from_disk` reads them. TopK only."""

import json

from safetensors.torch import save

from medsae_ray.core.sae.checkpoint import StoredSAE
from medsae_ray.core.sae.formats.files import (
    KEY,
    Files,
    about,
    assembled,
    json_file,
    refuse,
    safetensors_file,
    tensors_of,
    whole_number,
)

NAME = "sparsify"
HOLDS = frozenset({"topk"})
_NAMES = {"W_enc": "encoder.weight", "b_enc": "encoder.bias", "W_dec": "W_dec", "b_dec": "b_dec"}
_CONFIG, _WEIGHTS = "cfg.json", "sae.safetensors"


def write(plain: StoredSAE, original: StoredSAE) -> dict[str, bytes]:
    """The files of an SAE that takes raw embeddings; `original` is what it was folded from."""
    state = plain.sae.state_dict()
    state["W_enc"] = state["W_enc"].T
    tensors = {theirs: state[ours].contiguous() for ours, theirs in _NAMES.items()}
    config = {
        "activation": "topk",
        "expansion_factor": max(1, plain.config.width // plain.config.d_in),
        "normalize_decoder": False,
        "num_latents": plain.config.width,
        "k": plain.config.k,
        "multi_topk": False,
        "skip_connection": False,
        "transcode": False,
        "d_in": plain.config.d_in,
        KEY: about(original),
    }
    return {_CONFIG: json.dumps(config, indent=1).encode(), _WEIGHTS: save(tensors)}


def read(files: Files, where: str) -> StoredSAE:
    """The inverse, for whatever sparsify wrote. ArtifactError for what cannot be imported."""
    config = json_file(files, _CONFIG, where)
    refuse(config, {"activation": "topk", "skip_connection": False, "transcode": False}, where)
    tensors = tensors_of(safetensors_file(files, _WEIGHTS, where), _NAMES, where)
    tensors["W_enc"] = tensors["W_enc"].T
    return assembled("topk", tensors, {"k": whole_number(config, "k", where)}, config.get(KEY), where, NAME)
