"""The check of a foreign checkpoint for unknown settings and tensors, none of which is passed over.

An unknown setting or tensor may change codes or reconstructions, and an SAE without it would be another one. So each
format lists those that it follows and those that change neither; all others are refused by name. Legend: see model.py.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from medsae_ray.errors import ArtifactError

_SHOWN = 60
"""The most characters of a value in a message."""
_SHAPES = {
    "W_enc": ("D", "M"),
    "W_dec": ("M", "D"),
    "b_dec": ("D",),
    **{name: ("M",) for name in ("b_enc", "b_gate", "b_mag", "r_mag", "factor")},
}
"""The shapes of tensors under our names. Thresholds have one of two, which the architecture decides later."""


class Understood(NamedTuple):
    """The settings of one kind of checkpoint."""

    followed: frozenset[str]
    """The settings that the reader carries out and checks."""
    only: Mapping[str, tuple[Any, ...]]
    """The settings that change codes or reconstructions, with their supported values."""
    told: frozenset[str]
    """The settings without effect: names, dates, data, devices, and the training of the SAE."""


def check_settings(found: Mapping[str, Any], known: Understood, where: str) -> None:
    """Raise ArtifactError that names unknown settings, or a value that cannot be carried out."""
    strange = [name for name in found if name not in known.followed | known.told and name not in known.only]
    if strange:
        listed = ", ".join(f"{name} = {_short(found[name])}" for name in sorted(strange))
        raise ArtifactError(
            f"{where}: settings that are not understood: {listed}. They may change what the SAE computes; remove those "
            "that do not, and import again"
        )
    for name, values in known.only.items():
        if name in found and not any(_same(found[name], value) for value in values):
            legal = " or ".join(repr(value) for value in values)
            raise ArtifactError(f"{where}: {name} is {_short(found[name])}; only {legal} can be imported")


def taken(
    found: Mapping[str, Any],
    names: Mapping[str, str],
    where: str,
    *,
    turned: Collection[str] = (),
    told: Iterable[str] = (),
) -> dict[str, Tensor]:
    """Return all tensors of a file under our names, float32 and in our shapes.

    `names` maps ours to theirs, `turned` are those of ours that lie transposed there, and `told` are entries of theirs
    that codes do not depend on. Raises ArtifactError that names a missing, unknown or misshapen tensor, or one that is
    not floating point or finite.
    """
    missing = sorted(theirs for theirs in names.values() if not isinstance(found.get(theirs), Tensor))
    if missing:
        raise ArtifactError(f"{where}: missing tensors {missing}; found {sorted(found)}")
    strange = sorted(found.keys() - set(names.values()) - set(told))
    if strange:
        raise ArtifactError(
            f"{where}: tensors {strange} are not understood; an SAE without them would compute something else. "
            f"Understood are {sorted({*names.values(), *told})}"
        )
    tensors = {ours: _plain(found[theirs], theirs, where) for ours, theirs in names.items()}
    tensors |= {ours: tensors[ours].T for ours in turned if tensors[ours].ndim == 2}
    _check_shapes(tensors, where)
    return {ours: tensor.contiguous() for ours, tensor in tensors.items()}


def check_sizes(tensors: Mapping[str, Tensor], stated: Mapping[str, Any], where: str) -> None:
    """Raise ArtifactError if settings contradict the size of W_enc [D, M]; `stated` is (D, M) by their names."""
    for (name, value), size in zip(stated.items(), tensors["W_enc"].shape, strict=True):
        if value is not None and (isinstance(value, bool) or value != size):
            raise ArtifactError(f"{where}: {name} is {_short(value)}, but the tensors have {size}")


def _plain(tensor: Tensor, name: str, where: str) -> Tensor:
    if tensor.layout != torch.strided or not tensor.is_floating_point():
        raise ArtifactError(f"{where}: {name} holds {tensor.dtype}, floating point numbers are wanted")
    plain = tensor.detach().float()
    if not plain.isfinite().all():
        raise ArtifactError(f"{where}: {name} holds NaN or Inf; this SAE cannot be used")
    return plain


def _check_shapes(tensors: Mapping[str, Tensor], where: str) -> None:
    whole = "W_dec" if "W_dec" in tensors else "W_enc"
    shape = tuple(tensors[whole].shape)
    if len(shape) != 2 or 0 in shape:
        part = "decoder" if whole == "W_dec" else "encoder"
        raise ArtifactError(f"{where}: the {part} has shape {shape}, features x dimensions wanted")
    sizes = dict(zip(_SHAPES[whole], shape, strict=True))
    for name, axes in _SHAPES.items():
        wanted = tuple(sizes[axis] for axis in axes)
        if name in tensors and tuple(tensors[name].shape) != wanted:
            raise ArtifactError(f"{where}: {name} is {tuple(tensors[name].shape)}, {wanted} is wanted")


def _same(value: Any, wanted: Any) -> bool:
    """Return True if both are equal and of one kind: 1 is not True, and 0 is not False."""
    return isinstance(value, bool) == isinstance(wanted, bool) and bool(value == wanted)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
