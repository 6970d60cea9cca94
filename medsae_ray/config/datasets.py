"""The datasets that a recipe can name: one model each, told apart by `kind`.

`core/datasets` has one reader for each kind; `needs` names the keys of how.paths that it cannot do without.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from medsae_ray.config.base import LabelPolicy, Model, Positive, Seed

Plane = Literal["axial", "coronal", "sagittal"]


class PhantomDataset(Model):
    """Synthetic chest radiographs with planted findings, drawn by the run itself: toys for trying the software."""

    needs: ClassVar[tuple[str, ...]] = ()
    kind: Literal["phantom"]
    patients: Annotated[int, Field(ge=20, le=1_000_000)] = 2000
    """Number of patients, each with one to three studies."""
    seed: Seed = 7
    """Which hospital: another seed gives other patients."""
    uncertain: LabelPolicy = "ignore"
    """What a label of -1 counts as in the statistics."""
    blank: LabelPolicy = "ignore"
    """What a missing label counts as in the statistics."""


class TableDataset(Model):
    """A CSV or Parquet file with a row per image (its place: how.paths.table)."""

    needs: ClassVar[tuple[str, ...]] = ("table",)
    kind: Literal["table"]
    name: str
    """What the dataset is called in reports."""
    image: str
    """Column with the image's path, relative to how.paths.images."""
    patient: str | None = None
    """Column with the patient; without one every image counts as a patient of its own, and the record says so."""
    labels: Annotated[list[str], Field(min_length=1)]
    """Columns of 1 (present), 0 (absent), -1 (uncertain) or blank (not mentioned)."""
    metadata: Annotated[list[str], Field(default_factory=list)]
    """Further columns, kept as text: view, sex, age, device."""
    uncertain: LabelPolicy = "ignore"
    """What a label of -1 counts as in the statistics."""
    blank: LabelPolicy = "ignore"
    """What a missing label counts as in the statistics."""


class DicomDataset(Model):
    """DICOM files and zip files of them, however deep in how.paths.images; every frame is a row.

    Labels come from how.paths.table, if there is one.
    """

    needs: ClassVar[tuple[str, ...]] = ("images",)
    kind: Literal["dicom"]
    name: str
    """What the dataset is called in reports."""
    folders: Annotated[list[str], Field(default_factory=lambda: ["."], min_length=1)]
    """Folders below how.paths.images that belong to the dataset."""
    identifiers: Literal["hashed", "plain"] = "hashed"
    """Patient, study and image as the headers name them, or as their keyed hashes (HMAC-SHA256; the key is the
    environment variable MEDSAE_KEY)."""
    join: str = "SOPInstanceUID"
    """Column of how.paths.table that says which image a row is of."""
    join_by: Literal["instance", "path"] = "instance"
    """What that column holds: SOP instance UIDs, or paths below how.paths.images."""
    labels: Annotated[list[str], Field(default_factory=list)]
    """Columns of how.paths.table: 1 (present), 0 (absent), -1 (uncertain) or blank (not mentioned)."""
    uncertain: LabelPolicy = "ignore"
    """What a label of -1 counts as in the statistics."""
    blank: LabelPolicy = "ignore"
    """What a missing label, or an image that the table does not have, counts as in the statistics."""


class TotalSegmentatorDataset(Model):
    """TotalSegmentator's CT or MRI (how.paths.images): s0001/ct.nii.gz or mri.nii.gz, s0001/segmentations, meta.csv.

    Each slice of each plane is a row, each organ a label: 1 where the slice shows it.
    """

    needs: ClassVar[tuple[str, ...]] = ("images",)
    kind: Literal["totalsegmentator"]
    name: str = "totalsegmentator"
    """What the dataset is called in reports."""
    planes: Annotated[list[Plane], Field(default_factory=lambda: ["axial", "coronal", "sagittal"], min_length=1)]
    """Directions that volumes are cut in."""
    every: Positive = 1
    """Take each slice, each second, ..."""
    organs: Annotated[list[str], Field(default_factory=list)]
    """Segmentations that become labels; none given: all that there are."""
    ct_window: Annotated[list[float], Field(min_length=2, max_length=2)] | None = None
    """Hounsfield units that become black and white; null takes them by study type (core/datasets/windows.py)."""
    mri_percentiles: Annotated[list[float], Field(default_factory=lambda: [1.0, 99.0], min_length=2, max_length=2)]
    """Percentiles of an MRI's voxels above 0 that become black and white."""
    uncertain: LabelPolicy = "ignore"
    """What a label of -1 counts as; there are none."""
    blank: LabelPolicy = "ignore"
    """What an organ without a segmentation counts as in the statistics."""


Dataset = Annotated[PhantomDataset | TableDataset | DicomDataset | TotalSegmentatorDataset, Field(discriminator="kind")]
"""What a recipe may have under what.dataset."""
