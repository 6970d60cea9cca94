"""The image input of an ONNX model: its layout, sizes and number type, and the misfits with the options.

Legend: N images, S side, C channels of the model's input.
"""

from typing import Any, Literal, NamedTuple

import numpy as np

from medsae_ray.core.images.decode import Preprocess
from medsae_ray.errors import EncoderError

Layout = Literal["channels_first", "channels_last"]
LAYOUTS: tuple[Layout, ...] = ("channels_first", "channels_last")
DTYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
}
_CHANNELS = (1, 3)
Sizes = list[int | None]


class Taken(NamedTuple):
    """The input of a model."""

    name: str
    dtype: type
    layout: Layout
    batch: int | None
    """The fixed number of images; None for any."""
    channels: int
    """The number of channels C."""


def taken(found: Any, preprocess: Preprocess, layout: Layout | None, last: bool, path: str) -> Taken:
    """Check a session's input. `last` is True if the graph begins like one of channels last, which counts if the
    shape is ambiguous. EncoderError if it cannot take such images."""
    where = f"{path}: input {found.name!r} is {found.type} {found.shape}"
    if layout not in (None, *LAYOUTS):
        raise EncoderError(f"layout is {layout!r}; it may be {' or '.join(LAYOUTS)}")
    if found.type not in DTYPES or len(found.shape) != 4:
        raise EncoderError(
            f"{where}; floating point numbers or uint8 [N, C, S, S] (channels first) or [N, S, S, C] (channels last) "
            "are needed"
        )
    sizes: Sizes = [size if isinstance(size, int) and size > 0 else None for size in found.shape]
    chosen = layout or _told(sizes) or ("channels_last" if last else "channels_first")
    channels = _fitting(sizes, chosen, preprocess, where)
    return Taken(found.name, DTYPES[found.type], chosen, sizes[0], channels)


def _told(sizes: Sizes) -> Layout | None:
    """Return the layout that follows from the sizes alone; None if they are ambiguous."""
    first, last = sizes[1] in _CHANNELS, sizes[3] in _CHANNELS
    if first == last:
        # Both ends or neither are 1 or 3: a free size may be the channels, and equal sizes are those of pixels.
        first, last = sizes[1] is None and sizes[3] is not None, sizes[3] is None and sizes[1] is not None
        if None not in sizes[1:]:
            first, last = sizes[2] == sizes[3], sizes[1] == sizes[2]
    return None if first == last else "channels_first" if first else "channels_last"


def _fitting(sizes: Sizes, layout: Layout, preprocess: Preprocess, where: str) -> int:
    """Return C of a model that fits the images of `preprocess`."""
    stated, *sides = [sizes[1], *sizes[2:]] if layout == "channels_first" else [sizes[3], *sizes[1:3]]
    where, size, own = f"{where}, {layout.replace('_', ' ')}", preprocess.size, len(preprocess.channels)
    if len({side for side in sides if side is not None}) == 2:
        raise EncoderError(f"{where}: images of {sides[0]} x {sides[1]} pixels; only squares are read")
    if any(side not in (None, size) for side in sides):
        wanted = next(side for side in sides if side is not None)
        raise EncoderError(f"{where}: it does not take size {size}, set the option size to {wanted} (or layout)")
    if stated not in (None, own) and not (own == 1 and stated == 3):
        advice = f"set the option channels to {'L' if stated == 1 else 'RGB'}" if stated in _CHANNELS else "see layout"
        raise EncoderError(f"{where}: it does not take channels {preprocess.channels!r} but {stated} of them; {advice}")
    return stated or own
