import base64
import io

import pytest
from PIL import Image

from medsae_ray.core.report.thumbnails import SIDE, data_url


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def decoded(url: str) -> Image.Image:
    head, _, content = url.partition(",")
    assert head == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(content)))


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "1"])
def test_a_large_picture_is_shrunk_and_keeps_its_shape(mode):
    small = decoded(data_url(encoded(Image.new(mode, (1024, 512)), "PNG")))
    assert small.size == (SIDE, SIDE // 2)


def test_metadata_of_the_file_does_not_enter_the_page():
    exif = Image.Exif()
    exif[0x010E] = "Patient Jane Roe"
    content = encoded(Image.new("L", (64, 64)), "JPEG", exif=exif, comment=b"Jane Roe")
    assert b"Jane Roe" in content
    assert b"Jane Roe" not in base64.b64decode(data_url(content).partition(",")[2])


@pytest.mark.parametrize("content", [None, b"", b"no picture", encoded(Image.new("L", (8, 8)), "BMP")])
def test_what_is_no_jpeg_or_png_has_no_thumbnail(content):
    assert data_url(content) is None


def test_a_truncated_file_has_no_thumbnail():
    content = encoded(Image.effect_noise((64, 64), 50), "PNG")
    assert data_url(content[: len(content) // 2]) is None
