"""The format of dictionary_learning (saprmarks): config.json and ae.pt, as `utils.load_dictionary` reads them.

Its `AutoEncoder.from_pretrained` brings decoder rows to unit norm unless `normalize_decoder=False` is given, which
divides the activations of a folded SAE by its scale; the other classes keep them as they are.
"""

import json
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor

from medsae_ray.core.sae.checkpoint import StoredSAE
from medsae_ray.core.sae.formats.files import (
    KEY,
    Files,
    about,
    assembled,
    json_file,
    torch_bytes,
    torch_file,
    whole_number,
)
from medsae_ray.core.sae.formats.understood import Understood, check_settings, check_sizes, taken
from medsae_ray.errors import ArtifactError

NAME = "dictionary_learning"
WRITTEN = {
    "relu_l1": "AutoEncoder",
    "topk": "AutoEncoderTopK",
    "batch_topk": "BatchTopKSAE",
    "matryoshka": "MatryoshkaBatchTopKSAE",
    "jumprelu": "JumpReluAutoEncoder",
    "gated": "GatedAutoEncoder",
}
"""The class of dictionary_learning for each of our architectures."""
HOLDS = frozenset(WRITTEN)
_LINEAR = {"W_enc": "encoder.weight", "b_enc": "encoder.bias", "W_dec": "decoder.weight"}
_PLAIN = {name: name for name in ("W_enc", "b_enc", "W_dec", "b_dec")}
_THRESHOLD = {"threshold": "threshold"}
_NAMES: dict[str, dict[str, str]] = {
    "relu_l1": _LINEAR | {"b_dec": "bias"},
    "topk": _LINEAR | {"b_dec": "b_dec"},
    "batch_topk": _LINEAR | {"b_dec": "b_dec"} | _THRESHOLD,
    "matryoshka": _PLAIN | _THRESHOLD,
    "jumprelu": _PLAIN | _THRESHOLD,
    "gated": {
        "W_enc": "encoder.weight",
        "W_dec": "decoder.weight",
        "b_dec": "decoder_bias",
        "b_gate": "gate_bias",
        "b_mag": "mag_bias",
        "r_mag": "r_mag",
    },
}
"""The names of their tensors by ours, per architecture. Those that end in .weight are of Linear layers: transposed."""
_TOPK = ("topk", "batch_topk", "matryoshka")
_BUFFERS: dict[str, frozenset[str]] = {
    "topk": frozenset({"k", "threshold"}),
    "batch_topk": frozenset({"k"}),
    "matryoshka": frozenset({"k", "group_sizes"}),
}
"""The entries of ae.pt that are not weights, for each of our architectures; `AutoEncoderTopK` tracks a threshold that
its codes do not use."""
_KNOWN = Understood(
    followed=frozenset({"dict_class", "activation_dim", "dict_size", "k", "group_sizes"}),
    only={},
    told=frozenset(
        {"trainer_class", "layer", "lm_name", "submodule_name", "wandb_name", "device", "seed", "steps", "lr"}
        | {"warmup_steps", "decay_start", "resample_steps", "sparsity_warmup_steps", "auxk_alpha", "top_k_aux"}
        | {"threshold_beta", "threshold_start_step", "group_fractions", "group_weights", "l1_penalty"}
        | {"sparsity_function", "sparsity_penalty", "sparsity_queue_length", "n_sparsity_updates", "p_start", "p_end"}
        | {"anneal_start", "bandwidth", "target_l0", "norm_factor"}
    ),
)
"""The settings of the trainers. The divisor of activations in training is in the saved biases."""
_PARTS = Understood(frozenset({"trainer", "buffer", KEY}), {}, frozenset())
_BUFFER = Understood(frozenset(), {"io": ("in", "out")}, frozenset())
"""The settings of the activations' source. One matters: "in_and_out" makes a transcoder, not an autoencoder."""
_CONFIG, _WEIGHTS = "config.json", "ae.pt"


