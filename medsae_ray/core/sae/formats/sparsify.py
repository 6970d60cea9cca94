"""The format of sparsify (EleutherAI): cfg.json and sae.safetensors, for `SparseCoder.load_from_disk`. TopK only."""

import json

from safetensors.torch import save

from medsae_ray.core.sae.checkpoint import StoredSAE
from medsae_ray.core.sae.formats.files import (
    KEY,
    Files,
    about,
    assembled,
    json_file,
    safetensors_file,
    whole_number,
)
from medsae_ray.core.sae.formats.understood import Understood, check_settings, check_sizes, taken

NAME = "sparsify"
HOLDS = frozenset({"topk"})
_NAMES = {"W_enc": "encoder.weight", "b_enc": "encoder.bias", "W_dec": "W_dec", "b_dec": "b_dec"}
_KNOWN = Understood(
    followed=frozenset({"d_in", "k", "num_latents", "expansion_factor"}),
    only={
        "activation": ("topk",),
        "signed": (False,),
        "skip_connection": (False,),
        "transcode": (False,),
    },
    told=frozenset({"normalize_decoder", "multi_topk", KEY}),
)
"""The settings of SparseCoderConfig (SaeConfig at first) in all its versions. Signed codes, of June to August 2024, are
below 0 too, as ours never are; decoders are normalised in training alone, and Multi-TopK is a loss."""
_CONFIG, _WEIGHTS = "cfg.json", "sae.safetensors"


def write(plain: StoredSAE, original: StoredSAE) -> dict[str, bytes]:
    """Return the files of an SAE that takes raw embeddings; `original` is the SAE before folding."""
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
    """Read the files of any version of sparsify. Raises ArtifactError for unsupported ones."""
    config = json_file(files, _CONFIG, where)
    check_settings(config, _KNOWN, where)
    d_in, k = whole_number(config, "d_in", where), whole_number(config, "k", where)
    tensors = taken(safetensors_file(files, _WEIGHTS, where), _NAMES, where, turned=("W_enc",))
    width = config.get("num_latents")
    if not width and "expansion_factor" in config:  # 0 stands for a multiple of the dimensions there
        width = d_in * whole_number(config, "expansion_factor", where)
    check_sizes(tensors, {"d_in": d_in, "num_latents": width}, where)
    return assembled("topk", tensors, {"k": k}, config.get(KEY), where, NAME)
