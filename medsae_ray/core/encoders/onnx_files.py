"""Copies of an ONNX model on this machine, with the files beside it that hold its weights."""

import hashlib
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

from medsae_ray.core.artifacts.local_copies import cache_dir, local_copy
from medsae_ray.core.artifacts.store import split_uri
from medsae_ray.core.encoders.checkpoint import content_hash, resolve
from medsae_ray.core.encoders.onnx_graph import outside, read_graph
from medsae_ray.errors import EncoderError


def local(weights: str) -> Path:
    """Return the model's file on this machine, with its external files; a URL or another URI is copied to the cache.

    A folder stands for the one model in it. EncoderError if there is none, or a part of it is missing.
    """
    if weights.startswith(("http://", "https://")):
        return _with_beside(resolve(weights), lambda location: resolve(_neighbour(weights, location)))
    if "://" in weights:
        copy = _copy(weights)
        folder = weights.rstrip("/") if copy.is_dir() else split_uri(weights)[0].uri
        return _with_beside(_model_in(copy), lambda location: _copy(f"{folder}/{location}"))
    path = Path(weights).expanduser()
    return _model_in(path) if path.is_dir() else resolve(weights)


def _model_in(path: Path) -> Path:
    if not path.is_dir():
        return path
    found = sorted(file.name for file in path.glob("*.onnx"))
    if len(found) != 1:
        raise EncoderError(f"weights {path}: the folder holds {len(found)} .onnx files, name one: {', '.join(found)}")
    return path / found[0]


def _copy(uri: str) -> Path:
    try:
        copy = Path(local_copy(uri))
        copy.stat()
        return copy
    except FileNotFoundError as error:
        raise EncoderError(f"weights {uri}: no such file; a model needs all files that it names ({error})") from error


def _neighbour(url: str, location: str) -> str:
    """Return the URL of a file beside the one at `url`."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=f"{parts.path.rpartition('/')[0]}/{quote(location)}", fragment=""))


def _with_beside(graph: Path, fetched: Callable[[str], Path]) -> Path:
    """Put the model and its external files in a folder of their own; a model without such files is left where it is.

    The folder is named by the contents and appears by rename, so that processes may make it at once.
    """
    locations = outside(read_graph(graph), f"weights {graph}")
    if not locations:
        return graph
    files = {graph.name: graph} | {location: fetched(location) for location in locations}
    lines = "\n".join(f"{key} {content_hash(file, onnx=False)}" for key, file in files.items())
    target = cache_dir() / f"{hashlib.sha256(lines.encode()).hexdigest()[:16]}-onnx"
    if not target.is_dir():
        partial = Path(tempfile.mkdtemp(dir=cache_dir(), prefix=".onnx-"))
        for key, file in files.items():
            (partial / key).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, partial / key)  # onnxruntime refuses files that are linked to twice
        try:
            partial.rename(target)
        except OSError:  # another process was first
            shutil.rmtree(partial)
    return target / graph.name
