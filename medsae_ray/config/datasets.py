"""The datasets that a recipe can name: one model each, told apart by `kind`.

`core/datasets` has one reader for each kind; `needs` names the keys of how.paths that it cannot do without.
"""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator

from medsae_ray.config.base import Distinct, LabelPolicy, Model, Positive, Seed

Plane = Literal["axial", "coronal", "sagittal"]


class PhantomDataset(Model):
    """Synthetic chest radiographs with planted findings, drawn by the run itself: toys for trying the software."""

    needs: ClassVar[tuple[str, ...]] = ()
    kind: Literal["phantom"]
    name: str = "phantom"
    """What the dataset is called in reports."""
    patients: Annotated[int, Field(ge=20, le=1_000_000)] = 2000
    """Number of patients, each with one to three studies."""
    seed: Seed = 7
    """Which hospital: another seed gives other patients."""
    prevalence: Annotated[float, Field(gt=0, le=2)] = 1.0
    """Factor on the probability of every finding."""
    film: Literal["standard", "soft"] = "standard"
    """Look of the films; soft is flatter and darker."""
    marker: Literal["devices", "random", "never"] = "devices"
    """What the word PORTABLE that is burned into films goes with: support devices (a planted shortcut), or nothing."""
    uncertain: LabelPolicy = "ignore"
    """What a label of -1 counts as in the statistics."""
    blank: LabelPolicy = "ignore"
    """What a missing label counts as in the statistics."""


class LabelTable(Model):
    """What the datasets with a table of your own share: how it is written, where that is not certain by itself."""

    separator: Annotated[str, Field(min_length=1, max_length=1)] | None = None
    """Between a CSV's cells, as "\\t"; null finds out whether it is a comma, semicolon, tab or |."""
    encoding: str | None = None
    """Of a CSV, as cp1252 or latin-1; null takes UTF-8, and UTF-16 where that is certain."""
    values: dict[str, Literal[1, 0, -1] | None] = Field(default_factory=dict)
    """What other words in label columns mean: {word: 1, 0, -1 or null}. Of any case; numbers too, as {"9": null}.
    Known without it are 1, true, t, yes, y, present, positive, pos; 0, false, f, no, n, absent, negative, neg; -1,
    uncertain; and as blank na, n/a, nan, none, null, unknown, not mentioned. Others are an error that says where."""

    @field_validator("encoding")
    @classmethod
    def _is_known(cls, encoding: str | None) -> str | None:
        try:
            "".encode(encoding or "utf-8")
        except LookupError:
            raise ValueError(f"{encoding!r} is no encoding that Python knows, as utf-8, cp1252 or latin-1") from None
        return encoding

    @field_validator("values", mode="before")
    @classmethod
    def _are_words(cls, values: Any) -> Any:
        """YAML reads 9 as a number, which is the text that was meant, and TRUE as true, which may not be."""
        if not isinstance(values, dict):
            return values
        if any(key is None or isinstance(key, bool) for key in values):
            raise ValueError('a word that YAML takes for true, false or null needs quotes: {"true": 1}')
        words = {str(key) if isinstance(key, int | float) else key: value for key, value in values.items()}
        if len(words) < len(values):
            raise ValueError("a word is listed twice, with quotes and without")
        return words


class TableDataset(LabelTable):
    """A CSV or Parquet file with a row per image (its place: how.paths.table)."""

    needs: ClassVar[tuple[str, ...]] = ("table",)
    kind: Literal["table"]
    name: str
    """What the dataset is called in reports."""
    image: str
    """Column with the image's path, relative to how.paths.images."""
    patient: str | None = None
    """Column with the patient; without one every image counts as a patient of its own, and the record says so."""
    labels: Annotated[list[str], Distinct, Field(default_factory=list)]
    """Columns of 1 (present), 0 (absent), -1 (uncertain) or blank (not mentioned), or of words that `values` lists;
    none for a run without labels."""
    metadata: Annotated[list[str], Distinct, Field(default_factory=list)]
    """Further columns, kept as text: view, sex, age, device."""
    uncertain: LabelPolicy = "ignore"
    """What a label of -1 counts as in the statistics."""
    blank: LabelPolicy = "ignore"
    """What a missing label counts as in the statistics."""


class Radiographs(Model):
    """What the public datasets of chest radiographs share."""

    uncertain: LabelPolicy = "ignore"
    """What a label of -1 counts as in the statistics."""
    blank: LabelPolicy = "ignore"
    """What a missing label counts as in the statistics."""


class ChexpertDataset(Radiographs):
    """CheXpert (Stanford AIMI), full size or small; how.paths.table is its train.csv or valid.csv.

    Images are looked for below how.paths.images, or the table's own folder, which then holds train/patient00001/...
    """

    needs: ClassVar[tuple[str, ...]] = ("table",)
    kind: Literal["chexpert"]
    name: str = "chexpert"
    """What the dataset is called in reports."""
    views: Literal["frontal", "lateral", "all"] = "frontal"
    """Which images are used, by the column Frontal/Lateral."""


