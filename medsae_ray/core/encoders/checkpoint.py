"""The sources of an encoder's weights, and their check against the architecture.

A `weights` value is a local .bin or .pt (torch), .safetensors or .onnx file, a directory or .zip that holds
pytorch_model.bin, an https URL of one of these, or "builtin:phantom-encoder" or "builtin:phantom-volumes-encoder", the
small encoders that ship with the package. A URL may end in #sha256= and the checksum of its file; any other content is
then refused. For Hugging Face ids and folders see hub.py.
"""

import hashlib
import io
import json
import re
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medsae_ray.core.artifacts.local_copies import cache_dir
from medsae_ray.core.encoders.onnx_graph import outside_files
from medsae_ray.errors import EncoderError

if TYPE_CHECKING:
    import torch

BUILTIN = {
    "builtin:phantom-encoder": Path(__file__).parents[1] / "phantom" / "weights" / "encoder.safetensors",
    "builtin:phantom-volumes-encoder": Path(__file__).parents[1] / "phantom" / "weights" / "volumes.safetensors",
}
_IN_DIRECTORY = ("pytorch_model.bin", "model.safetensors")
# What transformers reads of a folder: settings, and weights in one form or the other.
SETTINGS = ("config.json", "preprocessor_config.json", "processor_config.json")
WEIGHTS = (
    ("model*.safetensors", "model*.safetensors.index.json"),
    ("pytorch_model*.bin", "pytorch_model*.bin.index.json"),
)
SHA256 = {
    "https://storage.googleapis.com/pytrial/medclip-vit-pretrained.zip": (
        "414b3ac515431c06018400ab2d83ee7307e314020cd4f6babbfdea4a58515725"
    ),
}
"""URL of published weights -> known checksum of the file."""
_FRAGMENT = "#sha256="
_TIMEOUT_S, _RETRIES = 60, 2
_SHOWN = 4  # names per list in an error message


def resolve(weights: str) -> Path:
    """Return the local file of a `weights` value, downloaded once if it is a URL. EncoderError if there is none."""
    if weights.startswith("builtin:"):
        if weights not in BUILTIN:
            raise EncoderError(f"weights {weights!r}: the built-in weights are {', '.join(BUILTIN)}")
        path = BUILTIN[weights]
    elif "://" in weights:
        path = _download(weights)
    else:
        path = Path(weights).expanduser()
    if path.is_dir():
        found = [path / name for name in _IN_DIRECTORY if (path / name).is_file()]
        if not found:
            raise EncoderError(f"weights {path}: the directory holds neither of {', '.join(_IN_DIRECTORY)}")
        return found[0]
    if not path.is_file():
        raise EncoderError(f"weights {path}: no such file")
    return path


def content_hash(path: Path, *, onnx: bool | None = None) -> str:
    """Compute the sha256 of the contents that make a model, without their paths.

    It is the file's own; for an ONNX model (None: recognised by its name) with weights in files beside it, and for a
    folder, it covers names and contents. EncoderError if one of the files is missing.
    """
    if path.is_file():
        beside = outside_files(path) if onnx or (onnx is None and path.suffix.lower() == ".onnx") else {}
        lines = [_sha256(path), *(f"{location} {_sha256(file)}" for location, file in beside.items())]
        return lines[0] if not beside else hashlib.sha256("\n".join(lines).encode()).hexdigest()
    files = [path / name for name in SETTINGS if (path / name).is_file()] + weight_files(path)
    return hashlib.sha256("\n".join(f"{file.name} {_sha256(file)}" for file in files).encode()).hexdigest()


def weight_files(folder: Path) -> list[Path]:
    """Return the files of a folder that hold its weights, and their index; torch's only if there are no safetensors.

    EncoderError if an index names a part that is missing, or that lies outside the folder.
    """
    for patterns in WEIGHTS:
        found = {file for pattern in patterns for file in folder.glob(pattern)}
        if found:
            return sorted(found.union(*map(_parts, found)))
    return []


