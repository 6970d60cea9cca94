"""Dataset `nih-cxr14`: NIH's Data_Entry_2017.csv, in its first form and that of 2020.

Wang et al. (2017), "ChestX-ray8: Hospital-scale Chest X-ray Database and Benchmarks".
"""

import hashlib
import re
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from medsae_ray.core.artifacts.store import Store, split_uri
from medsae_ray.core.datasets.base import Dataset, Paths
from medsae_ray.core.datasets.columns import data_row, file_data, read_table, required, text
from medsae_ray.core.datasets.rows import Rows
from medsae_ray.errors import DatasetError

LABELS = (
    "Atelectasis",
    "Cardiomegaly",
    "Effusion",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pneumonia",
    "Pneumothorax",
    "Consolidation",
    "Edema",
    "Emphysema",
    "Fibrosis",
    "Pleural_Thickening",
    "Hernia",
    "No Finding",
)
OLDEST = 120
"""The highest plausible age in years. The table has ages up to 414; those above the limit count as unknown."""
_ARCHIVE = re.compile(r"images_\d{3}$")
_AGE = r"^0*(?P<number>[0-9]+)(?P<unit>[YMD]?)$"


@dataclass(frozen=True, kw_only=True)
class NihDataset(Dataset):
    """NIH ChestX-ray14; how.paths.table is its Data_Entry_2017.csv.

    Images are looked for in images_001/images to images_012/images, images or no folder at all, below how.paths.images,
    or the table's own folder.
    """

    row_per_image = True
    kind: Literal["nih-cxr14"]
    name: str = "nih-cxr14"
    views: Literal["PA", "AP", "all"] = "all"
    """Images to use, by View Position; all of them are frontal."""

    def rows(self, paths: Paths) -> Rows:
        """Return one row per image of the chosen views."""
        return nih_rows(file_data(paths.table, "table"), str(paths.table), folders(paths), self)

    def content(self, paths: Paths) -> dict[str, Any]:
        """Hash the table and the images' places in the dataset's folder, because the rows change when files are
        moved in it."""
        places = "\n".join(f"{place}{name}" for name, place in sorted(folders(paths).items()))
        return super().content(paths) | {"places": hashlib.sha256(places.encode()).hexdigest()}


def nih_rows(data: bytes, where: str, folder_of: dict[str, str], dataset: NihDataset) -> Rows:
    """Return one row per image; `folder_of` gives the folder of a file, and files not in it are in none.

    DatasetError for another table, a finding that is not one of LABELS, or an invalid age.
    """
    table = read_table(data, where)
    view = required(table, "View Position", where)
    keep = pc.is_valid(view) if dataset.views == "all" else pc.equal(view, dataset.views)
    table, view, at = table.filter(keep), view.filter(keep), pc.indices_nonzero(keep)
    images = required(table, "Image Index", where).to_pylist()
    found = required(table, "Finding Labels", where)
    gender = "Patient Sex" if "Patient Sex" in table.column_names else "Patient Gender"
    age = _years(required(table, "Patient Age", where), at, where)
    return Rows(
        dataset=dataset.name,
        image_id=images,
        patient_id=required(table, "Patient ID", where).to_pylist(),
        uri=[f"{folder_of.get(name, '')}{name}" for name in images],
        labels=_labels(found, at, where),
        metadata={"view": view, "sex": text(table, gender, where), "age": pc.cast(age, pa.string())},
        notes={"rows_of_other_views": len(keep) - len(view), "ages_not_known": age.null_count},
    )


def _labels(found: pa.Array, at: pa.Array, where: str) -> dict[str, pa.Array]:
    """Return 1 where a finding is among those written as "Mass|Nodule", 0 where it is not. `at` are the rows'
    numbers."""
    parts = pc.split_pattern(found, "|")
    rows, names = pc.list_parent_indices(parts), pc.utf8_trim_whitespace(pc.list_flatten(parts))
    known = pc.is_in(names, value_set=pa.array(LABELS))
    if not pc.all(known).as_py():
        row = data_row(pc.invert(known), at.take(rows))
        raise DatasetError(f"{where}: a finding of column 'Finding Labels' in {row} is none of {', '.join(LABELS)}")
    every = pa.array(range(len(found)), rows.type)
    return {name: pc.cast(pc.is_in(every, value_set=rows.filter(pc.equal(names, name))), pa.int8()) for name in LABELS}


def _years(age: pa.Array, at: pa.Array, where: str) -> pa.Array:
    """Parse ages in whole years from "58", "058Y", "013M" and "005D"; null above OLDEST."""
    parts = pc.extract_regex(age, _AGE)
    if parts.null_count:
        row = data_row(pc.is_null(parts), at)
        raise DatasetError(f"{where}: column 'Patient Age' holds no age in {row}; ages are 58 or 058Y, 010M, 005D")
    number, unit = pc.cast(parts.field("number"), pa.int64()), parts.field("unit")
    years = pc.divide(number, pc.if_else(pc.equal(unit, "M"), 12, pc.if_else(pc.equal(unit, "D"), 365, 1)))
    return pc.if_else(pc.greater(years, OLDEST), None, years)


def folders(paths: Paths) -> dict[str, str]:
    """Map each file name to its folder, with a slash: the twelve archives unpacked side by side, or one folder."""
    root = Store(paths.images) if paths.images else split_uri(str(paths.table))[0]
    archives = [f"{name}/images" for name in root.folders() if _ARCHIVE.match(name)]
    places = archives or (["images"] if "images" in root.folders() else [])
    return {name: f"{place}/" for place in places for name in root.names(place)}