class MimicDataset(Radiographs):
    """MIMIC-CXR-JPG 2.x (PhysioNet).

    how.paths.table is its mimic-cxr-2.0.0-chexpert.csv.gz (or -negbio), how.paths.metadata the -metadata.csv.gz. Images
    are looked for below how.paths.images, or the table's own folder: files/p10/p10000032/s50414267/<dicom_id>.jpg.
    """

    needs: ClassVar[tuple[str, ...]] = ("table", "metadata")
    kind: Literal["mimic-cxr-jpg"]
    name: str = "mimic-cxr-jpg"
    """What the dataset is called in reports."""
    views: Literal["frontal", "lateral", "all"] = "frontal"
    """Which images are used, by ViewPosition: AP and PA, LATERAL and LL, or all, also those without a view."""
    part: Literal["train", "validate", "test", "all"] = "all"
    """Which part of the published split is used; all but `all` need how.paths.split."""


class NihDataset(Radiographs):
    """NIH ChestX-ray14; how.paths.table is its Data_Entry_2017.csv.

    Images are looked for in images_001/images to images_012/images, images or no folder at all, below how.paths.images,
    or the table's own folder.
    """

    needs: ClassVar[tuple[str, ...]] = ("table",)
    kind: Literal["nih-cxr14"]
    name: str = "nih-cxr14"
    """What the dataset is called in reports."""
    views: Literal["PA", "AP", "all"] = "all"
    """Which images are used, by View Position; all of them are frontal."""


class VindrDataset(Radiographs):
    """VinDr-CXR (PhysioNet); how.paths.table is its image_labels_train.csv or image_labels_test.csv.

    It names no patients: each image counts as a patient of its own, and the record says so.
    """

    needs: ClassVar[tuple[str, ...]] = ("table", "images")
    kind: Literal["vindr-cxr"]
    name: str = "vindr-cxr"
    """What the dataset is called in reports."""
    votes: Literal["majority", "any"] = "majority"
    """When a label of an image that several radiologists read is present: more than half of them, or one, saw it."""
    suffix: str = ".dicom"
    """End of the images' file names, below how.paths.images; .png or .jpg for converted ones."""


class DicomDataset(LabelTable):
    """DICOM files and zip files of them, however deep in how.paths.images; every frame is a row.

    Labels come from how.paths.table, if there is one.
    """

    needs: ClassVar[tuple[str, ...]] = ("images",)
    kind: Literal["dicom"]
    name: str
    """What the dataset is called in reports."""
    folders: Annotated[list[str], Distinct, Field(default_factory=lambda: ["."], min_length=1)]
    """Folders below how.paths.images that belong to the dataset."""
    join: str = "SOPInstanceUID"
    """Column of how.paths.table that says which image a row is of."""
    join_by: Literal["instance", "path"] = "instance"
    """What that column holds: SOP instance UIDs, or paths below how.paths.images."""
    labels: Annotated[list[str], Distinct, Field(default_factory=list)]
    """Columns of how.paths.table: 1 (present), 0 (absent), -1 (uncertain) or blank (not mentioned), or of words that
    `values` lists."""
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
    planes: Annotated[
        list[Plane], Distinct, Field(default_factory=lambda: ["axial", "coronal", "sagittal"], min_length=1)
    ]
    """Directions that volumes are cut in."""
    every: Positive = 1
    """Take each slice, each second, ..."""
    organs: Annotated[list[str], Distinct, Field(default_factory=list)]
    """Segmentations that become labels; none given: all that there are."""
    ct_window: Annotated[list[float], Field(min_length=2, max_length=2)] | None = None
    """Hounsfield units that become black and white; null takes them by study type (core/datasets/windows.py)."""
    mri_percentiles: Annotated[list[float], Field(default_factory=lambda: [1.0, 99.0], min_length=2, max_length=2)]
    """Percentiles of an MRI's voxels above 0 that become black and white."""
    uncertain: LabelPolicy = "ignore"
    """What a label of -1 counts as; there are none."""
    blank: LabelPolicy = "ignore"
    """What an organ without a segmentation counts as in the statistics."""


Dataset = Annotated[
    PhantomDataset
    | TableDataset
    | ChexpertDataset
    | MimicDataset
    | NihDataset
    | VindrDataset
    | DicomDataset
    | TotalSegmentatorDataset,
    Field(discriminator="kind"),
]
"""What a recipe may have under what.dataset."""


def unused_options(source: Dataset) -> set[str]:
    """Options of `LabelTable` that a recipe leaves alone: they are in no artifact's name."""
    return {name for name in LabelTable.model_fields if getattr(source, name, None) in (None, {})}
