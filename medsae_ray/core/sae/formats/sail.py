"""The format of SAIL (pwesp/sail): one Lightning checkpoint, *.ckpt, for embeddings of unit norm; see sae/sail.py."""

from collections.abc import Sequence
from typing import Any, TypeGuard

import torch

from medsae_ray.core.sae.checkpoint import StoredSAE
from medsae_ray.core.sae.formats.files import KEY, Files, about, assembled, torch_bytes, torch_file, whole_number
from medsae_ray.core.sae.formats.understood import Understood, check_settings, check_sizes, taken
from medsae_ray.errors import ArtifactError

NAME = "sail"
HOLDS = frozenset({"sail"})
_WEIGHTS = "sae.ckpt"
_PREFIX = "model."
_NAMES = {"W_enc": "encoder.weight", "b_enc": "encoder.bias", "b_dec": "bias", "threshold": "inference_threshold"}
_COUNT, _SUM, _DECODER = "_threshold_count", "_threshold_sum", "decoder.weight"
_KNOWN = Understood(
    followed=frozenset({"input_dim", "dictionary_sizes", "k_values"}),
    only={"tied_weights": (True, False)},
    told=frozenset(
        {
            "normalize_decoder",
            "l1_coefficient",
            "diversity_coefficient",
            "learning_rate",
            "correlation_sample_batches",
        }
    ),
)
"""The settings of LightningMatryoshkaSAE; decoders are normalised before training alone."""


def write(plain: StoredSAE, original: StoredSAE) -> dict[str, bytes]:
    """Return the file of an SAE with compat sail, unfolded: both sides divide embeddings by their norm."""
    config, state = plain.config, plain.sae.state_dict()
    state["W_enc"] = state["W_enc"].T
    tied = torch.equal(state["W_dec"], state["W_enc"])
    tensors = {theirs: state[ours].contiguous() for ours, theirs in _NAMES.items()}
    tensors[_COUNT] = state["batches"].long()
    tensors[_SUM] = state["threshold"] * state["batches"]
    if not tied:
        tensors[_DECODER] = state["W_dec"].T.contiguous()
    settings = {
        "input_dim": config.d_in,
        "dictionary_sizes": list(config.levels or ()),
        "k_values": list(config.ks or ()),
        "tied_weights": tied,
    }
    weights = {_PREFIX + name: tensor for name, tensor in tensors.items()}
    return {_WEIGHTS: torch_bytes({"state_dict": weights, "hyper_parameters": settings, KEY: about(original)})}


def read(files: Files, where: str) -> StoredSAE:
    """Read a checkpoint of SAIL. Raises ArtifactError for unsupported ones."""
    names = [name for name in files if name.endswith(".ckpt")]
    if len(names) != 1:
        raise ArtifactError(f"{where} has {len(names)} files that end in .ckpt, one is wanted")
    found = torch_file(files, names[0], where)
    weights, settings = found.get("state_dict"), found.get("hyper_parameters")
    if not isinstance(weights, dict) or not isinstance(settings, dict):
        raise ArtifactError(
            f"{where}: {names[0]} has no state_dict and hyper_parameters; it is not a Lightning checkpoint"
        )
    check_settings(settings, _KNOWN, where)
    weights = {name.removeprefix(_PREFIX): tensor for name, tensor in weights.items()}
    tied = settings.get("tied_weights", True)
    wanted = _NAMES if tied else _NAMES | {"W_dec": _DECODER}
    tensors = taken(weights, wanted, where, turned=("W_enc",) if tied else ("W_enc", "W_dec"), told=(_COUNT, _SUM))
    if tied:
        tensors["W_dec"] = tensors["W_enc"].T.contiguous()
    tensors["batches"] = torch.tensor(float(whole_number(weights, _COUNT, where)))
    check_sizes(tensors, {"input_dim": settings.get("input_dim"), "dictionary_sizes": None}, where)
    return assembled("matryoshka", tensors, _settings(settings, where), found.get(KEY), where, NAME)


def _settings(settings: dict[str, Any], where: str) -> dict[str, Any]:
    levels, ks = settings.get("dictionary_sizes"), settings.get("k_values")
    if not _whole(levels):
        raise ArtifactError(f"{where}: dictionary_sizes are {levels!r}, a list of whole numbers is wanted")
    # SAIL's default.
    ks = [max(1, int(0.05 * level)) for level in levels] if ks is None else ks
    if not _whole(ks):
        raise ArtifactError(f"{where}: k_values are {ks!r}, a list of whole numbers is wanted")
    return {
        "levels": list(levels),
        "ks": list(ks),
        "selection": "per_level",
        "compat": "sail",
        "normalisation": "l2",
    }


def _whole(values: Any) -> TypeGuard[Sequence[int]]:
    return isinstance(values, (list, tuple)) and all(type(value) is int for value in values)
