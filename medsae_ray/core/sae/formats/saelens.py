"""The format of SAELens 6 (decoderesearch/SAELens): cfg.json and sae_weights.safetensors, for `SAE.load_from_disk`.

Its conventions are ours, see model.py; its standard is relu_l1. BatchTopK and Matryoshka SAEs are JumpReLU
SAEs at inference, with one threshold for all features.
"""

import json
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

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
from medsae_ray.core.sae.formats.saelens_settings import known, modern
from medsae_ray.core.sae.formats.understood import check_settings, check_sizes, taken
from medsae_ray.errors import ArtifactError

NAME = "saelens"
WRITTEN = {
    "relu_l1": "standard",
    "topk": "topk",
    "batch_topk": "jumprelu",
    "matryoshka": "jumprelu",
    "jumprelu": "jumprelu",
    "gated": "gated",
}
HOLDS = frozenset(WRITTEN)
_VERSION = "6.54.12"
"""The version of SAELens, whose reader misreads files of an older one."""
_FOUR = {name: name for name in ("W_enc", "b_enc", "W_dec", "b_dec")}
_READ: dict[str, tuple[str, dict[str, str]]] = {
    "standard": ("relu_l1", _FOUR),
    "topk": ("topk", _FOUR),
    "jumprelu": ("jumprelu", _FOUR | {"threshold": "threshold"}),
    "gated": ("gated", {name: name for name in ("W_enc", "W_dec", "b_dec", "b_gate", "b_mag", "r_mag")}),
    "batchtopk": ("batch_topk", _FOUR | {"threshold": "topk_threshold"}),
    "matryoshka_batchtopk": ("matryoshka", _FOUR | {"threshold": "topk_threshold"}),
}
"""The architecture of each of theirs, and their tensors' names by ours. The last two are written in training."""
FACTORS = ("scaling_factor", "finetuning_scaling_factor")
"""The factors of a finetuned SAE, by either of their names."""
_CONFIG, _WEIGHTS = "cfg.json", "sae_weights.safetensors"


def write(plain: StoredSAE, original: StoredSAE) -> dict[str, bytes]:
    """Return the files of an SAE that takes raw embeddings; `original` is the SAE before folding."""
    architecture = WRITTEN[plain.config.architecture]
    state = plain.sae.state_dict()
    if "threshold" in state:
        state["threshold"] = state["threshold"].expand(plain.config.width)
    tensors = {name: state[name].contiguous() for name in _READ[architecture][1]}
    config: dict[str, Any] = {
        "architecture": architecture,
        "d_in": plain.config.d_in,
        "d_sae": plain.config.width,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": {"sae_lens_version": _VERSION, "sae_lens_training_version": None, KEY: about(original)},
    }
    if architecture == "topk":
        config |= {"k": plain.config.k, "rescale_acts_by_decoder_norm": False}
    return {_CONFIG: json.dumps(config, indent=1).encode(), _WEIGHTS: save(tensors)}


def read(files: Files, where: str) -> StoredSAE:
    """Read the files of any version of SAELens. Raises ArtifactError for unsupported ones."""
    config = modern(json_file(files, _CONFIG, where))
    theirs = config["architecture"]
    if not isinstance(theirs, str) or theirs not in _READ:
        raise ArtifactError(f"{where}: architecture {theirs!r} cannot be imported; known: {', '.join(_READ)}")
    check_settings(config, known(theirs), where)
    architecture, names = _READ[theirs]
    found = safetensors_file(files, _WEIGHTS, where)
    factor = next((name for name in FACTORS if name in found), None)
    if config.get("finetuning_scaling_factor") and not factor:
        raise ArtifactError(f"{where}: finetuning_scaling_factor is true, but {_WEIGHTS} has no scaling factor")
    tensors = taken(found, names | ({"factor": factor} if factor else {}), where)
    check_sizes(tensors, {name: whole_number(config, name, where) for name in ("d_in", "d_sae")}, where)
    settings = _settings(architecture, config, where)
    rescaled = bool(config.get("rescale_acts_by_decoder_norm"))
    if "factor" in tensors:
        _fold_factor(tensors, bool(config.get("finetuning_scaling_factor")), rescaled, where)
    if rescaled:
        _unit_decoder(tensors)
    if not config.get("apply_b_dec_to_input", True):
        _input_as_it_is(tensors, gated=architecture == "gated")
    if "threshold" in tensors:
        tensors["threshold"] = tensors["threshold"].clamp_min(0)
    metadata = config.get("metadata")
    told = metadata.get(KEY) if isinstance(metadata, dict) else None
    return assembled(architecture, tensors, settings, told, where, NAME)


def _settings(architecture: str, config: dict[str, Any], where: str) -> dict[str, Any]:
    if architecture == "topk":
        return {"k": whole_number(config, "k", where)}
    if architecture in ("batch_topk", "matryoshka"):
        # Theirs is a mean and need not be whole; at inference only the threshold counts.
        mean = config.get("k")
        if isinstance(mean, bool) or not isinstance(mean, (int, float)) or not mean > 0:
            raise ArtifactError(f"{where}: k is {mean!r}, a number is wanted")
        k = {"k": max(1, round(mean))}
        return k if architecture == "batch_topk" else k | {"levels": config.get("matryoshka_widths")}
    return {}


def _fold_factor(tensors: dict[str, Tensor], used: bool, rescaled: bool, where: str) -> None:
    """Fold the factors by which a finetuned SAE multiplies its codes before decoding. Some versions' files have a
    factor of 1 throughout, used or not."""
    factor_M = tensors.pop("factor")
    plain = bool(torch.allclose(factor_M, torch.ones_like(factor_M)))
    if not plain and (rescaled or not used):
        found = "rescale_acts_by_decoder_norm is true" if rescaled else "finetuning_scaling_factor is not true"
        raise ArtifactError(f"{where}: it has a scaling factor, but {found}; SAELens refuses such a file too")
    if used:
        tensors["W_dec"] = tensors["W_dec"] * factor_M[:, None]


def _unit_decoder(tensors: dict[str, Tensor]) -> None:
    """Scale the decoder to unit norm: SAELens multiplies h by its norm and divides the code by it before decoding."""
    norm_M = tensors["W_dec"].norm(dim=1)
    tensors["W_dec"] = tensors["W_dec"] / norm_M[:, None]
    tensors["W_enc"] = tensors["W_enc"] * norm_M
    tensors["b_enc"] = tensors["b_enc"] * norm_M


def _input_as_it_is(tensors: dict[str, Tensor], gated: bool) -> None:
    """Adapt b_enc to SAELens' h = x W_enc + b_enc: it has to restore b_dec, which ours subtracts."""
    shift_M = tensors["b_dec"] @ tensors["W_enc"]
    if gated:
        tensors["b_gate"] = tensors["b_gate"] + shift_M
        tensors["b_mag"] = tensors["b_mag"] + shift_M * torch.exp(tensors["r_mag"])
    else:
        tensors["b_enc"] = tensors["b_enc"] + shift_M
