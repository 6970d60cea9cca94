"""A feature's activation on the patches of an image, as a tint to lay over the image.

One hue whose opacity grows with the activation, so that the image stays visible. It is interpolated between the centres
of patches, and so has no more detail than the patches.
"""

import base64
import io

import numpy as np
from PIL import Image

from medsae_ray.core.analysis.patch_maps import PatchMap
from medsae_ray.core.report.thumbnails import SIDE

HUE = (255, 140, 26)
OPACITY = 0.62
"""The opacity at the largest activation."""
_STEPS = 24
"""The levels of opacity: enough for the eye, and a small file."""


def overlay(found: PatchMap, width: int, height: int, peak: float) -> Image.Image:
    """Return RGBA of the image's size: clear without activation or a patch, OPACITY at activation `peak`."""
    square = found.square
    rows, columns = found.value_HW.shape
    y, x = _along(square.top, square.bottom, height, rows), _along(square.left, square.right, width, columns)
    share = np.clip(y @ found.value_HW @ x.T / peak, 0, 1) if peak > 0 else np.zeros((height, width))
    alpha = np.rint(np.rint(share * _STEPS) / _STEPS * OPACITY * 255).astype(np.uint8)
    tint = np.broadcast_to(np.array(HUE, np.uint8), (height, width, 3))
    return Image.fromarray(np.concatenate([tint, alpha[..., None]], axis=2), "RGBA")


def _along(first: float, last: float, pixels: int, patches: int) -> np.ndarray:
    """Return weights [pixels, patches] of the two nearest patches along one side; 0 outside of the square."""
    place = ((np.arange(pixels) + 0.5) / pixels - first) / (last - first)
    centre = np.clip(place * patches - 0.5, 0, patches - 1)
    weight = np.clip(1 - np.abs(centre[:, None] - np.arange(patches)), 0, None)
    return np.asarray(weight * ((place >= 0) & (place <= 1))[:, None])


def overlay_url(content: bytes | None, found: PatchMap | None, peak: float) -> str | None:
    """Return the overlay of a thumbnail (JPEG or PNG) as a data URL, None if one of them is absent."""
    png = overlay_png(content, found, peak)
    return None if png is None else "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def overlay_png(content: bytes | None, found: PatchMap | None, peak: float) -> bytes | None:
    """Return the overlay of a thumbnail (JPEG or PNG), None if one of them is absent.

    It is half as wide and high as the thumbnail, as it is smooth, and a page has hundreds of them.
    """
    if not content or found is None:
        return None
    thumbnail = Image.open(io.BytesIO(content), formats=("JPEG", "PNG"))
    thumbnail.thumbnail((SIDE, SIDE))
    out = io.BytesIO()
    width, height = (max(1, round(n / 2)) for n in thumbnail.size)
    overlay(found, width, height, peak).save(out, "PNG", optimize=True)
    return out.getvalue()
