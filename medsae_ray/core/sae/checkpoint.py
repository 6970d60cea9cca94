"""A trained sparse autoencoder as two files: weights.safetensors and config.json.

The weights include the normalisation (`mean`, `scale`, `there`), so the pair encodes raw embeddings by itself.
"""

import json
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from medsae_ray.core.sae.architectures import build
from medsae_ray.core.sae.config import SAEConfig
from medsae_ray.core.sae.model import SAE
from medsae_ray.core.sae.normalise import DESCRIPTION, Normalisation, Whitening
from medsae_ray.errors import ArtifactError, RecipeError

FORMAT = "medsae-ray sae 1"


class StoredSAE(NamedTuple):
    """The contents of a checkpoint."""

    sae: SAE
    """The SAE in eval mode, on the CPU."""
    config: SAEConfig
    provenance: dict[str, Any]
    """The writer's statement of the weights' origin."""


UNSAID: dict[str, Any] = {
    "normalisation": "centre",
    "whiten": None,
    "init": None,
    "epochs": 100,
    "batch_size": 512,
    "lr": 1e-3,
    "precision": "float32",
    "seed": 0,
}
"""The stand-ins for training settings that a stored SAE, such as another library's, does not state: its weights no
longer need them."""


def sae_to_bytes(sae: SAE, config: SAEConfig, provenance: dict[str, Any]) -> tuple[bytes, bytes]:
    """Return (weights.safetensors, config.json), equal for equal input. Raises ArtifactError on NaN or Inf weights."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in sae.state_dict().items()}
    _check_tensors(tensors, build(config, _blank(config)).state_dict(), "the SAE to be written")
    document = {
        "format": FORMAT,
        "config": config.to_dict(),
        "normalisation": {"description": DESCRIPTION[config.normalisation], "scale": float(sae.scale)},
        "products": str(sae.low or torch.float32).removeprefix("torch."),
        "provenance": provenance,
    }
    return save(tensors), json.dumps(document, indent=2, sort_keys=True).encode()


def sae_from_bytes(weights: bytes, config: bytes, where: str = "SAE checkpoint") -> StoredSAE:
    """Invert `sae_to_bytes`. Raises ArtifactError that names the part that is missing, foreign, misshapen or not
    finite."""
    document = _document(config, where)
    try:
        settings = SAEConfig.from_dict(UNSAID | document["config"])
        tensors = load(weights)
    except RecipeError as error:
        raise ArtifactError(f"{where}: config.json: {error}") from error
    except SafetensorError as error:
        raise ArtifactError(
            f"{where}: weights.safetensors cannot be read ({error}); it is damaged or incomplete"
        ) from error
    sae = build(settings, _blank(settings))
    _check_tensors(tensors, sae.state_dict(), where)
    sae.load_state_dict(tensors)
    return StoredSAE(sae.eval(), settings, document["provenance"])


def _blank(config: SAEConfig) -> Normalisation:
    eye = torch.eye(config.d_in, dtype=torch.float64)
    whitening = None if config.whiten is None else Whitening(eye, eye)
    return Normalisation(torch.zeros(config.d_in, dtype=torch.float64), 1.0, whitening)


def _document(config: bytes, where: str) -> dict[str, Any]:
    try:
        document = json.loads(config)
    except ValueError as error:
        raise ArtifactError(f"{where}: config.json is not JSON ({error})") from error
    found = document.get("format") if isinstance(document, dict) else None
    if found != FORMAT:
        raise ArtifactError(f"{where}: config.json has format {found!r}, {FORMAT!r} is wanted")
    missing = {"config", "provenance"} - document.keys()
    if missing:
        raise ArtifactError(f"{where}: config.json lacks {', '.join(sorted(missing))}")
    return dict(document)


def _check_tensors(tensors: dict[str, Tensor], wanted: dict[str, Tensor], where: str) -> None:
    missing, foreign = sorted(wanted.keys() - tensors.keys()), sorted(tensors.keys() - wanted.keys())
    if missing or foreign:
        raise ArtifactError(f"{where}: missing tensors {missing}, foreign tensors {foreign}")
    for name, tensor in tensors.items():
        if tensor.shape != wanted[name].shape or tensor.dtype != wanted[name].dtype:
            raise ArtifactError(
                f"{where}: {name} is {tuple(tensor.shape)} {tensor.dtype}, "
                f"{tuple(wanted[name].shape)} {wanted[name].dtype} is wanted"
            )
        if not tensor.isfinite().all():
            raise ArtifactError(f"{where}: {name} holds NaN or Inf; this SAE cannot be used")
    if not tensors["scale"] > 0:
        raise ArtifactError(f"{where}: scale is {float(tensors['scale'])}, above 0 is wanted")
