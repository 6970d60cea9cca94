"""Images for a vision-language model: small, grey and without any metadata of their files."""

import hashlib
import io
from dataclasses import dataclass

import pyarrow as pa
from PIL import Image

from medsae_ray.core.images.reader import Reading
from medsae_ray.core.images.sources import ImageSource
from medsae_ray.errors import ImageError

BLANK = "blank"
"""The id of the empty control image."""


@dataclass(frozen=True)
class Pictures:
    """The images of a manifest, as PNG of at most `side` pixels."""

    store: ImageSource
    uri_of: dict[str, str]
    side: int
    reading: Reading

    @classmethod
    def of(cls, manifest: pa.Table, store: ImageSource, side: int, reading: Reading) -> "Pictures":
        """Take the image ids and uris of a manifest."""
        uri_of = dict(zip(manifest["image_id"].to_pylist(), manifest["uri"].to_pylist(), strict=True))
        return cls(store, uri_of, side, reading)

    def png(self, image_id: str) -> bytes | None:
        """Return the picture; None for an image that cannot be read."""
        if image_id == BLANK:
            return picture(Image.new("L", (self.side, self.side), 128), self.side)
        image = self._read(image_id)
        return None if image is None else picture(image, self.side)

    def size(self, image_id: str) -> tuple[int, int] | None:
        """Return width and height of the image itself; None for an image that cannot be read."""
        image = self._read(image_id)
        return None if image is None else image.size

    def _read(self, image_id: str) -> Image.Image | None:
        try:
            return self.reading.image(self.store, self.uri_of[image_id])
        except ImageError:
            return None

    def sha(self, image_id: str) -> str | None:
        """Return the SHA-256 of the picture; None for an image that cannot be read."""
        data = self.png(image_id)
        return None if data is None else hashlib.sha256(data).hexdigest()


def picture(image: Image.Image, side: int) -> bytes:
    """Turn a decoded image into grey PNG of at most `side` x `side` pixels, its proportions kept."""
    grey = image.convert("L")  # a copy, so the caller's image stays as it is
    grey.thumbnail((side, side), Image.Resampling.BICUBIC)
    grey.info.clear()
    stream = io.BytesIO()
    grey.save(stream, "PNG", compress_level=1)
    return stream.getvalue()
