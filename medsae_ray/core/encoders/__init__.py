"""The image encoders that a recipe can name. Each kind is one file with its options and its model, and one entry here.

Importing this package loads neither torch, transformers nor onnxruntime.
"""

from dataclasses import fields
from typing import Any, get_args

from medsae_ray.core.encoders.base import Encoder, EncoderOptions, Tokens
from medsae_ray.core.encoders.biomedparse import BiomedparseOptions
from medsae_ray.core.encoders.huggingface import Dinov3Options, HuggingfaceOptions
from medsae_ray.core.encoders.medclip import MedclipOptions
from medsae_ray.core.encoders.onnx import OnnxOptions
from medsae_ray.core.images.decode import Preprocess
from medsae_ray.errors import EncoderError
from medsae_ray.names import nearest

ENCODERS: tuple[type[EncoderOptions], ...] = (
    MedclipOptions,
    OnnxOptions,
    HuggingfaceOptions,
    Dinov3Options,
    BiomedparseOptions,
)

__all__ = ["ENCODERS", "Encoder", "EncoderOptions", "Tokens", "encoder_preprocess", "load_encoder"]


def load_encoder(
    kind: str, weights: str | None = None, *, device: str = "cpu", threads: int | None = None, **options: Any
) -> Encoder:
    """Load the encoder `kind` with `weights` (None: the published ones; for other values see checkpoint.py and hub.py).

    `device` is "cpu" or "cuda"; `threads` is the number of CPU threads of one forward pass, and None keeps the
    library's own choice; `options` are those of the kind. Raises EncoderError for an unknown kind or option, or if
    weights and architecture do not fit.
    """
    chosen = _options(kind, options)
    if device not in ("cpu", "cuda"):
        raise EncoderError(f'device is {device!r}; it may be "cpu" or "cuda"')
    if threads is not None and threads < 1:
        raise EncoderError(f"threads is {threads}; it must be at least 1, or None for the library's own choice")
    return chosen.load(weights, device=device, threads=threads)


def encoder_preprocess(kind: str, weights: str | None = None, **options: Any) -> Preprocess:
    """Return the Preprocess of that encoder. It reads at most a header or the JSON settings of the weights."""
    return _options(kind, options).preprocess(weights)


def kinds_of(options: type[EncoderOptions]) -> tuple[str, ...]:
    """Return the kinds that have these options."""
    return get_args(options.__annotations__["kind"])


def _options(kind: str, options: dict[str, Any]) -> EncoderOptions:
    classes = {kind: cls for cls in ENCODERS for kind in kinds_of(cls)}
    if kind not in classes:
        raise EncoderError(f"encoder kind {kind!r} is unknown{_nearest(kind, [*classes])}")
    known = [field.name for field in fields(classes[kind]) if field.name not in ("kind", "tokens")]
    for option in options:
        if option not in known:
            raise EncoderError(f"encoder {kind!r} has no option {option!r}{_nearest(option, known)}")
    return classes[kind](kind=kind, **{**classes[kind].usual, **options})


def _nearest(word: str, known: list[str]) -> str:
    near = nearest(word, known)
    return f"; did you mean {near!r}?" if near else f"; known: {', '.join(known) or 'none'}"
