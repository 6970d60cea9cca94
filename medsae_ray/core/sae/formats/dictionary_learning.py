"""dictionary_learning (saprmarks): config.json and ae.pt, as `utils.load_dictionary` reads them.

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
    tensors_of,
    torch_bytes,
    torch_file,
    whole_number,
)
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
"""Our architecture -> their class."""
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
"""Our architecture -> our tensors' names -> theirs. Those that end in .weight are of Linear layers: transposed."""
_CONFIG, _WEIGHTS = "config.json", "ae.pt"


def write(plain: StoredSAE, original: StoredSAE) -> dict[str, bytes]:
    """The files of an SAE that takes raw embeddings; `original` is what it was folded from."""
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
        # Of a per-level SAE only the last level's k is there at inference.
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
    """The inverse, for whatever dictionary_learning wrote. ArtifactError for what cannot be imported."""
    document = json_file(files, _CONFIG, where)
    trainer = document.get("trainer")
    theirs = trainer.get("dict_class") if isinstance(trainer, dict) else None
    architecture = next((ours for ours, name in WRITTEN.items() if name == theirs), None)
    if architecture is None:
        raise ArtifactError(f"{where}: dict_class {theirs!r} cannot be imported; known: {', '.join(WRITTEN.values())}")
    names = _NAMES[architecture]
    found = torch_file(files, _WEIGHTS, where)
    tensors = {ours: _turned(names[ours], tensor) for ours, tensor in tensors_of(found, names, where).items()}
    if architecture == "jumprelu":
        tensors["b_enc"] = tensors["b_enc"] + tensors["b_dec"] @ tensors["W_enc"]
    if "threshold" in tensors:
        # -1 says that none was found in training; their code is a ReLU then, as ours is with 0.
        tensors["threshold"] = tensors["threshold"].clamp_min(0)
    return assembled(architecture, tensors, _settings(architecture, found, where), document.get(KEY), where, NAME)


def _settings(architecture: str, found: dict[str, Any], where: str) -> dict[str, Any]:
    if architecture not in ("topk", "batch_topk", "matryoshka"):
        return {}
    settings: dict[str, Any] = {"k": whole_number(found, "k", where)}
    if architecture == "matryoshka":
        sizes = tensors_of(found, {"sizes": "group_sizes"}, where)["sizes"]
        settings["levels"] = [int(level) for level in accumulate(sizes.tolist())]
    return settings


def _turned(name: str, tensor: Tensor) -> Tensor:
    return tensor.T.contiguous() if name.endswith(".weight") else tensor.contiguous()
