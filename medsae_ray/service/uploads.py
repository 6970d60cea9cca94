"""Request bodies -> images and texts. Images come as bytes; no input is taken for a path or URL."""

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace

from fastapi import Request
from PIL import Image
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from medsae_ray.core.images.dicom import looks_like_dicom
from medsae_ray.core.images.formats import claimed_pixels
from medsae_ray.core.images.reader import ImageRules, Reading
from medsae_ray.errors import DatasetError, ImageError
from medsae_ray.service.errors import Problem, of_image
from medsae_ray.service.limits import RequestLimits

RAW = ("image/png", "image/jpeg", "application/dicom")
_ALIASES = ("image/jpg", "image/pjpeg", "image/x-png")
"""The clients' other names of these types; only the bytes decide in any case."""
FORM = "multipart/form-data"
_MAGIC = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")


@dataclass(frozen=True)
class Uploads:
    """The decoding of uploaded images: as the run decodes its own, within the service's bounds."""

    reading: Reading
    budget: "Budget"

    @classmethod
    def of(cls, rules: ImageRules, limits: RequestLimits, budget: "Budget", side: int | None = None) -> "Uploads":
        """Make it from the recipe's `rules`; `side` is that of `Reading.of`."""
        reading = Reading.of(rules, side)
        return cls(replace(reading, max_pixels=min(reading.max_pixels, limits.pixels)), budget)

    def image(self, data: bytes, where: str) -> Image.Image:
        """Decode an image in mode L or RGB. Problem for anything but a whole PNG, JPEG or DICOM file."""
        if data and not (data.startswith(_MAGIC) or looks_like_dicom(data)):
            raise Problem(415, "image_not_an_image", "only PNG, JPEG and DICOM images are read", where)
        try:
            with self.budget.spent(claimed_pixels(data) or self.budget.pixels // 2):
                return self.reading.decoded(data)
        except ImageError as error:
            raise of_image(error, where) from None
        except DatasetError as error:
            raise Problem(415, "image_not_an_image", str(error), where) from None


class Budget:
    """The pixels that all threads decode at once: large images wait for each other, and small ones pass beside them."""

    def __init__(self, pixels: int) -> None:
        self.pixels, self.left, self._change = pixels, pixels, threading.Condition()

    @contextlib.contextmanager
    def spent(self, pixels: int) -> Iterator[None]:
        """Hold a share for the block, at most all."""
        pixels = min(pixels, self.pixels)
        with self._change:
            self._change.wait_for(lambda: self.left >= pixels)
            self.left -= pixels
        try:
            yield
        finally:
            with self._change:
                self.left += pixels
                self._change.notify_all()


@dataclass(frozen=True)
class Multipart:
    """A multipart body in memory: files and texts by field, in the order sent."""

    files: dict[str, list[bytes]]
    texts: dict[str, list[str]]


class _InMemory(MultiPartParser):
    """A parser that writes no patients' images to a temporary file. The body is bounded already."""

    spool_max_size = 2**40
    ended = False
    """True once the boundary that ends the body has come."""

    def on_end(self) -> None:
        self.ended = True


async def image_bytes(request: Request, limits: RequestLimits) -> bytes:
    """Return the one image of a request: its body, or the part `image` of a multipart body."""
    kind = _kind(request)
    if kind in (*RAW, *_ALIASES):
        return await request.body()
    if kind != FORM:
        raise Problem(415, "wrong_content_type", f"Content-Type is one of {', '.join((*RAW, FORM))}")
    form = await read_form(request, limits, files=("image",))
    return only(form.files["image"], "image")


async def read_form(
    request: Request, limits: RequestLimits, files: tuple[str, ...] = (), texts: tuple[str, ...] = ()
) -> Multipart:
    """Read a multipart body with these fields and no others. Problem for anything else."""
    if _kind(request) != FORM:
        raise Problem(415, "wrong_content_type", f"Content-Type is {FORM}")
    form = Multipart({name: [] for name in files}, {name: [] for name in texts})
    for name, value in await _parse(request, limits):
        if isinstance(value, UploadFile) and name in form.files:
            form.files[name].append(await value.read())
        elif isinstance(value, str) and name in form.texts:
            form.texts[name].append(value)
        else:
            allowed = [*(f"{field} (a file)" for field in files), *(f"{field} (a text)" for field in texts)]
            raise Problem(422, "unknown_part", f"the parts are {', '.join(allowed)}", "body")
    return form


async def _parse(request: Request, limits: RequestLimits) -> list[tuple[str, UploadFile | str]]:
    most = {"max_files": limits.parts, "max_fields": limits.parts, "max_part_size": 4 * limits.text}
    try:
        parser = _InMemory(request.headers, request.stream(), **most)
        parsed = await parser.parse()
    except (Problem, ClientDisconnect):
        raise
    except MultiPartException as error:
        raise Problem(400, "bad_multipart", error.message, "body") from None
    except Exception as error:  # the parser is fed with bytes of any kind, and raises KeyError, UnicodeError, ...
        raise Problem(400, "bad_multipart", f"the multipart body cannot be read ({type(error).__name__})") from None
    if not parser.ended:
        raise Problem(400, "bad_multipart", "the body ends early: the boundary that ends it is missing", "body")
    return [(name.removesuffix("[]"), value) for name, value in parsed.multi_items()]


def only(found: list[bytes], where: str) -> bytes:
    """Return the one file of an upload. Problem if there is none or more than one."""
    if len(found) != 1:
        raise Problem(422, "invalid", f"{len(found)} files were sent, exactly one is needed", where)
    return found[0]


def _kind(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()
