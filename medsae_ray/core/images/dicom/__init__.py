"""DICOM files: their headers and their pixels. Needs the extra `dicom` (pydicom and decoders)."""

from medsae_ray.core.images.dicom.grey import GreyValues
from medsae_ray.core.images.dicom.header import Header, read_header
from medsae_ray.core.images.dicom.parse import looks_like_dicom
from medsae_ray.core.images.dicom.pixels import WINDOWS, Dicom, pixel_digest

__all__ = ["WINDOWS", "Dicom", "GreyValues", "Header", "looks_like_dicom", "pixel_digest", "read_header"]
