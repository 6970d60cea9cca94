"""The way from bytes to a pydicom dataset, within bounds, and without a word of the file in a warning or a log."""

import io
import logging
import warnings
import zlib
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from medsae_ray.core.images.archives import MAX_FILE
from medsae_ray.errors import DatasetError, ImageError

if TYPE_CHECKING:
    from pydicom import Dataset

MAX_INFLATED = 2**27  # bytes of a deflated dataset
_DEFLATED = "1.2.840.10008.1.2.1.99"
_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
_PREAMBLE = 128


def library() -> Any:
    """Import pydicom where it is first needed, and keep it from quoting what it reads.

    Its warnings and log lines quote values ("Invalid value for VR UI: ...") and would carry names into logs. The end of
    any block of catch_warnings undoes filters, so they are set again each time.
    """
    warnings.filterwarnings("ignore", module=r"pydicom(\.|$)")
    return _library()


@lru_cache
def _library() -> Any:
    try:
        import pydicom
    except ImportError as error:
        raise DatasetError('DICOM files need pydicom and its decoders: pip install "medsae-ray[dicom]"') from error
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    pydicom.config.logger.addHandler(logging.NullHandler())
    pydicom.config.logger.propagate = False
    return pydicom


def looks_like_dicom(head: bytes) -> bool:
    """Return True for "DICM" after the preamble, or, as in older files, a group 2 or 8 element at the start."""
    return head[128:132] == b"DICM" or head[:4] in _FIRST_TAGS


_FIRST_TAGS = {
    *(b"\x02\x00" + element for element in (b"\x00\x00", b"\x01\x00", b"\x02\x00", b"\x10\x00")),
    *(b"\x08\x00" + element for element in (b"\x00\x00", b"\x01\x00", b"\x05\x00", b"\x08\x00", b"\x16\x00")),
    *(b"\x00\x08" + element for element in (b"\x00\x00", b"\x00\x05", b"\x00\x08", b"\x00\x16")),
}


def parse(data: bytes, tags: Sequence[str] | None = None, most: int = MAX_INFLATED) -> "Dataset":
    """Parse the dataset in `data`, or only its elements `tags`; a cut file gives the elements before the cut.

    Raises ImageError: not_an_image, corrupt, too_large (more than `most` bytes when inflated).
    """
    pydicom = library()
    if not data:
        raise ImageError("empty", "the file has 0 bytes")
    if not looks_like_dicom(data):
        raise ImageError("not_an_image", "neither the mark of DICOM nor an element of its first groups")
    try:
        options = {"stop_before_pixels": True, "specific_tags": list(tags)} if tags else {}
        dataset: Dataset = pydicom.dcmread(io.BytesIO(_inflated(data, most, cut=bool(tags))), force=True, **options)
        return dataset
    except ImageError:
        raise
    except Exception as error:  # struct.error, ValueError, NotImplementedError, RecursionError, OverflowError, ...
        raise ImageError("corrupt", f"{type(error).__name__} in the header") from error


def _inflated(data: bytes, most: int, cut: bool) -> bytes:
    """Return a deflated file inflated, any other unchanged.

    pydicom would inflate all of it, without a bound. `cut` keeps the first `most` bytes of a larger one.
    """
    if data[_PREAMBLE : _PREAMBLE + 4] != b"DICM" or _DEFLATED.encode() not in data[: 2**12]:
        return data
    pydicom = library()
    stream = io.BytesIO(data)
    stream.seek(_PREAMBLE + 4)
    meta = pydicom.filereader.read_dataset(
        stream, is_implicit_VR=False, is_little_endian=True, stop_when=lambda tag, vr, length: tag.group != 2
    )
    if meta.get("TransferSyntaxUID") != _DEFLATED:
        return data
    machine = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        body = machine.decompress(data[stream.tell() :], min(most, MAX_FILE))
    except zlib.error as error:
        raise ImageError("corrupt", "a deflated dataset that does not inflate") from error
    if machine.unconsumed_tail and not cut:
        raise ImageError("too_large", f"a deflated dataset of more than {most} bytes")
    out = io.BytesIO()
    pydicom.filewriter.write_file_meta_info(out, _as_plain(meta), enforce_standard=False)
    return bytes(_PREAMBLE) + b"DICM" + out.getvalue() + body


def _as_plain(meta: Any) -> Any:
    plain = library().dataset.FileMetaDataset()
    plain.TransferSyntaxUID = _LITTLE_ENDIAN
    plain.FileMetaInformationGroupLength = 0
    return plain
