"""Thumbnails, each decoded and encoded again: no metadata of a clinical file enters the page."""

import base64
import io

from PIL import Image

SIDE = 128


def data_url(content: bytes | None) -> str | None:
    """Return a JPEG of at most SIDE x SIDE pixels as a data URL, or None without a JPEG or PNG in `content`."""
    small = jpeg(content)
    return None if small is None else "data:image/jpeg;base64," + base64.b64encode(small).decode("ascii")


def jpeg(content: bytes | None) -> bytes | None:
    """Return a JPEG of at most SIDE x SIDE pixels, or None without a JPEG or PNG in `content`."""
    if not content:
        return None
    try:
        image = Image.open(io.BytesIO(content), formats=("JPEG", "PNG"))
        small = image.convert("L" if image.mode in ("1", "L", "LA") else "RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    small.thumbnail((SIDE, SIDE))
    small.info.clear()  # or Pillow would copy the file's comment
    out = io.BytesIO()
    small.save(out, "JPEG", quality=80, optimize=True)
    return out.getvalue()
