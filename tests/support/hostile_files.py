"""Files that are meant to hurt whoever opens them, by seed, and what each must count as."""

import gzip
import io
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from tests.support.medical import DEFLATED, LITTLE, dicom, nifti, ramp

GOOD = "good"
MIB = 2**20
_JPEG, _J2K, _RLE = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.5"


class Maker:
    """Makes numbered files below a folder with a random generator of its own."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.rng, self.number = folder, np.random.default_rng(seed), 0

    def small(self, **elements: object) -> bytes:
        self.number += 1
        return dicom(ramp(), patient=f"H{self.number}", number=10_000 + self.number, **elements)

    def cut(self, data: bytes, low: float, high: float) -> bytes:
        return data[: int(len(data) * self.rng.uniform(low, high))]


def encapsulated(data: bytes, syntax: str, frame: bytes) -> bytes:
    """A DICOM file with one compressed frame in place of its pixels."""
    import pydicom
    from pydicom.encaps import encapsulate

    dataset = pydicom.dcmread(io.BytesIO(data))
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.PixelData = encapsulate([frame])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def zipped(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as out:
        for name, data in members.items():
            out.writestr(name, data)
    return stream.getvalue()


def nested_zip(data: bytes, depth: int) -> bytes:
    for level in range(depth):
        data = zipped({f"inner{level}.zip" if level else "a.dcm": data})
    return data


def jpeg(width: int, height: int, marker: int = 0xC0) -> bytes:
    """A JPEG that claims width x height, and ends."""
    header = struct.pack(">BHHB", 8, height, width, 1) + b"\x01\x11\x00"
    return b"\xff\xd8\xff" + bytes([marker]) + struct.pack(">H", len(header) + 2) + header + b"\xff\xd9"


def j2k(width: int, height: int) -> bytes:
    size = struct.pack(">HIIIIIIIIH", 0, width, height, 0, 0, width, height, 0, 0, 1) + b"\x07\x01\x01"
    return b"\xff\x4f\xff\x51" + struct.pack(">H", len(size) + 2) + size + b"\xff\xd9"


def deflate_bomb(maker: Maker) -> bytes:
    """A deflated dataset that ends in an element of a GiB of zeros."""
    import pydicom

    plain = maker.small()
    meta = pydicom.dcmread(io.BytesIO(plain)).file_meta
    meta.TransferSyntaxUID = DEFLATED
    out = io.BytesIO()
    pydicom.filewriter.write_file_meta_info(out, meta)
    machine = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    start = plain[plain.index(b"\x08\x00\x16\x00") :] + b"\xe0\x7f\x12\x00OB\0\0" + struct.pack("<I", 2**30)
    # A block that was flushed whole refers to nothing before it, so it may be repeated.
    zeros = [machine.compress(data) + machine.flush(zlib.Z_FULL_FLUSH) for data in (start, bytes(MIB))]
    return bytes(128) + b"DICM" + out.getvalue() + zeros[0] + 1024 * zeros[1] + machine.flush()


@cache
def zip_bomb() -> bytes:
    return zipped({"bomb.dcm": bytes(128) + b"DICM" + bytes(64 * MIB)})


@cache
def inner_zip_bomb() -> bytes:
    return zipped({"inner.zip": zipped({"zeros.dcm": bytes(64 * MIB)})})


@cache
def gzip_bomb() -> bytes:
    return gzip.compress(bytes(128 * MIB))


def nested_sequences(maker: Maker, depth: int = 20_000) -> bytes:
    item = b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    sequence = b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff"
    data = maker.small()
    at = data.index(b"\x08\x00\x60\x00")
    return data[:at] + (sequence + item) * depth + data[at:]


def absurd_length(maker: Maker) -> bytes:
    data = maker.small()
    at = data.index(b"\x10\x00\x10\x00PN")
    return data[:at] + b"\x10\x00\x10\x00UN\0\0" + struct.pack("<I", 0xFFFFFFF0) + data[at + 8 :]


DICOM_FILES: list[tuple[str, Callable[[Maker], bytes], str]] = [
    ("cut-header.dcm", lambda m: m.small()[: m.small().index(b"\x10\x00\x20\x00") + 5], "no_pixels"),
    ("cut-pixels.dcm", lambda m: m.cut(m.small(), 0.6, 0.95), "truncated"),
    ("empty.dcm", lambda m: b"", "empty"),
    ("noise.dcm", lambda m: m.rng.bytes(int(m.rng.integers(1, 5000))), "not_an_image"),
    ("mark-and-noise.dcm", lambda m: bytes(128) + b"DICM" + b"\xff" * 4 + m.rng.bytes(3000), "not_an_image"),
    ("page.dcm", lambda m: b"<html>404</html>" * 50, "not_an_image"),
    ("vast.dcm", lambda m: m.small(Rows=65535, Columns=65535), "too_large"),
    ("flat.dcm", lambda m: m.small(Rows=0), "no_pixels"),
    ("frames.dcm", lambda m: m.small(NumberOfFrames=2**31 - 1), "too_many_frames"),
    (
        "more-frames.dcm",
        lambda m: m.small(NumberOfFrames=19_999, Rows=1, Columns=1, BitsAllocated=8)[:1000],
        "too_many_frames",
    ),
    ("length.dcm", absurd_length, "no_pixels"),
    ("deflated.dcm", deflate_bomb, "too_large"),
    ("sequences.dcm", nested_sequences, "corrupt"),
    ("jpeg.dcm", lambda m: encapsulated(m.small(), _JPEG, jpeg(60000, 60000)), "corrupt"),
    ("jpeg-noise.dcm", lambda m: encapsulated(m.small(), _JPEG, b"\xff\xd8\xff\xd8" + m.rng.bytes(500)), "corrupt"),
    ("jpeg-ls.dcm", lambda m: encapsulated(m.small(), "1.2.840.10008.1.2.4.80", jpeg(65000, 65000, 0xF7)), "corrupt"),
    (
        "jpeg-ls-noise.dcm",
        lambda m: encapsulated(m.small(), "1.2.840.10008.1.2.4.80", b"\xff\xd8" + m.rng.bytes(400)),
        "corrupt",
    ),
    (
        "lossless-noise.dcm",
        lambda m: encapsulated(m.small(), "1.2.840.10008.1.2.4.70", b"\xff\xd8" + m.rng.bytes(400)),
        "corrupt",
    ),
    ("j2k.dcm", lambda m: encapsulated(m.small(), _J2K, j2k(2**31, 2**31)), "corrupt"),
    ("j2k-noise.dcm", lambda m: encapsulated(m.small(), _J2K, j2k(32, 24)[:-2] + m.rng.bytes(300)), "corrupt"),
    (
        "rle.dcm",
        lambda m: encapsulated(m.small(), _RLE, struct.pack("<16I", 1, 64, *[0] * 14) + b"\x81\0" * MIB),
        "corrupt",
    ),
    ("rle-noise.dcm", lambda m: encapsulated(m.small(), _RLE, m.rng.bytes(300)), "corrupt"),
    ("no-frames.dcm", lambda m: encapsulated(m.small(), _J2K, b"\0\0"), "corrupt"),
    ("bits.dcm", lambda m: m.small(BitsAllocated=13), "corrupt"),
    ("slope.dcm", lambda m: m.small(RescaleSlope="nan", RescaleIntercept=0), "not_finite"),
    ("syntax.dcm", lambda m: m.small().replace(LITTLE.encode() + b"\0", b"1.2.840.10008.1.9.9\0"), "unsupported_mode"),
    ("report.dcm", lambda m: m.small(Rows=None, Columns=None), "no_pixels"),
    ("cut.zip", lambda m: m.cut(zipped({"a.dcm": m.small()}), 0.3, 0.8), "corrupt"),
    ("noise.zip", lambda m: b"PK\x03\x04" + m.rng.bytes(900), "corrupt"),
    ("up.zip", lambda m: zipped({"../../up.dcm": m.small()}), "unsafe_name"),
    ("root.zip", lambda m: zipped({"/etc/passwd": m.small()}), "unsafe_name"),
    ("drive.zip", lambda m: zipped({"C:\\x.dcm": m.small()}), "unsafe_name"),
    ("deep.zip", lambda m: nested_zip(m.small(), 5), "too_deep"),
    ("bomb.zip", lambda m: zip_bomb(), "not_an_image"),
    ("bombs.zip", lambda m: inner_zip_bomb(), "not_an_image"),
    ("locked.zip", lambda m: locked(zipped({"a.dcm": m.small()})), "unreadable"),
    ("page.zip", lambda m: zipped({"a.dcm": b"<html>"}), "not_an_image"),
    ("checksum.zip", lambda m: damaged(zipped({"a.dcm": m.small()})), "corrupt"),
]


def locked(data: bytes) -> bytes:
    """The archive with the flag of encryption set, in the local and the central header."""
    out = bytearray(data)
    out[6] |= 1
    out[data.index(b"PK\x01\x02") + 8] |= 1
    return bytes(out)


def damaged(data: bytes) -> bytes:
    out = bytearray(data)
    for at in range(60, 120):
        out[at] ^= 0xFF
    return bytes(out)


def png(width: int, height: int, rows: bytes = b"", extra: bytes = b"") -> bytes:
    """A grey PNG that claims width x height, with these packed rows and further chunks."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + extra + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")


