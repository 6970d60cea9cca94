"""The draft of a dataset from a table with a row per image."""

from collections.abc import Sequence

import pyarrow as pa

from medsae_ray.core.artifacts.store import Store
from medsae_ray.core.datasets.columns import file_data, read_table
from medsae_ray.drafting.columns import (
    ImageColumn,
    LabelColumn,
    distinct,
    image_column,
    label_columns,
    metadata_columns,
    patient_columns,
)
from medsae_ray.drafting.lines import Found, guessed, listed, value
from medsae_ray.errors import DatasetError

NO_PATIENT = (
    "there is none, so every image counts as a patient of its own. Two images of one person may then stand on both "
    "sides of a split, and intervals are too narrow: name the column if the table has one"
)


def of_table(folder: Store, name: str) -> Found:
    """Describe the table `name` of `folder`. Raises DatasetError if no column names image files."""
    where = folder.address(name)
    table = read_table(file_data(where, "table"), where)
    image = image_column(table, where, folder)
    if image is None:
        raise DatasetError(
            f"{where}: none of its {table.num_columns} columns names image files, and a run needs one with their "
            "paths. If files are called after a column (an image's number), write their paths into it"
        )
    patients = patient_columns(table, where)
    taken = [image.name, *patients]
    labels = list(label_columns(table, where, taken))
    metadata = metadata_columns(table, [*taken, *(label.name for label in labels)])
    used = {image.name, *patients[:1], *(label.name for label in labels), *metadata}
    rest = [column for column in table.column_names if column not in used]
    stem = name.split(".")[0] or "table"
    lines = [
        "kind: table",
        f"name: {value(stem)}",
        _image(image),
        _patient(table, patients),
        *label_lines(labels),
        *(
            [guessed(f"metadata: {listed(metadata)}", "by their names; kept as text, shown with images")]
            if metadata
            else []
        ),
        *([f"# not used: {', '.join(map(repr, rest))}"] if rest else []),
    ]
    paths = [
        f"table: {value(where)}",
        *([f"images: {value(image.place.uri)}"] if image.place.uri != folder.uri else []),
    ]
    if not image.there:
        paths = [
            f"table: {value(where)}",
            guessed(f"images: {value(folder.uri)}", "the table's own folder; see `image`"),
        ]
    return Found(stem, lines, paths)


def _image(image: ImageColumn) -> str:
    why = f"{image.there} of {image.looked_at} sampled rows name files below {image.place.uri}"
    if not image.there:
        why = f"it holds file names, but none of {image.looked_at} was found below {image.place.uri}: set images"
    return guessed(f"image: {value(image.name)}", why)


def _patient(table: pa.Table, names: Sequence[str]) -> str:
    if not names:
        return guessed("patient: null", NO_PATIENT)
    count = distinct(table, names[0])
    why = f"by its name; {count:,} patients in {table.num_rows:,} rows. Splits never share a patient"
    if count == table.num_rows:
        why += "; every row has another, so see that it is not the image's number"
    others = f"; {', '.join(map(repr, names[1:]))} may be meant too" if names[1:] else ""
    return guessed(f"patient: {value(names[0])}", why + others)


def label_lines(labels: Sequence[LabelColumn]) -> list[str]:
    """Return the options `labels`, `uncertain` and `blank`, each label in a line of its own."""
    if not labels:
        return ["labels: []    # no column holds labels (1, 0, -1, blank, or words for them): a run without labels"]
    unsure, blank = sum(label.uncertain for label in labels), sum(label.blank for label in labels)
    never = [label.name for label in labels if not label.absent]
    why = "columns that hold 1, 0, -1, blank or words for them, alone; remove those that are not findings"
    lines = [guessed("labels:", why), *(f"  - {value(label.name)}" for label in labels)]
    lines += [
        f"uncertain: ignore    # {unsure:,} cells are -1: ignore leaves these images out, zero or one counts them"
    ]
    lines += [
        f"blank: ignore    # {blank:,} cells are blank: ignore leaves these images out, zero takes them for absent"
    ]
    if never:
        lines += [f"# never absent, so without correlations unless blank is zero: {', '.join(map(repr, never))}"]
    return lines
