"""The frames of a DICOM file as 8-bit images.

Stored values -> modality transform (LUT or rescale slope and intercept) -> window -> 0..255, MONOCHROME1 inverted,
padding black:

| `window` | black and white |
|---|---|
| header | the file's VOI LUT, or the first usable of its windows (linear, linear exact, sigmoid); without any, minmax |
| minmax | the frame's least and greatest value, padding pixels left out |

Per-frame and shared functional groups of enhanced multi-frame files are read. Colour becomes RGB: YBR, palettes,
planar and interleaved, subsampled. Legend: H, W rows and columns.
"""

import hashlib

import numpy as np
from PIL import Image

from medsae_ray.core.images.dicom.grey import Greys, GreyValues
from medsae_ray.core.images.dicom.luts import coloured
from medsae_ray.core.images.dicom.numbers import whole
from medsae_ray.core.images.dicom.parse import library, parse
from medsae_ray.core.images.dicom.streams import check_rle, check_size, j2k_is_rgb, jpeg_colours
from medsae_ray.core.images.notes import noted
from medsae_ray.errors import ImageError

WINDOWS = ("header", "minmax")
_BASELINE = "1.2.840.10008.1.2.4.50"
"""The transfer syntax of JPEG of 8 bits."""
_PLUGINS = {
    # One decoder each, by name, so that other installed decoders change nothing. GDCM is not among them: damaged
    # lossless JPEG ends the process (gdcm::Exception, python-gdcm 3.2.6).
    "1.2.840.10008.1.2.5": "pydicom",  # RLE
    _BASELINE: "pillow",
    **dict.fromkeys(("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81"), "pyjpegls"),
    **dict.fromkeys((f"1.2.840.10008.1.2.4.{n}" for n in (90, 91, 201, 202, 203)), "pylibjpeg"),  # JPEG 2000
}
_TURBO = ("1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70")
"""The transfer syntaxes of JPEG of 12 bits and lossless JPEG, for libjpeg-turbo 3 in imagecodecs."""
_RLE = "1.2.840.10008.1.2.5"
_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_WHOLE = (
    *("Rows", "Columns", "SamplesPerPixel", "PlanarConfiguration"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
)


def pixel_digest(data: bytes) -> str:
    """Return the SHA-256 of a DICOM file's stored pixels. Raises ImageError if it cannot be parsed."""
    dataset, total = parse(data), hashlib.sha256()
    for tag in ("Rows", "Columns", *_PIXELS):
        if tag in dataset:
            value = dataset[tag].value
            total.update(value if isinstance(value, bytes) else str(value).encode())
    return total.hexdigest()


class Dicom:
    """The frames of one file. Raises ImageError if it cannot be parsed or has no pixels."""

    def __init__(self, data: bytes, *, max_pixels: int, window: str = "header") -> None:
        if window not in WINDOWS:
            raise ValueError(f"window is {window!r}; it may be one of {', '.join(WINDOWS)}")
        self.dataset, self.window = parse(data), window
        try:
            self._tidy()
            self.rows, self.columns = (whole(self.dataset, side) or 0 for side in ("Rows", "Columns"))
            self.frames = whole(self.dataset, "NumberOfFrames") or 1
            self.little = self.dataset.original_encoding[1] is not False
            self._check(max_pixels)
        except ImageError:
            raise
        except Exception as error:
            raise ImageError("corrupt", f"{type(error).__name__} in the header") from error

    def image(self, frame: int = 0) -> Image.Image:
        """Return frame `frame` (from 0) of mode L or RGB. Raises ImageError if it cannot be decoded."""
        try:
            with np.errstate(all="ignore"):
                return self._image(frame)
        except ImageError:
            raise
        except Exception as error:  # decoders raise RuntimeError, ValueError, AttributeError, NotImplementedError, ...
            raise ImageError(self._fault(error), f"{type(error).__name__} in the pixels") from error

    def values(self, frame: int = 0) -> GreyValues | None:
        """Return the measured values of a grey frame of more than 8 bits; None for others. Raises ImageError."""
        pixels, greys = self._decoded(frame), Greys(self.dataset, self.window, self.little)
        if pixels.ndim == 3 or self.dataset.PhotometricInterpretation == "PALETTE COLOR" or greys.bits <= 8:
            return None
        return greys.values(pixels, frame)

    def _image(self, frame: int) -> Image.Image:
        pixels, greys = self._decoded(frame), Greys(self.dataset, self.window, self.little)
        if pixels.ndim == 3:
            image = Image.fromarray(self._colour(pixels))
        elif self.dataset.PhotometricInterpretation == "PALETTE COLOR":
            image = Image.fromarray(coloured(pixels, self.dataset, self.little, greys.stored))
        else:
            image = Image.fromarray(greys.shown(pixels, frame))
        return noted(image, {"odd_number": greys.odd})

    def _tidy(self) -> None:
        """Set the elements that decoders read to the types that they expect."""
        for tag in _WHOLE:
            if (found := whole(self.dataset, tag)) is not None:
                self.dataset.add_new(tag, "US", found)
        said = str(self.dataset.get("PhotometricInterpretation") or "")
        self.dataset.PhotometricInterpretation = said.strip(" \0").upper()

    def _check(self, max_pixels: int) -> None:
        dataset = self.dataset
        if not any(tag in dataset for tag in _PIXELS):
            raise ImageError("no_pixels" if "Rows" not in dataset else "truncated", "no pixel data")
        if not (self.rows and self.columns):
            raise ImageError("empty", f"{self.rows} x {self.columns} pixels")
        if self.rows * self.columns > max_pixels:
            raise ImageError(
                "too_large", f"the header claims {self.columns} x {self.rows} pixels, at most {max_pixels} are read"
            )
        if "TransferSyntaxUID" not in dataset.file_meta:
            # A file without it has the standard's default, or the syntax of its first element.
            implicit, little = dataset.original_encoding
            kind = "ImplicitVRLittleEndian" if implicit else f"ExplicitVR{'Little' if little else 'Big'}Endian"
            dataset.file_meta.TransferSyntaxUID = getattr(library().uid, kind)

    def _decoded(self, frame: int) -> np.ndarray:
        """Return stored values [H, W], or colours [H, W, 3]."""
        syntax = self.dataset.file_meta.TransferSyntaxUID
        if not syntax.is_transfer_syntax or syntax.is_private:
            raise ImageError("unsupported_mode", "an unknown transfer syntax")
        if not 0 <= frame < self.frames:
            raise ImageError("missing", f"frame {frame} of {self.frames}")
        if not syntax.is_encapsulated:
            pixels = self._plain(frame)
        elif syntax in _TURBO or (syntax == _BASELINE and self.dataset.SamplesPerPixel == 3):
            pixels = self._turbo(self._frame(syntax, frame), lossy=syntax in (_BASELINE, _TURBO[0]))
        elif syntax in _PLUGINS:
            rgb = {"photometric_interpretation": "RGB"} if j2k_is_rgb(self._frame(syntax, frame)) else {}
            pixels = library().pixels.pixel_array(self.dataset, index=frame, decoding_plugin=_PLUGINS[syntax], **rgb)
        else:
            raise ImageError("unsupported_mode", "a transfer syntax that is not read")
        if pixels.shape[:2] != (self.rows, self.columns):
            raise ImageError("corrupt", f"{list(pixels.shape)} pixels, but {self.rows} x {self.columns} in the header")
        return pixels

    def _plain(self, frame: int) -> np.ndarray:
        """Return an uncompressed frame. Values may lie at the upper end of their words by HighBit, which is ignored, as
        decoders do, where they lie at the lower end."""
        stored, spare = self._bits()
        if spare <= 0:
            return np.asarray(library().pixels.pixel_array(self.dataset, index=frame))
        self.dataset.BitsStored = stored + spare
        try:
            high: np.ndarray = library().pixels.pixel_array(self.dataset, index=frame)
        finally:
            self.dataset.BitsStored = stored
        beyond = (high >= 2**stored).any() or int(high.min()) < -(2 ** (stored - 1))
        if beyond or not (high % 2**spare).any():
            return np.asarray(high >> spare)
        return np.asarray(library().pixels.pixel_array(self.dataset, index=frame))

    def _bits(self) -> tuple[int, int]:
        """Return the bits stored of a value, and the bits of its word below it by HighBit."""
        stored, allocated, last = (whole(self.dataset, tag) or 0 for tag in ("BitsStored", "BitsAllocated", "HighBit"))
        return stored, last + 1 - stored if stored and last < allocated else 0

    def _turbo(self, data: bytes, lossy: bool) -> np.ndarray:
        import imagecodecs

        if lossy and self.dataset.SamplesPerPixel == 3:
            stored = jpeg_colours(data, self.dataset.PhotometricInterpretation)
            space = {"RGB": "RGB", "YBR": "YCBCR"}[stored]
            return np.asarray(imagecodecs.jpeg8_decode(data, colorspace=space, outcolorspace="RGB"))
        pixels = np.asarray(imagecodecs.jpeg8_decode(data))
        if pixels.ndim == 3 and str(self.dataset.PhotometricInterpretation).startswith("YBR"):
            return np.asarray(library().pixels.convert_color_space(pixels, "YBR_FULL", "RGB"))
        if self.dataset.PixelRepresentation == 1:
            spare = 8 * pixels.dtype.itemsize - int(self.dataset.BitsStored)
            return (pixels << spare).view(f"i{pixels.dtype.itemsize}") >> spare
        return pixels

    def _frame(self, syntax: str, frame: int) -> bytes:
        """Return a compressed frame that does not claim to be larger than in the header."""
        data: bytes = library().encaps.get_frame(self.dataset.PixelData, frame, number_of_frames=self.frames)
        if syntax == _RLE:
            samples = int(self.dataset.SamplesPerPixel) * -(-int(self.dataset.BitsAllocated) // 8)
            check_rle(data, self.rows * self.columns * samples)
        else:
            check_size(data, self.rows, self.columns)
        return data

    def _colour(self, pixels_HWC: np.ndarray) -> np.ndarray:
        """Return uint8 [H, W, 3]; deeper colours are scaled by the stored bits."""
        colour = pixels_HWC[..., :3]
        if colour.shape[2] != 3:
            raise ImageError("unsupported_mode", f"{colour.shape[2]} samples per pixel")
        if colour.dtype == np.uint8:
            return np.ascontiguousarray(colour)
        bits = int(self.dataset.BitsStored)
        rgb: np.ndarray = np.rint(colour.astype(np.float64) * (255 / (2**bits - 1))).clip(0, 255).astype(np.uint8)
        return rgb

    def _fault(self, error: Exception) -> str:
        """Return truncated if there are fewer bytes than pixels, unsupported_mode without a decoder, else corrupt."""
        if isinstance(error, NotImplementedError) or "does not support" in str(error):
            return "unsupported_mode"
        if isinstance(error, EOFError) or "less than expected" in str(error):
            return "truncated"
        return "corrupt"