@cache
def text_bomb() -> bytes:
    body = b"Comment\0\0" + zlib.compress(bytes(128 * MIB), 9)
    return struct.pack(">I", len(body)) + b"zTXt" + body + struct.pack(">I", zlib.crc32(b"zTXt" + body))


def picture(maker: Maker, kind: str, pixels: np.ndarray | None = None) -> bytes:
    stream = io.BytesIO()
    noise = maker.rng.integers(0, 256, (40, 40), dtype=np.uint8)
    Image.fromarray(noise if pixels is None else pixels).save(stream, kind)
    return stream.getvalue()


IMAGE_FILES: list[tuple[str, Callable[[Maker], bytes], str]] = [
    ("wide.png", lambda m: png(int(m.rng.integers(50_000, 2**31 - 1)), 60_000), "too_large"),
    ("dense.png", lambda m: png(30_000, 30_000, bytes(30_001 * 2000)), "too_large"),
    ("few-rows.png", lambda m: png(9000, 9000, bytes(9001 * 10)), GOOD),
    ("text.png", lambda m: png(8, 8, bytes(9 * 8), text_bomb()), "corrupt"),
    ("page.png", lambda m: b"<svg xmlns='http://www.w3.org/2000/svg'><script>0</script></svg>", "not_an_image"),
    ("entities.png", lambda m: b"<!DOCTYPE x [<!ENTITY a 'aaaa'>]><svg>&a;</svg>", "not_an_image"),
    ("jpeg.jpg", lambda m: jpeg(65_500, 65_500), "too_large"),
    ("cut.jpg", lambda m: m.cut(picture(m, "JPEG"), 0.6, 0.9), "truncated"),
    ("cut.png", lambda m: m.cut(picture(m, "PNG"), 0.2, 0.9), "truncated"),
    ("cut.tif", lambda m: m.cut(picture(m, "TIFF"), 0.2, 0.9), "truncated"),
    ("empty.png", lambda m: b"", "empty"),
    ("zeros.png", lambda m: bytes(10**6), "not_an_image"),
    ("noise.jpg", lambda m: b"\xff\xd8\xff\xe0" + bytes(1000) + b"\xff\xd9", "corrupt"),
    (
        "vast.bmp",
        lambda m: b"BM" + struct.pack("<IIIIiiHHIIIIII", 0, 0, 54, 40, 2**30, 2**30, 1, 24, *[0] * 6),
        "too_large",
    ),
    ("vast.gif", lambda m: b"GIF89a" + struct.pack("<HH", 65535, 65535) + b"\0\0\0;", "truncated"),
    ("noise.webp", lambda m: b"RIFF" + struct.pack("<I", 200) + b"WEBPVP8 " + bytes(192), "corrupt"),
    ("nan.tif", lambda m: picture(m, "TIFF", np.full((20, 20), np.nan, np.float32)), "corrupt"),
    ("archive.png", lambda m: zipped({"a.png": picture(m, "PNG")}), "not_an_image"),
    ("volume.png", lambda m: nifti(np.ones((3, 3, 3), np.int16)), "not_an_image"),
]