def write(plain: StoredSAE, original: StoredSAE) -> dict[str, bytes]:
    """Return the files of an SAE that takes raw embeddings; `original` is the SAE before folding."""
    config, state = plain.config, plain.sae.state_dict()
    if config.architecture == "jumprelu":
        state["b_enc"] = state["b_enc"] - state["b_dec"] @ state["W_enc"]
    tensors = {theirs: _turned(theirs, state[ours]) for ours, theirs in _NAMES[config.architecture].items()}
    trainer: dict[str, Any] = {
        "dict_class": WRITTEN[config.architecture],
        "activation_dim": config.d_in,
        "dict_size": config.width,
        "layer": 0,
        "lm_name": "",
    }
    if config.architecture in ("topk", "batch_topk", "matryoshka"):
        # At inference a per-level SAE has only the last level's k.
        trainer["k"] = config.k or (config.ks or (1,))[-1]
        tensors["k"] = torch.tensor(trainer["k"], dtype=torch.int32)
    if config.architecture == "topk":
        tensors["threshold"] = torch.tensor(-1.0)
    if config.levels is not None:
        trainer["group_sizes"] = [high - low for low, high in pairwise((0, *config.levels))]
        tensors["group_sizes"] = torch.tensor(trainer["group_sizes"])
    # Some readers ask for a context length, which embeddings do not have.
    document = {"trainer": trainer, "buffer": {"ctx_len": 0}, KEY: about(original)}
    return {_CONFIG: json.dumps(document, indent=1).encode(), _WEIGHTS: torch_bytes(tensors)}


def read(files: Files, where: str) -> StoredSAE:
    """Read the files of any version of dictionary_learning. Raises ArtifactError for unsupported ones."""
    document = json_file(files, _CONFIG, where)
    trainer = document.get("trainer")
    trainer = trainer if isinstance(trainer, dict) else {}
    theirs = trainer.get("dict_class")
    architecture = next((ours for ours, name in WRITTEN.items() if name == theirs), None)
    if architecture is None:
        raise ArtifactError(f"{where}: dict_class {theirs!r} cannot be imported; known: {', '.join(WRITTEN.values())}")
    check_settings(document, _PARTS, where)
    check_settings(trainer, _KNOWN, where)
    buffer = document.get("buffer")
    check_settings({"io": buffer["io"]} if isinstance(buffer, dict) and "io" in buffer else {}, _BUFFER, where)
    names, found = _NAMES[architecture], torch_file(files, _WEIGHTS, where)
    turned = [ours for ours, name in names.items() if name.endswith(".weight")]
    tensors = taken(found, names, where, turned=turned, told=_BUFFERS.get(architecture, ()))
    check_sizes(tensors, {name: trainer.get(name) for name in ("activation_dim", "dict_size")}, where)
    if architecture == "jumprelu":
        tensors["b_enc"] = tensors["b_enc"] + tensors["b_dec"] @ tensors["W_enc"]
    if "threshold" in tensors:
        # -1 means that training found none; their code is then a ReLU, as ours is with 0.
        tensors["threshold"] = tensors["threshold"].clamp_min(0)
    settings = _settings(architecture, trainer, found, where)
    return assembled(architecture, tensors, settings, document.get(KEY), where, NAME)


def _settings(architecture: str, trainer: dict[str, Any], found: dict[str, Any], where: str) -> dict[str, Any]:
    if architecture not in _TOPK:
        return {}
    told = [whole_number(values, "k", where) for values in (trainer, found) if "k" in values]
    if len(set(told)) != 1:
        raise ArtifactError(f"{where}: {_CONFIG} and {_WEIGHTS} state {told} as k; one number is wanted")
    if architecture != "matryoshka":
        return {"k": told[0]}
    sizes = found.get("group_sizes")
    if not isinstance(sizes, Tensor) or sizes.ndim != 1:
        raise ArtifactError(f"{where}: {_WEIGHTS} has no list of group_sizes")
    return {"k": told[0], "levels": [int(level) for level in accumulate(sizes.tolist())]}


def _turned(name: str, tensor: Tensor) -> Tensor:
    return tensor.T.contiguous() if name.endswith(".weight") else tensor.contiguous()
