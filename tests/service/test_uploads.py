"""Bytes that are no image, and bodies that are no form: refused with 4xx, in the one shape, at once."""

import io
import struct
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from medsae_ray.core.images.formats import claimed_pixels
from medsae_ray.service.uploads import Budget
from tests.service.conftest import Small

PNG = {"content-type": "image/png"}


def saved(pixels: np.ndarray, kind: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bomb(width: int, height: int) -> bytes:
    """A small file that claims a large image."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


SMALL = np.arange(256, dtype=np.uint8).reshape(16, 16)
REFUSED = [
    (b"", 422, "image_empty"),
    (b"not an image", 415, "image_not_an_image"),
    (b"http://169.254.169.254/latest/meta-data", 415, "image_not_an_image"),
    (b"file:///etc/passwd", 415, "image_not_an_image"),
    (b"../../../../etc/passwd", 415, "image_not_an_image"),
    (b"<svg><image href='http://localhost/'/></svg>", 415, "image_not_an_image"),
    (saved(SMALL, "TIFF"), 415, "image_not_an_image"),
    (saved(SMALL, "GIF"), 415, "image_not_an_image"),
    (saved(SMALL, "PNG")[:60], 422, "image_truncated"),
    (saved(SMALL, "JPEG")[:-200], 422, "image_truncated"),
    (saved(SMALL, "PNG").replace(b"IDAT", b"IDAX"), 422, None),
    (bomb(100_000, 100_000), 413, "image_too_large"),
    (bomb(2**31 - 1, 2**31 - 1), 413, "image_too_large"),
    (bomb(400, 400), 422, None),
]


@pytest.mark.parametrize(("data", "status", "code"), REFUSED)
def test_what_is_no_whole_small_png_or_jpeg_is_refused(
    client: TestClient, data: bytes, status: int, code: str | None
) -> None:
    raw = client.post("/v1/encode", content=data, headers=PNG)
    form = client.post("/v1/encode", files={"image": ("../../etc/passwd", data, "image/png")})
    assert (raw.status_code, form.status_code) == (status, status)
    assert raw.json() == form.json() and raw.json()["error"]["where"] == "image"
    assert code in (None, raw.json()["error"]["code"])


def test_every_kind_of_grey_and_colour_is_read(client: TestClient) -> None:
    for pixels in (SMALL, np.stack([SMALL] * 3, -1), SMALL.astype(np.uint16) * 16):
        assert client.post("/v1/encode", content=saved(pixels, "PNG"), headers=PNG).status_code == 200
    jpeg = client.post("/v1/encode", content=saved(SMALL, "JPEG"), headers={"content-type": "image/jpeg"})
    assert jpeg.status_code == 200


FORM = "multipart/form-data; boundary=b"
BODIES = [
    (None, b"x", 415),
    ("application/json", b'{"image": "http://localhost/x.png"}', 415),
    ("image/png, text/html", b"x", 415),
    ("multipart/form-data", b"x", 400),
    (FORM, b"no part at all", 400),
    (FORM, b'--b\r\nContent-Disposition: form-data; name="image"\r\n\r\n/etc/passwd\r\n--b--\r\n', 422),
    (FORM, b'--b\r\nContent-Disposition: form-data; name="url"; filename="x"\r\n\r\nx\r\n--b--\r\n', 422),
    (FORM, b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--\r\n", 400),
    (FORM, b'--b\r\nContent-Disposition: form-data; name="image"\r\n\r\n' + b"x" * 5000 + b"\r\n--b--\r\n", 400),
    (FORM, b'--b\r\nContent-Disposition: form-data; name="i"; filename="x"\r\n\r\nx\r\n' * 65 + b"--b--\r\n", 400),
    (FORM, b"--b--\r\n", 422),
    (
        "multipart/form-data; boundary=b; charset=punycode",
        b'--b\r\nContent-Disposition: form-data; name="\xff\xfe-"\r\n\r\n\xff\r\n--b--\r\n',
        4,
    ),
]


@pytest.mark.parametrize(("kind", "body", "status"), BODIES)
def test_a_body_of_another_form_is_refused(client: TestClient, kind: str | None, body: bytes, status: int) -> None:
    answer = client.post("/v1/encode", content=body, headers={"content-type": kind} if kind else {})
    assert answer.status_code == status or answer.status_code // 100 == status
    assert set(answer.json()["error"]) <= {"code", "message", "where"}


WHOLE = b'--b\r\nContent-Disposition: form-data; name="image"; filename="x"\r\n\r\nIMAGE\r\n--b--\r\n'


@pytest.mark.parametrize("kept", [0, 1, 20, 60, len(WHOLE) - 14, len(WHOLE) - 7, len(WHOLE) - 4])
def test_a_form_that_ends_early_is_told_so(client: TestClient, small: Small, kept: int) -> None:
    data = (small.images / "i0000.png").read_bytes()
    whole = WHOLE.replace(b"IMAGE", data)
    assert client.post("/v1/encode", content=whole, headers={"content-type": FORM}).status_code == 200
    cut = whole[: kept if kept < 61 else len(whole) - len(WHOLE) + kept]
    answer = client.post("/v1/encode", content=cut, headers={"content-type": FORM})
    assert answer.status_code == 400 and "ends early" in answer.json()["error"]["message"]


def test_a_form_without_a_boundary_is_told_so(client: TestClient) -> None:
    for boundary in ("", '""'):
        kind = f"multipart/form-data; boundary={boundary}"
        answer = client.post("/v1/encode", content=WHOLE, headers={"content-type": kind})
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad_multipart")


@pytest.mark.parametrize("kind", ["image/jpg", "IMAGE/JPEG", "image/pjpeg", "Image/X-PNG", "image/png ; a=b"])
def test_an_image_is_read_under_the_types_that_clients_write(client: TestClient, kind: str) -> None:
    data = saved(SMALL, "JPEG" if "j" in kind.lower() else "PNG")
    assert client.post("/v1/encode", content=data, headers={"content-type": kind}).status_code == 200


def test_two_images_are_refused_where_one_is_needed(client: TestClient, small: Small) -> None:
    data = (small.images / "i0000.png").read_bytes()
    answer = client.post("/v1/encode", files=[("image", data), ("image", data)])
    assert answer.status_code == 422 and "exactly one" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "path",
    [
        "/v1/features/-1",
        "/v1/features/99999999999999999999",
        "/v1/features/..%2f..%2fetc%2fpasswd",
        "/v1/features/1%00",
        "/v1/features?sort=__class__",
        "/v1/features?sort=feature;drop",
        "/v1/features?size=201",
        "/v1/features?page=0",
        "/v1/features?page=1e9",
        "/v1/features?verdict=other",
        "/v1/features?label=other",
        f"/v1/features?text={'x' * 101}",
        "/v1/encode",
        "/../../etc/passwd",
        "/static/../../etc/passwd",
        "/%2f%2fevil.example/",
    ],
)
def test_a_query_or_path_of_another_form_is_refused(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code in (404, 405, 422)
    assert set(answer.json()["error"]) <= {"code", "message", "where"}


@pytest.mark.parametrize("text", [".*", "(", "\\", "%", "'; --", "\x00", "é", "\ud7ff", "%ff"])
def test_a_text_is_not_a_pattern(client: TestClient, text: str) -> None:
    assert client.get("/v1/features", params={"text": text}).json()["total"] == 0


def test_large_images_wait_for_each_other_and_small_ones_do_not() -> None:
    budget, most = Budget(100), list[int]()
    both, held = threading.Event(), threading.Event()

    def decode(pixels: int) -> None:
        with budget.spent(pixels):
            most.append(budget.left)
            both.set() if pixels < 50 else held.wait(5)

    with ThreadPoolExecutor(3) as threads:
        first, second = threads.submit(decode, 60), threads.submit(decode, 60)
        assert threads.submit(decode, 10).result(5) is None and both.is_set()
        assert len(most) == 2 and not first.done() and not second.done()
        held.set()
    assert budget.left == 100 and min(most) >= 0
    with budget.spent(10**9):
        assert budget.left == 0


def test_the_pixels_that_a_file_claims_are_known_before_it_is_decoded() -> None:
    assert claimed_pixels(saved(SMALL, "PNG")) == claimed_pixels(saved(SMALL, "JPEG")) == SMALL.size
    assert claimed_pixels(bomb(100_000, 100_000)) == 10**10
    assert [claimed_pixels(data) for data in (b"", b"x", saved(SMALL, "PNG")[:12])] == [None] * 3