def _parts(index: Path) -> list[Path]:
    """Return the parts that an index names; none for any other file."""
    if not index.name.endswith(".index.json"):
        return []
    try:
        names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise EncoderError(f"weights {index}: no index of parts ({type(error).__name__}: {error})") from error
    for name in names:
        if Path(name).name != name:
            raise EncoderError(f"weights {index}: names the part {name!r}; only files beside it are read")
        if not (index.parent / name).is_file():
            raise EncoderError(f"weights {index.parent}: {index.name} names {name}, which is not there")
    return [index.parent / name for name in names]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_state(path: Path) -> "dict[str, torch.Tensor]":
    """Read the tensors of a checkpoint by name, on the CPU. Nothing but tensors is unpickled."""
    import torch
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        source = _zip_member(path) if path.suffix == ".zip" else path
        state = torch.load(source, map_location="cpu", weights_only=True)
    except EncoderError:
        raise
    except Exception as error:  # pickle, zip, safetensors and torch each have their own
        raise EncoderError(f"weights {path}: not a readable checkpoint ({type(error).__name__}: {error})") from error
    if not isinstance(state, Mapping) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise EncoderError(f"weights {path}: a state dict (name -> tensor) is needed, found {type(state).__name__}")
    return dict(state)


def read_metadata(path: Path, key: str) -> dict[str, Any] | None:
    """Read the JSON object under `key` in the header of a safetensors file, None if absent, without reading a
    tensor."""
    if path.suffix != ".safetensors":
        return None
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            text = (file.metadata() or {}).get(key)
        return None if text is None else dict(json.loads(text))
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise EncoderError(f"weights {path}: unreadable safetensors metadata {key!r} ({error})") from error


def vision_part(state: "dict[str, torch.Tensor]") -> "dict[str, torch.Tensor]":
    """Return the vision tower of a MedCLIP state dict, without its prefix; text tower and logit scale are left out."""
    prefix = "vision_model."
    if not any(key.startswith(prefix) for key in state):
        return state
    rest = {
        key: value
        for key, value in state.items()
        if not key.startswith(("text_model.", prefix)) and key != "logit_scale"
    }
    return rest | {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def check_state(path: Path, found: "Mapping[str, torch.Tensor]", wanted: "Mapping[str, torch.Tensor]") -> None:
    """Raise EncoderError that names missing and unexpected keys and differing shapes if `found` is not like
    `wanted`."""
    shapes = [
        f"{key} is {list(found[key].shape)} instead of {list(wanted[key].shape)}"
        for key in wanted
        if key in found and found[key].shape != wanted[key].shape
    ]
    missing, unexpected = [key for key in wanted if key not in found], [key for key in found if key not in wanted]
    refuse_misfit(path, missing, unexpected, shapes)


def refuse_misfit(path: Path, missing: Sequence[str], unexpected: Sequence[str], shapes: Sequence[str]) -> None:
    """Raise EncoderError that counts and names the misfits of a checkpoint, if there are any."""
    problems = {"missing": missing, "unexpected": unexpected, "of another shape": shapes}
    texts = [f"{len(names)} {what}: {_some(names)}" for what, names in problems.items() if names]
    if texts:
        raise EncoderError(f"weights {path} do not fit the architecture. {'; '.join(texts)}")


def _some(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")


def _zip_member(path: Path) -> io.BytesIO:
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if Path(name).name == "pytorch_model.bin"]
        if len(names) != 1:
            raise EncoderError(
                f"weights {path}: {len(names)} files named pytorch_model.bin inside, exactly 1 is needed"
            )
        return io.BytesIO(archive.read(names[0]))


def _download(weights: str) -> Path:
    """Return the cached copy of a URL. It appears by rename, so concurrent processes agree on one whole file."""
    url, _, known = weights.partition(_FRAGMENT)
    known = known or SHA256.get(url, "")
    if not url.startswith("https://"):
        raise EncoderError(f"weights {url}: only https URLs are downloaded")
    if known and not re.fullmatch("[0-9a-f]{64}", known):
        raise EncoderError(
            f"weights {weights}: after {_FRAGMENT} stand the 64 hexadecimal digits of the file's SHA-256"
        )
    name = url.rsplit("/", 1)[-1].split("?")[0]
    target = cache_dir() / f"{hashlib.sha256(url.encode()).hexdigest()[:16]}-{name}"
    if known or not target.is_file():
        _fetch(url, target, known)
    return target


def _fetch(url: str, target: Path, known: str) -> None:
    """Download `url` to `target`, unless it is there and has the checksum `known`."""
    import pooch

    files = pooch.create(target.parent, "", registry={target.name: known or None}, urls={target.name: url})
    files.retry_if_failed = _RETRIES
    try:
        files.fetch(target.name, downloader=pooch.HTTPDownloader(timeout=_TIMEOUT_S, chunk_size=1 << 20))
    except (OSError, ValueError) as error:  # of the network or the disk; content that is not the known one
        raise EncoderError(f"weights {url}: download failed ({error}); give a local path instead") from error
