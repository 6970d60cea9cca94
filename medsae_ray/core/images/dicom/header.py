"""The parts of a DICOM header in a manifest row: identifiers, and metadata in a closed vocabulary.

A header's texts are typed by people and may hold anything, names too. So metadata is never a text of the header but a
word of the tables below, a number, or null.
"""

import re
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from medsae_ray.core.images.dicom.numbers import whole
from medsae_ray.core.images.dicom.parse import parse
from medsae_ray.errors import ImageError

if TYPE_CHECKING:
    from pydicom import Dataset

HEAD = 2**21
"""The bytes of a file that are read for its header; elements beyond count as absent. Parsing takes a second per MiB of
elements of no length, as an archive of zeros unpacks to."""
_FIRST = 2**16  # bytes that nearly always hold all TAGS
MAX_FRAMES = 20_000
TAGS = (
    *("SOPInstanceUID", "SOPClassUID", "StudyInstanceUID", "PatientID", "IssuerOfPatientID", "PatientSex"),
    *("PatientAge", "PatientBirthDate", "StudyDate", "Modality", "Manufacturer", "BodyPartExamined", "ViewPosition"),
    *("Rows", "Columns", "NumberOfFrames"),
)
MODALITIES = (
    *("CR", "CT", "DX", "ES", "IO", "IVUS", "MG", "MR", "NM", "OCT", "OP", "OPT", "PT", "PX", "RF", "RG", "SC", "SM"),
    *("US", "XA", "XC"),
)
VIEWS = {
    **{view: view for view in ("PA", "AP", "LL", "RL", "RLD", "LLD", "RLO", "LLO", "CC", "MLO", "ML", "LM", "XCCL")},
    "LATERAL": "LATERAL",
    "LAT": "LATERAL",
    "OBLIQUE": "OBLIQUE",
}
BODY_PARTS = (
    *("ABDOMEN", "ANKLE", "ARM", "BRAIN", "BREAST", "CHEST", "CSPINE", "ELBOW", "EXTREMITY", "EYE", "FEMUR", "FINGER"),
    *("FOOT", "FOREARM", "HAND", "HEAD", "HEART", "HIP", "JAW", "KIDNEY", "KNEE", "LEG", "LIVER", "LSPINE", "LUNG"),
    *("NECK", "PELVIS", "PROSTATE", "RIB", "SHOULDER", "SKULL", "SPINE", "THIGH", "THORAX", "TSPINE", "WHOLEBODY"),
    "WRIST",
)
MAKERS = {
    "ge medical": "GE",
    "ge healthcare": "GE",
    "general electric": "GE",
    "gems": "GE",
    "siemens": "Siemens",
    "philips": "Philips",
    "toshiba": "Canon",
    "canon": "Canon",
    "fuji": "Fujifilm",
    "hitachi": "Hitachi",
    "agfa": "Agfa",
    "carestream": "Carestream",
    "kodak": "Carestream",
    "konica": "Konica",
    "shimadzu": "Shimadzu",
    "hologic": "Hologic",
    "lorad": "Hologic",
    "samsung": "Samsung",
    "varian": "Varian",
    "mindray": "Mindray",
}
"""A word of a manufacturer's name -> manufacturer."""
METADATA = ("view", "sex", "age", "modality", "manufacturer", "body_part")


class Header(NamedTuple):
    """The identifiers of a file, which must not be stored unhashed, and its metadata, which may."""

    instance: str
    study: str
    patient: str
    """The issuer and the patient's number; empty if the file names none."""
    frames: int
    metadata: tuple[str | None, ...]
    """The metadata in the order of METADATA."""


def read_header(read: Callable[[int], bytes], size: int) -> Header:
    """Read the header of a file of `size` bytes; `read` returns its first n bytes, or all.

    Raises ImageError, also for no_pixels and too_many_frames.
    """
    try:
        dataset = _parsed(read)
        return _header(dataset, size)
    except ImageError:
        raise
    except Exception as error:  # values that do not parse as their type
        raise ImageError("corrupt", f"{type(error).__name__} in the header") from error


def _parsed(read: Callable[[int], bytes]) -> "Dataset":
    """Parse the head. Elements are in the order of tags, of which Columns is the last: a head with it is whole."""
    head = read(_FIRST)
    with suppress(ImageError):  # an element that is cut may fail to parse
        dataset = parse(head, TAGS, _FIRST)
        if "Columns" in dataset or len(head) < _FIRST:
            return dataset
    return parse(read(HEAD), TAGS, HEAD)


def _header(dataset: "Dataset", size: int) -> Header:
    if not any(tag in dataset for tag in TAGS):
        raise ImageError("not_an_image", "no element of a header")
    if not (whole(dataset, "Rows") and whole(dataset, "Columns")):
        # A header that ends before its pixels' size was cut; one that goes on has no pixels, as a report has none.
        raise ImageError("no_pixels", "no Rows and Columns")
    frames = whole(dataset, "NumberOfFrames") or 1
    if not 1 <= frames <= min(MAX_FRAMES, max(size, 1)):
        raise ImageError("too_many_frames", f"{frames} frames in {size} bytes, at most {MAX_FRAMES}")
    patient = _text(dataset, "PatientID")
    issuer = _text(dataset, "IssuerOfPatientID")
    return Header(
        instance=_text(dataset, "SOPInstanceUID"),
        study=_text(dataset, "StudyInstanceUID"),
        patient=f"{issuer}\0{patient}" if patient else "",
        frames=frames,
        metadata=_metadata(dataset),
    )


def _metadata(dataset: "Dataset") -> tuple[str | None, ...]:
    modality = _text(dataset, "Modality").upper()
    maker = _text(dataset, "Manufacturer").lower()
    view = _text(dataset, "ViewPosition").upper()
    sex = _text(dataset, "PatientSex").upper()[:1]
    part = re.sub(r"[^A-Z]", "", _text(dataset, "BodyPartExamined").upper())
    return (
        VIEWS.get(view, "other") if view else None,
        sex if sex in ("F", "M", "O") else None,
        _age(dataset),
        (modality if modality in MODALITIES else "other") if modality else None,
        next((known for word, known in MAKERS.items() if word in maker), "other") if maker else None,
        (part if part in BODY_PARTS else "other") if part else None,
    )


def _age(dataset: "Dataset") -> str | None:
    """Return whole years: of PatientAge ("045Y", "018M", ...), or from birth to study. At most 90, as HIPAA asks."""
    given = re.fullmatch(r"(\d{1,3})([DWMY])", _text(dataset, "PatientAge").upper())
    if given:
        years = int(given[1]) // {"D": 365, "W": 52, "M": 12, "Y": 1}[given[2]]
    else:
        dates = [_text(dataset, tag) for tag in ("PatientBirthDate", "StudyDate")]
        if not all(re.fullmatch(r"\d{8}", date) for date in dates):
            return None
        years = (int(dates[1]) - int(dates[0])) // 10_000
    return str(min(years, 90)) if 0 <= years <= 130 else None


def _text(dataset: "Dataset", tag: str) -> str:
    value: Any = dataset.get(tag)
    return "" if value is None else str(value).strip(" \0\t\r\n")
