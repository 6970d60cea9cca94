"""Dataset `vindr-cxr`: image-level labels of VinDr-CXR, by three radiologists each (train) or by consensus (test).

Nguyen et al. (2022), "VinDr-CXR: An open dataset of chest X-rays with radiologist's annotations".
The dataset names no patients. Two images of one patient, if there are any, cannot be kept in one split.
"""

import re
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from medsae_ray.core.datasets.base import Dataset, Paths
from medsae_ray.core.datasets.columns import file_data, label, read_table, required
from medsae_ray.core.datasets.rows import Rows
from medsae_ray.errors import DatasetError

IMAGE, READER, NORMAL = "image_id", "rad_id", "No finding"
_INDEX = re.compile(r"Unnamed: \d+(\.\d+)*|index|level_\d+")  # the name that pandas gives a saved index


@dataclass(frozen=True, kw_only=True)
class VindrDataset(Dataset):
    """VinDr-CXR (PhysioNet); how.paths.table is its image_labels_train.csv or image_labels_test.csv.

    It names no patients: each image counts as a patient of its own, and the record reports it.
    """

    needs = ("table", "images")
    library = "pydicom"
    kind: Literal["vindr-cxr"]
    name: str = "vindr-cxr"
    votes: Literal["majority", "any"] = "majority"
    """Rule for an image that several radiologists read: a label is present if more than half of them saw it, or any."""
    suffix: str = ".dicom"
    """Ending of the images' file names, below how.paths.images; .png or .jpg for converted ones."""

    def rows(self, paths: Paths) -> Rows:
        """Return one row per image."""
        return vindr_rows(file_data(paths.table, "table"), str(paths.table), self)


def vindr_rows(data: bytes, where: str, dataset: VindrDataset) -> Rows:
    """Return one row per image, in the order of their first reading. DatasetError for another table or a blank label.

    Every column except image, radiologist and the saved index of a data frame is a label: 22 findings and six
    diagnoses, whose names differ a little between the two files.
    """
    table = read_table(data, where)
    image = required(table, IMAGE, where)
    named = [name for name in table.column_names if name not in (IMAGE, READER)]
    names = [name for name in named if not _INDEX.fullmatch(name)]
    left_out = {"columns_left_out": len(named) - len(names)} if len(names) < len(named) else {}
    if NORMAL not in names:
        raise DatasetError(
            f"{where} has no column {NORMAL!r}; VinDr-CXR's image_labels_train.csv and _test.csv have it"
        )
    _refuse_second_readings(table, image, where)
    coded = image.dictionary_encode()
    votes = pa.table({"image": coded.indices, **{name: _vote(table, name, where) for name in names}})
    sums = votes.group_by("image", use_threads=False).aggregate([([], "count_all"), *((name, "sum") for name in names)])
    readers = sums["count_all"]
    images = coded.dictionary.to_pylist()
    return Rows(
        dataset=dataset.name,
        image_id=images,
        patient_id=images,
        uri=[f"{name}{dataset.suffix}" for name in images],
        labels={name: _decide(sums[f"{name}_sum"], readers, dataset.votes) for name in names},
        metadata={},
        patients_known=False,
        notes={"votes": dataset.votes, "readings": table.num_rows, **left_out},
    )


def _vote(table: pa.Table, name: str, where: str) -> pa.Array:
    """Return one radiologist's 0 or 1 per row."""
    vote = label(table, name, where)
    if vote.null_count or pc.any(pc.less(vote, 0)).as_py():
        raise DatasetError(f"{where}: label column {name!r} holds blanks or -1; a reading of VinDr-CXR is 0 or 1")
    return vote


def _decide(votes: pa.ChunkedArray, readers: pa.ChunkedArray, rule: str) -> pa.Array:
    """Return int8 per image: present if more than half of the readers saw it, or any."""
    present = pc.greater(votes, 0) if rule == "any" else pc.greater(pc.multiply(votes, 2), readers)
    return pc.cast(present, pa.int8()).combine_chunks()


def _refuse_second_readings(table: pa.Table, image: pa.Array, where: str) -> None:
    """Refuse an image read twice by one radiologist; the consensus of the test set has one row per image."""
    keys = {"image": image}
    if READER in table.column_names:
        keys["reader"] = required(table, READER, where)
    pairs = pa.table(keys)
    twice = pairs.num_rows - pairs.group_by(list(keys)).aggregate([]).num_rows
    if twice:
        raise DatasetError(f"{where}: {twice} rows repeat an image{' of the same reader' if len(keys) > 1 else ''}")
