"""Dataset `mimic-cxr-jpg`: labels per study, metadata per image, and the published split.

Johnson et al. (2019), "MIMIC-CXR-JPG, a large publicly available database of labeled chest radiographs".
An image lies at files/p10/p10000032/s50414267/<dicom_id>.jpg: the first two digits of the patient, patient, study.
"""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from medsae_ray.core.artifacts.artifact import sha256
from medsae_ray.core.datasets.base import Dataset, Paths
from medsae_ray.core.datasets.columns import file_data, label, read_table, required, text
from medsae_ray.core.datasets.labels import CHEXPERT as LABELS
from medsae_ray.core.datasets.rows import Rows
from medsae_ray.errors import DatasetError

VIEWS = {"frontal": ("AP", "PA"), "lateral": ("LATERAL", "LL")}
"""ViewPosition by the recipe's word. Other views (XTABLE, SWIMMERS, ... or blank) are used with `all` only."""


@dataclass(frozen=True, kw_only=True)
class MimicDataset(Dataset):
    """MIMIC-CXR-JPG 2.x (PhysioNet).

    how.paths.table is its mimic-cxr-2.0.0-chexpert.csv.gz (or -negbio), how.paths.metadata the -metadata.csv.gz. Images
    are looked for below how.paths.images, or the table's own folder: files/p10/p10000032/s50414267/<dicom_id>.jpg.
    """

    needs = ("table", "metadata")
    row_per_image = True
    kind: Literal["mimic-cxr-jpg"]
    name: str = "mimic-cxr-jpg"
    views: Literal["frontal", "lateral", "all"] = "frontal"
    """Images to use, by ViewPosition: AP and PA, LATERAL and LL, or all, which includes images without a view."""
    part: Literal["train", "validate", "test", "all"] = "all"
    """Part of the published split to use; every part except `all` needs how.paths.split."""

    def rows(self, paths: Paths) -> Rows:
        """Return one row per image of the chosen views and part."""
        names = (str(paths.table), str(paths.metadata), str(paths.split))
        read = {key: read_table(data, str(getattr(paths, key))) for key, data in _files(paths).items()}
        return mimic_rows(Tables(read["table"], read["metadata"], read.get("split"), names), self)

    def content(self, paths: Paths) -> dict[str, Any]:
        """Hash all its tables."""
        return {key: sha256(data) for key, data in _files(paths).items()}


def _files(paths: Paths) -> dict[str, bytes]:
    keys = ("table", "metadata", *(("split",) if paths.split else ()))
    return {key: file_data(getattr(paths, key), key) for key in keys}


class Tables(NamedTuple):
    """The dataset's files, and their names in messages."""

    labels: pa.Table
    metadata: pa.Table
    split: pa.Table | None
    names: tuple[str, str, str]


def mimic_rows(tables: Tables, dataset: MimicDataset) -> Rows:
    """Return one row per image of the chosen views and part. DatasetError for other tables, or for ids that do not
    fit."""
    where = tables.names[1]
    view = text(tables.metadata, "ViewPosition", where)
    part = _part_of(tables)
    keep = _wanted(view, part, dataset, tables.names[2])
    chosen = tables.metadata.filter(keep)
    image, patient, study = (required(chosen, name, where) for name in ("dicom_id", "subject_id", "study_id"))
    patient, study = pc.binary_join_element_wise("p", patient, ""), pc.binary_join_element_wise("s", study, "")
    group = pc.utf8_slice_codeunits(patient, 0, 3)
    uri = pc.binary_join_element_wise(
        "files", group, patient, study, pc.binary_join_element_wise(image, ".jpg", ""), "/"
    )
    at = _label_rows(tables, study)
    official = {} if part is None else {"official_split": part.filter(keep)}
    return Rows(
        dataset=dataset.name,
        image_id=image.to_pylist(),
        patient_id=patient.to_pylist(),
        uri=uri.to_pylist(),
        labels={name: label(tables.labels, name, tables.names[0]).take(at) for name in LABELS},
        metadata={"view": view.filter(keep), **official},
        study_id=study.to_pylist(),
        notes={"rows_left_out": len(keep) - len(image), "images_of_studies_without_labels": at.null_count},
    )


def _label_rows(tables: Tables, study: pa.Array) -> pa.Array:
    """Return the row of each image's study in the table of labels, with null for the few unlabelled studies."""
    labelled = pc.binary_join_element_wise("s", required(tables.labels, "study_id", tables.names[0]), "")
    if len(labelled) > pc.count_distinct(labelled).as_py():
        raise DatasetError(f"{tables.names[0]}: a study_id comes twice; MIMIC-CXR-JPG has one row per study")
    at = pc.index_in(study, value_set=labelled)
    if len(at) and at.null_count == len(at):
        raise DatasetError(f"no study of {tables.names[1]} is in {tables.names[0]}; they are of different datasets")
    return at


def _part_of(tables: Tables) -> pa.Array | None:
    """Return train, validate or test for each row of the metadata, with null for images that the split does not
    list."""
    if tables.split is None:
        return None
    images = required(tables.metadata, "dicom_id", tables.names[1])
    listed, part = (required(tables.split, name, tables.names[2]) for name in ("dicom_id", "split"))
    return part.take(pc.index_in(images, value_set=listed))


def _wanted(view: pa.Array, part: pa.Array | None, dataset: MimicDataset, where: str) -> pa.Array:
    """Return bool [rows of the metadata], true for images of the chosen views and part."""
    keep = pa.array([True] * len(view))
    if dataset.views != "all":
        keep = pc.is_in(view, value_set=pa.array(VIEWS[dataset.views]))
    if dataset.part == "all":
        return keep
    if part is None:
        raise DatasetError(f"part {dataset.part!r} of {dataset.name} needs how.paths.split, its -split.csv.gz")
    chosen = pc.fill_null(pc.equal(part, dataset.part), False)
    if not pc.any(chosen).as_py():
        raise DatasetError(f"{where}: column 'split' has no {dataset.part!r} among its {len(part.unique())} values")
    return pc.and_(keep, chosen)
