"""The columns of a table with images, patients, labels and metadata, found by names and values.

The readers themselves (core/datasets/columns.py) decide on the content of a column, as on a label.
"""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from medsae_ray.core.artifacts.store import Store
from medsae_ray.core.datasets import columns
from medsae_ray.errors import DatasetError

LOOKED_AT = 20
"""The rows of each column whose files are searched for."""
SUBFOLDERS = 50
"""The subfolders of the table's folder in which they are searched for."""
PATIENTS = (
    "patientid",
    "patient",
    "patientnumber",
    "patientkey",
    "subjectid",
    "subject",
    "participantid",
    "participant",
)
"""The names of columns with patients, letters only; the first is preferred."""
METADATA = frozenset(
    {"sex", "gender", "patientsex", "patientgender", "age", "patientage", "view", "viewposition", "projection"}
    | {"modality", "manufacturer", "scanner", "device", "site", "hospital", "institute", "institution", "laterality"}
)
"""The names of columns that are shown with images."""
_FILE = re.compile(r"\.(png|jpe?g|tiff?|bmp|gif|webp|avif|jp2|j2k|p[bgp]m|dcm|dicom|nii(\.gz)?)$", re.IGNORECASE)


class ImageColumn(NamedTuple):
    """A column of files."""

    name: str
    place: Store
    """The folder in which they start."""
    there: int
    """The number of sampled rows that name a file there."""
    looked_at: int


class LabelColumn(NamedTuple):
    """A column that a reader accepts as a label."""

    name: str
    uncertain: int
    """The number of rows with -1; then those without a value, and with 0."""
    blank: int
    absent: int


def letters(name: str) -> str:
    """Return a column's name for comparisons: patientid for Patient_ID."""
    return re.sub(r"[^a-z]", "", name.lower())


def image_column(table: pa.Table, where: str, folder: Store) -> ImageColumn | None:
    """Find the column most of whose rows name files below the table's folder or a folder in it; else a likely one.

    None if there is neither. Raises DatasetError for a table whose header is a row.
    """
    if any(_FILE.search(name) for name in table.column_names):
        raise DatasetError(f"{where}: the first line holds a file's name, so it is not a header; name the columns")
    samples = {name: cells for name in table.column_names if (cells := _sample(table, name, where))}
    named = {name: cells for name, cells in samples.items() if any(_FILE.search(cell) or "/" in cell for cell in cells)}
    places = [folder, *(folder.child(name) for name in folder.folders()[:SUBFOLDERS])]
    found = [
        ImageColumn(name, place, sum(_there(place, cell) for cell in cells), len(cells))
        for name, cells in named.items()
        for place in places
    ]
    best = max(found, key=lambda one: one.there / one.looked_at, default=None)
    if best and best.there:
        return best
    return next((one for one in found if all(_FILE.search(cell) for cell in named[one.name])), None)


def _sample(table: pa.Table, name: str, where: str) -> list[str]:
    try:
        cells = columns.trimmed(columns.text(table, name, where)).drop_null()
    except DatasetError:  # no text, or a name that comes twice: the reader would refuse it
        return []
    step = max(1, len(cells) // LOOKED_AT)
    return cells[::step][:LOOKED_AT].to_pylist() if len(cells) else []


def _there(place: Store, cell: str) -> bool:
    store, name = place.place(cell)
    try:
        return bool(name) and store.exists(name)
    except OSError:
        return False


def patient_columns(table: pa.Table, where: str) -> list[str]:
    """Return columns with a patient's name that name one in each row, the likeliest first."""
    known = [name for name in table.column_names if letters(name) in PATIENTS]
    return [
        name for name in sorted(known, key=lambda one: PATIENTS.index(letters(one))) if _names_all(table, name, where)
    ]


def _names_all(table: pa.Table, name: str, where: str) -> bool:
    try:
        columns.patients(table, name, where)
    except DatasetError:
        return False
    return True


def label_columns(table: pa.Table, where: str, taken: Sequence[str]) -> Iterator[LabelColumn]:
    """Yield columns other than `taken` that hold 1 and some other value, all valid as labels."""
    for name in table.column_names:
        if name in taken or letters(name) in METADATA:
            continue
        try:
            counts = {
                entry["values"]: entry["counts"]
                for entry in columns.label(table, name, where).value_counts().to_pylist()
            }
        except DatasetError:
            continue
        if counts.get(1) and len(counts) > 1:
            yield LabelColumn(name, counts.get(-1, 0), counts.get(None, 0), counts.get(0, 0))


def metadata_columns(table: pa.Table, taken: Sequence[str]) -> list[str]:
    """Return columns other than `taken` with names of metadata that is shown with images."""
    return [name for name in table.column_names if name not in taken and letters(name) in METADATA]


def distinct(table: pa.Table, name: str) -> int:
    """Count the distinct values of a column."""
    return int(pc.count_distinct(table[name]).as_py())
