"""Image encoders by kind. Importing this package loads neither torch, transformers nor onnxruntime."""

import inspect
from collections.abc import Iterable
from typing import Any

from medsae_ray.core.encoders.base import Encoder, Tokens
from medsae_ray.core.encoders.biomedparse import BiomedParse
from medsae_ray.core.encoders.huggingface import Dinov3, HuggingFace
from medsae_ray.core.encoders.medclip import MedClipResnet, MedClipVit
from medsae_ray.core.encoders.onnx import Onnx
from medsae_ray.core.images.decode import Preprocess
from medsae_ray.errors import EncoderError
from medsae_ray.names import nearest

_ALL: tuple[type[Encoder], ...] = (MedClipVit, MedClipResnet, BiomedParse, Dinov3, HuggingFace, Onnx)
ENCODERS = {cls.kind: cls for cls in _ALL}

__all__ = ["ENCODERS", "Encoder", "Tokens", "encoder_preprocess", "load_encoder"]


def load_encoder(
    kind: str, weights: str | None = None, *, device: str = "cpu", threads: int | None = None, **options: Any
) -> Encoder:
    """The encoder `kind` with `weights` (None: the published ones; checkpoint.py and hub.py say what it may be).

    `device` is "cpu" or "cuda"; `threads` is the number of CPU threads of one forward pass, None leaves the
    library's own choice; `options` are the kind's own. Raises EncoderError for an unknown kind or option, and where
    weights and architecture do not fit.
    """
    cls = _find(kind, options)
    if device not in ("cpu", "cuda"):
        raise EncoderError(f'device is {device!r}; it may be "cpu" or "cuda"')
    if threads is not None and threads < 1:
        raise EncoderError(f"threads is {threads}; it must be at least 1, or None for the library's own choice")
    return cls(weights, device=device, threads=threads, **options)  # type: ignore[call-arg]


def encoder_preprocess(kind: str, weights: str | None = None, **options: Any) -> Preprocess:
    """The Preprocess of that encoder. Cheap: of the weights, at most a header or settings in JSON are read."""
    return _find(kind, options).preprocess_for(weights, **options)


def _find(kind: str, options: Iterable[str]) -> type[Encoder]:
    if kind not in ENCODERS:
        raise EncoderError(f"encoder kind {kind!r} is unknown{_nearest(kind, ENCODERS)}")
    parameters = inspect.signature(ENCODERS[kind]).parameters.values()
    known = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.name not in ("device", "threads")]
    for option in options:
        if option not in known:
            raise EncoderError(f"encoder {kind!r} has no option {option!r}{_nearest(option, known)}")
    return ENCODERS[kind]


def _nearest(word: str, known: Iterable[str]) -> str:
    known = list(known)
    near = nearest(word, known)
    return f"; did you mean {near!r}?" if near else f"; known: {', '.join(known) or 'none'}"
