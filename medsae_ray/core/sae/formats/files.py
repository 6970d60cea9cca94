"""The common part of the formats, from files to an SAE; understood.py checks the contents.

Legend: see model.py.
"""

import io
import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from medsae_ray.core.sae.checkpoint import FORMAT, StoredSAE, sae_from_bytes
from medsae_ray.errors import ArtifactError

Files = Mapping[str, bytes]
"""The contents of a folder's files by name."""
KEY = "medsae_ray"
"""The key in a foreign file of data that only this package knows."""
_UNKNOWN = {"relu_l1": {"l1": 0.0}, "gated": {"l1": 0.0}, "jumprelu": {"l0": 0.0}}
"""The weights of losses, on which codes do not depend and which foreign files lack."""


def about(original: StoredSAE) -> dict[str, Any]:
    """Return an exported file's statement on its SAE; plain values."""
    sae, config, provenance = original
    return {
        "config": config.to_dict(),
        "mean": sae.mean.tolist(),
        "scale": float(sae.scale),
        "provenance": provenance,
    }


def json_file(files: Files, name: str, where: str) -> dict[str, Any]:
    """Read a JSON object with every key once. Raises ArtifactError if the file is missing or holds something else."""
    try:
        document = json.loads(_content(files, name, where), object_pairs_hook=_once)
    except ValueError as error:
        raise ArtifactError(f"{where}: {name} is not valid JSON ({error})") from error
    if not isinstance(document, dict):
        raise ArtifactError(f"{where}: {name} holds a {type(document).__name__}, an object is wanted")
    return document


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for key, times in Counter(key for key, _ in pairs).items() if times > 1)
        raise ValueError(f"key {twice!r} comes twice")
    return found


def safetensors_file(files: Files, name: str, where: str) -> dict[str, Tensor]:
    """Read a safetensors file. Raises ArtifactError if it is missing or incomplete."""
    try:
        return load(_content(files, name, where))
    except SafetensorError as error:
        raise ArtifactError(f"{where}: {name} cannot be read ({error}); it is damaged or incomplete") from error


def torch_file(files: Files, name: str, where: str) -> dict[str, Any]:
    """Read tensors and plain values of torch.save; code in a file is never run. Raises ArtifactError otherwise."""
    content = io.BytesIO(_content(files, name, where))
    try:
        found = torch.load(content, map_location="cpu", weights_only=True)
    except Exception as error:  # torch has no common class for the errors of a damaged or foreign file
        reason = str(error).split("\n", 1)[0][:200]
        raise ArtifactError(
            f"{where}: {name} cannot be read ({reason}); it is damaged, or holds more than tensors and plain values"
        ) from error
    if not isinstance(found, dict):
        raise ArtifactError(f"{where}: {name} holds a {type(found).__name__}, a dictionary of tensors is wanted")
    return found


def torch_bytes(value: dict[str, Any]) -> bytes:
    """Serialise with torch.save."""
    stream = io.BytesIO()
    torch.save(value, stream)
    return stream.getvalue()


def assembled(
    architecture: str, tensors: Mapping[str, Tensor], settings: dict[str, Any], known: object, where: str, format_: str
) -> StoredSAE:
    """Build an SAE from tensors under our names and shapes; `known` is from `about`, if this package wrote them.

    Raises ArtifactError for tensors that are not those of the architecture, or hold NaN or Inf.
    """
    width, d_in = tensors["W_dec"].shape
    mean_D, scale, provenance = _told(known, d_in, where)
    state = {"mean": mean_D, "scale": scale, **tensors}
    config = {
        "architecture": architecture,
        "d_in": d_in,
        "width": width,
        "normalisation": "none",
        **_UNKNOWN.get(architecture, {}),
        **settings,
    }
    document = {"format": FORMAT, "config": config, "provenance": {**provenance, "imported_from": format_}}
    weights = save({name: tensor.contiguous() for name, tensor in state.items()})
    return sae_from_bytes(weights, json.dumps(document).encode(), where)


def _told(known: object, d_in: int, where: str) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """Return mean, scale and provenance from `about`; embeddings of others count as centred and scaled."""
    if known is None:
        return torch.zeros(d_in), torch.tensor(1.0), {}
    try:
        mean_D = torch.tensor(known["mean"], dtype=torch.float32)  # type: ignore[index]
        provenance = {**known["provenance"], "config": known["config"]}  # type: ignore[index]
        return mean_D, torch.tensor(float(known["scale"])), provenance  # type: ignore[index]
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactError(f"{where}: its entry {KEY!r} cannot be read ({error!r})") from error


def whole_number(values: Mapping[str, Any], name: str, where: str) -> int:
    """Return a whole number. Raises ArtifactError if it is missing or another value."""
    value = values.get(name)
    value = value.item() if isinstance(value, Tensor) and value.numel() == 1 else value
    if isinstance(value, bool) or not isinstance(value, int):
        raise ArtifactError(f"{where}: {name} is {value!r}, a whole number is wanted")
    return value


def _content(files: Files, name: str, where: str) -> bytes:
    try:
        return files[name]
    except KeyError:
        raise ArtifactError(f"{where} has no {name}; found {', '.join(sorted(files)) or 'nothing'}") from None
