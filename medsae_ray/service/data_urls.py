"""An image inside a request: a data: URL of RFC 2397 in the forms that clients write. No other address is read."""

import base64
import binascii
import re
from urllib.parse import unquote_to_bytes

from medsae_ray.service.errors import Problem

DATA = "data:image/png;base64,"
"""The prefix of images sent on."""
_HEAD = re.compile(r"data:image/(png|x-png|jpeg|jpg|pjpeg)(;[\w.+-]+=[^;,]{0,100}){0,4};base64,", re.IGNORECASE)
_OTHERS = bytes.maketrans(b"-_", b"+/")
"""The URL-safe alphabet of base64, and the usual one."""


def image_of(url: str, where: str) -> bytes:
    """Return the bytes in a data: URL of a PNG or JPEG image. `where` is the part of the request that holds it.

    Line ends and a missing end of base64 are allowed, as is its alphabet for addresses. Problem for anything else.
    """
    head = _HEAD.match(url)
    if head is None:
        raise Problem(422, "not_a_data_url", f"an image is sent as {DATA}... or data:image/jpeg;base64,...", where)
    try:
        coded = url[head.end() :].encode("ascii")
        coded = unquote_to_bytes(coded) if b"%" in coded else coded
        coded = coded.translate(_OTHERS, b"\r\n\t")
        bare = coded.rstrip(b"=")
        if len(coded) - len(bare) > 2:
            raise ValueError("too many signs at the end")
        return base64.b64decode(bare + b"=" * (-len(bare) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise Problem(422, "not_base64", "what follows base64, is not base64", where) from None
