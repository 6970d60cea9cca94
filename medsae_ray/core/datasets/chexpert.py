"""Dataset `chexpert`: Stanford's train.csv and valid.csv, of the full-size or the small release.

Irvin et al. (2019), "CheXpert: A Large Chest Radiograph Dataset with Uncertainty Labels and Expert Comparison".
Patient and study are in the path: CheXpert-v1.0-small/train/patient00001/study1/view1_frontal.jpg.
"""

from dataclasses import dataclass
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from medsae_ray.core.datasets.base import Dataset, Paths
from medsae_ray.core.datasets.columns import data_row, file_data, label, read_table, required, text
from medsae_ray.core.datasets.labels import CHEXPERT as LABELS
from medsae_ray.core.datasets.rows import Rows
from medsae_ray.errors import DatasetError

METADATA = {"Sex": "sex", "Age": "age", "Frontal/Lateral": "view", "AP/PA": "projection"}
_PLACES = r"(?:^|/)(?P<patient>patient[0-9]+)/(?P<study>study[0-9]+)/[^/]+$"


@dataclass(frozen=True, kw_only=True)
class ChexpertDataset(Dataset):
    """CheXpert (Stanford AIMI), full size or small; how.paths.table is its train.csv or valid.csv.

    Images are looked for below how.paths.images, or the table's own folder, which then holds train/patient00001/...
    """

    row_per_image = True
    kind: Literal["chexpert"]
    name: str = "chexpert"
    views: Literal["frontal", "lateral", "all"] = "frontal"
    """Images to use, by the column Frontal/Lateral."""

    def rows(self, paths: Paths) -> Rows:
        """Return one row per image of the chosen views."""
        return chexpert_rows(file_data(paths.table, "table"), str(paths.table), self)


def chexpert_rows(data: bytes, where: str, dataset: ChexpertDataset) -> Rows:
    """Return one row per image of the chosen views. DatasetError for another table, or for a path without a patient."""
    table = read_table(data, where)
    view = required(table, "Frontal/Lateral", where)
    paths = required(table, "Path", where)
    places = pc.extract_regex(paths, _PLACES)
    if places.null_count:
        row = data_row(pc.is_null(places))
        raise DatasetError(
            f"{where}: the path in {row} does not end in patientNNNNN/studyN/file, as CheXpert's paths do"
        )
    keep = _wanted(view, dataset.views, where)
    table, paths, places = table.filter(keep), paths.filter(keep), places.filter(keep)
    images = pc.replace_substring_regex(paths, r"^CheXpert-v[^/]*/", "").to_pylist()
    patients, studies = (places.field(name) for name in ("patient", "study"))
    return Rows(
        dataset=dataset.name,
        image_id=images,
        patient_id=patients.to_pylist(),
        uri=images,
        labels={name: label(table, name, where) for name in LABELS},
        metadata={name: text(table, column, where) for column, name in METADATA.items()},
        study_id=pc.binary_join_element_wise(patients, studies, "/").to_pylist(),
        notes={"rows_of_other_views": len(keep) - table.num_rows},
    )


def _wanted(view: pa.Array, views: str, where: str) -> pa.Array:
    """Return bool [rows], true for images of the chosen views. DatasetError for a view that is neither frontal nor
    lateral."""
    known = pc.is_in(view, value_set=pa.array(["Frontal", "Lateral"]))
    if not pc.all(known).as_py():
        row = data_row(pc.invert(known))
        raise DatasetError(f"{where}: column 'Frontal/Lateral' holds neither Frontal nor Lateral in {row}")
    return known if views == "all" else pc.equal(view, views.capitalize())
