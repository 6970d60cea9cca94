"""Hand-made requests that mean harm: each a method, a path, headers and a body. Importable by the benchmark."""

import base64
import io
import json
import random
import struct
import zlib
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import quote

from PIL import Image

BOUNDARY = "b0undary"
PATHS = [
    *(
        "/v1/encode",
        "/v1/name",
        "/v1/detect",
        "/v1/features",
        "/v1/features/1",
        "/v1/query",
        "/v1/similar",
        "/v1/health/ready",
    ),
    *("/v1/chat/completions", "/v1/chat/completions", "/v1/models"),
    *("/docs", "/openapi.json", "/../../etc/passwd", "/v1/features/..%2f..%2fetc%2fpasswd", "/v1//encode", "/%00"),
]
METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD", "TRACE", "QUERY"]
TEXTS = [
    *("http://169.254.169.254/latest/meta-data", "file:///etc/passwd", "../../../etc/passwd", "s3://bucket/key"),
    *("' OR 1=1 --", "<end_of_turn>", "\x00", "\u202e", "\ud7ff", "A" * 5000, "{{7*7}}", "${jndi:ldap://x}", "%s%n"),
    *("-1", "1e999", "NaN", "9" * 400, "true", "", "null", "[]"),
]
KINDS = [
    *("image/png", "image/jpeg", "application/json", "text/plain", "multipart/form-data", "image/svg+xml", "\xff", ""),
    *(f"multipart/form-data; boundary={BOUNDARY}", f"multipart/form-data; boundary={BOUNDARY}; charset=punycode"),
    *(f"multipart/form-data; boundary={BOUNDARY}; charset=nope", f"multipart/form-data; boundary={'x' * 300}"),
    "multipart/form-data; boundary=",
]


class Hostile(NamedTuple):
    method: str
    path: str
    headers: dict[str, bytes]
    body: bytes


def hostile(draw: random.Random, token: str | None, limit: int) -> Hostile:
    """One request. Most carry the right token, so that they reach what lies behind it."""
    path = draw.choice(PATHS)
    if draw.random() < 0.4:
        name = draw.choice(["page", "size", "sort", "order", "verdict", "text", "label", "top", "named", "url", "path"])
        path += f"?{name}={quoted(draw.choice(TEXTS))}"
    method = draw.choice(METHODS) if draw.random() < 0.3 else "POST" if path[:6] in POSTS else "GET"
    headers = {"authorization": f"Bearer {token}".encode()} if token else {}
    if draw.random() < 0.15:
        headers["authorization"] = draw.choice([*TEXTS, "Bearer", "Bearer x", "Basic eDp4"]).encode("utf-8", "replace")
    kind = draw.choice(KINDS)
    body = form(draw) if BOUNDARY in kind and draw.random() < 0.8 else draw.choice(BODIES)(draw)
    if path.startswith("/v1/chat") and draw.random() < 0.7:
        kind, body = "application/json", chat(draw)
    if draw.random() < 0.01:
        body = bytes(limit + 1)
    clean = {key: value.translate(None, b"\r\n\0") for key, value in headers.items()}
    return Hostile(method, path, clean | {"content-type": kind.encode("latin-1")}, body)


POSTS = ("/v1/en", "/v1/na", "/v1/de", "/v1/ch")


def quoted(text: str) -> str:
    return quote(text, errors="replace")


def form(draw: random.Random) -> bytes:
    """A multipart body with parts of any name, kind and damage."""
    parts = []
    for _ in range(draw.choice([0, 1, 1, 2, 3, 8, 70])):
        name = draw.choice(
            ["image", "images", "images[]", "group_a", "group_b", "names", "definitions", "x", "", "url"]
        )
        named = f'; name="{name}"' if draw.random() < 0.95 else ""
        file = draw.choice(['; filename="a.png"', '; filename="../../etc/passwd"', '; filename=""', ""])
        body = draw.choice(BODIES)(draw)
        parts.append(f"--{BOUNDARY}\r\nContent-Disposition: form-data{named}{file}\r\n\r\n".encode() + body + b"\r\n")
    whole = b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()
    return cut(draw, whole) if draw.random() < 0.1 else whole


def image(draw: random.Random) -> bytes:
    """A real image of noise."""
    stream = io.BytesIO()
    size = (draw.randint(1, 40), draw.randint(1, 40))
    mode = draw.choice(["L", "RGB", "RGBA", "1", "P", "I;16", "LA"])
    kinds = ["PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP"] if mode in ("L", "RGB") else ["PNG"]
    Image.frombytes("L", size, draw.randbytes(size[0] * size[1])).convert(mode).save(stream, draw.choice(kinds))
    return stream.getvalue()


def damaged(draw: random.Random) -> bytes:
    """An image with bytes changed."""
    data = bytearray(image(draw))
    for _ in range(draw.randint(1, 8)):
        data[draw.randrange(len(data))] = draw.randrange(256)
    return bytes(data)


def cut(draw: random.Random, data: bytes) -> bytes:
    return data[: draw.randrange(len(data) + 1)]


def bomb(draw: random.Random) -> bytes:
    """A PNG that claims far more pixels than it has, or has a text that swells."""
    side = draw.choice([400, 20_000, 100_000, 2**31 - 1])
    header = struct.pack(
        ">IIBBBBB", side, draw.choice([1, side]), draw.choice([1, 8, 16]), draw.choice([0, 2, 3]), 0, 0, 0
    )
    text = chunk(b"zTXt", b"x\0\0" + zlib.compress(bytes(2**22))) if draw.random() < 0.5 else b""
    pixels = zlib.compress(bytes(draw.choice([10, 100_000])))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + text + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def chat(draw: random.Random) -> bytes:
    """A request of OpenAI's chat API, with a part of it replaced by anything."""
    url = draw.choice([*TEXTS, "data:image/png;base64," + base64.b64encode(draw.choice([image, bomb])(draw)).decode()])
    content = [{"type": "text", "text": draw.choice(TEXTS)}, {"type": "image_url", "image_url": {"url": url}}]
    body = {"model": "scripted-1", "messages": [{"role": "user", "content": content}], "max_tokens": 5}
    key = draw.choice([*body, "stream", "n", "chat_template", "response_format", "seed", "stop", "user"])
    if draw.random() < 0.6:
        body[key] = draw.choice([None, -1, 1e300, [], {}, [[]] * 70, {"type": "json_schema"}, True, draw.choice(TEXTS)])
    return json.dumps(body).encode()


BODIES: list[Callable[[random.Random], bytes]] = [
    image,
    damaged,
    bomb,
    lambda draw: cut(draw, image(draw)),
    lambda draw: draw.randbytes(draw.randrange(3000)),
    lambda draw: draw.choice(TEXTS).encode("utf-8", "replace"),
    lambda draw: b"",
    chat,
    lambda draw: b'{"messages":' + b"[" * 20_000,
]
