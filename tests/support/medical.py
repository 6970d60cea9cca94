"""Medical files that tests make for themselves: DICOM files, and folders laid out like TotalSegmentator."""

import gzip
import io
from pathlib import Path
from typing import Any

import numpy as np

LITTLE, IMPLICIT, BIG = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"


def ramp(low: int = 0, high: int = 4095, dtype: Any = np.uint16, rows: int = 24, columns: int = 32) -> np.ndarray:
    """Values from `low` to `high`, left to right and top to bottom."""
    return np.linspace(low, high, rows * columns).reshape(rows, columns).astype(dtype)


def dicom(pixels: np.ndarray, syntax: str = LITTLE, patient: str = "P1", number: int = 1, **elements: Any) -> bytes:
    """A DICOM file of `pixels`: grey [H, W], [frames, H, W] with NumberOfFrames, or colour [H, W, 3]."""
    import pydicom
    from pydicom.uid import CTImageStorage

    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.4.{number}"
    dataset.StudyInstanceUID = f"1.2.3.{patient.encode().hex()[:12] and int(patient.encode().hex(), 16) % 10**9}"
    dataset.PatientID, dataset.PatientName, dataset.PatientSex, dataset.PatientAge = patient, "DOE^JANE", "F", "045Y"
    dataset.Modality, dataset.Manufacturer = "CT", "SIEMENS Healthineers"
    dataset.BodyPartExamined, dataset.ViewPosition = "CHEST", "PA"
    colour = pixels.shape[-1] == 3 and "NumberOfFrames" not in elements
    dataset.Rows, dataset.Columns = pixels.shape[:2] if colour else pixels.shape[-2:]
    dataset.SamplesPerPixel = 3 if colour else 1
    dataset.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    if colour:
        dataset.PlanarConfiguration = 0
    bits = 8 * pixels.dtype.itemsize
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = bits, bits, bits - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    for name, value in elements.items():
        setattr(dataset, name, value)
    stored = pixels.astype(pixels.dtype.newbyteorder(">")) if syntax == BIG else pixels
    dataset.PixelData = stored.tobytes()
    dataset["PixelData"].VR = "OB" if bits == 8 else "OW"
    stream = io.BytesIO()
    pydicom.dcmwrite(
        stream, dataset, little_endian=syntax != BIG, implicit_vr=syntax == IMPLICIT, enforce_file_format=True
    )
    return stream.getvalue()


def with_raw(data: bytes, place: str, vr: str, value: bytes) -> bytes:
    """A DICOM file with an element's bytes and value representation as they are given, whatever they are worth.

    `place` is a keyword, or sequence/keyword for an element of a sequence's first item; with per-frame groups
    PerFrameFunctionalGroupsSequence/FrameVOILUTSequence/WindowCenter, say.
    """
    import pydicom
    from pydicom.dataelem import RawDataElement
    from pydicom.tag import Tag

    dataset = pydicom.dcmread(io.BytesIO(data))
    *sequences, keyword = place.split("/")
    item = dataset
    for sequence in sequences:
        item = item[sequence].value[0]
    tag, little = Tag(keyword), dataset.original_encoding[1]
    item[tag] = RawDataElement(tag, vr, len(value), value, 0, False, bool(little), True)
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def dicom_folder(folder: Path, patients: int = 12, each: int = 4, seed: int = 0) -> Path:
    """`patients` x `each` CT images in nested folders, and a table of labels by SOPInstanceUID: bright, left."""
    rng = np.random.default_rng(seed)
    lines = ["SOPInstanceUID,bright,left"]
    for patient in range(patients):
        for image in range(each):
            number = patient * each + image
            bright, left = (rng.random(2) < 0.5).astype(int)
            pixels = rng.normal(1000, 100, (40, 40))
            pixels[:20] += 600 * bright
            pixels[:, :20] += 600 * left
            place = folder / f"p{patient:03d}" / f"i{image}.dcm"
            place.parent.mkdir(parents=True, exist_ok=True)
            options = {"RescaleSlope": 1, "RescaleIntercept": -1024, "WindowCenter": 300, "WindowWidth": 1600}
            place.write_bytes(
                dicom(pixels.clip(0, 4095).astype(np.uint16), patient=f"PAT{patient}", number=number + 1, **options)
            )
            lines.append(f"1.2.3.4.{number + 1},{bright},{left}")
    (folder / "labels.csv").write_text("\n".join(lines))
    return folder


def nifti(voxels: np.ndarray, affine: np.ndarray | None = None, slope: float = 1.0, intercept: float = 0.0) -> bytes:
    """A .nii.gz file of `voxels`."""
    import nibabel

    image = nibabel.Nifti1Image(voxels, np.eye(4) if affine is None else affine)
    image.header.set_slope_inter(slope, intercept)
    return gzip.compress(image.to_bytes(), 1)


def segmentator_folder(folder: Path, patients: int = 10, seed: int = 0, name: str = "ct.nii.gz") -> Path:
    """Scans of 12 x 10 x 8 voxels with liver and spleen, of which each shows in some slices; institutions A to E."""
    rng = np.random.default_rng(seed)
    lines = ["image_id;age;gender;institute;study_type;split;manufacturer;scanner_model;kvp;pathology"]
    for number in range(patients):
        place = folder / f"s{number:04d}"
        (place / "segmentations").mkdir(parents=True)
        voxels = rng.normal(-200, 100, (12, 10, 8)).astype(np.int16)
        for organ, low in (("liver", 1), ("spleen", 4)):
            mask = np.zeros(voxels.shape, np.uint8)
            size = int(rng.integers(2, 4))
            mask[low : low + size, low : low + size, low : low + size] = 1
            voxels[mask > 0] += 400
            (place / "segmentations" / f"{organ}.nii.gz").write_bytes(nifti(mask))
        (place / name).write_bytes(nifti(voxels))
        lines.append(f"{place.name};{40 + number};m;{'ABCDE'[number % 5]};ct thorax;train;siemens;X;120;none")
    (folder / "meta.csv").write_text("\n".join(lines))
    return folder