def broken_header(field: str, value: object, voxels: np.ndarray | None = None) -> bytes:
    """A volume whose header has another value in one field."""
    import nibabel

    image = nibabel.Nifti1Image(np.ones((3, 3, 3), np.int16) if voxels is None else voxels, np.eye(4))
    data = bytearray(image.to_bytes())
    header = nibabel.Nifti1Header(bytes(data[:348]), check=False)
    header[field] = value
    data[:348] = header.binaryblock
    return gzip.compress(bytes(data))


def nan_voxels(maker: Maker) -> bytes:
    voxels = maker.rng.normal(size=(3, 3, 3)).astype(np.float32)
    voxels[range(3), range(3), range(3)] = np.nan  # one in each slice of each plane
    return nifti(voxels)


VOLUME_FILES: list[tuple[str, Callable[[Maker], bytes], Counter[str]]] = [
    ("nan", nan_voxels, Counter(not_finite=9)),
    ("infinite", lambda m: broken_header("scl_slope", np.inf), Counter(good=9)),
    ("cut", lambda m: nifti(m.rng.normal(size=(3, 3, 3)).astype(np.float64))[:-60], Counter(truncated=9)),
    ("cut-header", lambda m: nifti(np.ones((3, 3, 3), np.int16))[:30], Counter({"volume truncated": 1})),
    ("checksum", lambda m: nifti(np.ones((3, 3, 3), np.int16))[:-8] + bytes(8), Counter(good=9)),
    ("empty", lambda m: b"", Counter({"volume empty": 1})),
    ("no-voxels", lambda m: broken_header("dim", [3, 0, 3, 3, 1, 1, 1, 1]), Counter({"volume empty": 1})),
    ("negative", lambda m: broken_header("dim", [3, -3, 3, 3, 1, 1, 1, 1]), Counter({"volume corrupt": 1})),
    ("vast", lambda m: broken_header("dim", [3, 32767, 32767, 32767, 1, 1, 1, 1]), Counter({"volume too_large": 1})),
    ("axes", lambda m: broken_header("dim", [99, 3, 3, 3, 1, 1, 1, 1]), Counter({"volume unsupported_mode": 1})),
    ("films", lambda m: broken_header("dim", [4, 3, 3, 3, 30_000, 1, 1, 1]), Counter({"volume unsupported_mode": 1})),
    ("offset", lambda m: broken_header("vox_offset", 1e9), Counter({"volume corrupt": 1})),
    ("nan-offset", lambda m: broken_header("srow_x", [np.nan, 0, 0, 0]), Counter({"volume corrupt": 1})),
    ("singular", lambda m: broken_header("srow_x", [0, 0, 0, 0]), Counter({"volume corrupt": 1})),
    ("type", lambda m: broken_header("datatype", 1792), Counter({"volume unsupported_mode": 1})),
    ("unknown-type", lambda m: broken_header("datatype", 7), Counter({"volume corrupt": 1})),
    ("needle", lambda m: broken_header("srow_z", [0, 0, 1e6, 0]), Counter(too_large=6, good=3)),
    ("noise", lambda m: gzip.compress(m.rng.bytes(2000)), Counter({"volume not_an_image": 1})),
    ("bomb", lambda m: gzip_bomb(), Counter({"volume not_an_image": 1})),
    ("page", lambda m: b"<html>", Counter({"volume not_an_image": 1})),
]
