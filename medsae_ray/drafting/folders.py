"""The draft of a dataset from a folder of image files, of DICOM files, or of images with one table."""

import csv
import io
import os
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from medsae_ray.core.artifacts.store import Store
from medsae_ray.core.datasets.columns import file_data, read_table, text
from medsae_ray.core.images import formats
from medsae_ray.core.images.archives import FoundFile, is_archive, walk
from medsae_ray.core.images.dicom.header import HEAD, Header, read_header
from medsae_ray.drafting.columns import label_columns
from medsae_ray.drafting.lines import Found, counted, guessed, value
from medsae_ray.drafting.tables import NO_PATIENT, label_lines, of_table
from medsae_ray.errors import DatasetError, ImageError

LOOKED_AT = 64
"""The files that are opened to identify a folder."""
_MARK = slice(128, 132)
"""The place of the mark in a DICOM file."""
TABLES = (".csv", ".tsv", ".csv.gz", ".tsv.gz", ".parquet")


class Seen(NamedTuple):
    """A sample of a folder's files, by kind."""

    images: list[str]
    headers: dict[str, Header]
    """The headers of DICOM files."""
    archives: list[str]
    """The zip files, which count as archives of DICOM files."""


def of_folder(folder: Store) -> Found:
    """Describe a folder. Raises DatasetError if it holds neither images nor one table."""
    tables = [name for name in folder.names() if name.lower().endswith(TABLES)]
    files = [file for file in walk(folder, "", Counter()) if not file.name.lower().endswith(TABLES)]
    seen = look(folder, files)
    if len(seen.headers) + len(seen.archives) > len(seen.images):
        return _dicom(folder, tables, seen)
    if len(tables) > 1:
        raise DatasetError(
            f"{folder.uri} holds {len(tables)} tables ({', '.join(tables[:5])}); name the one with a row per image: "
            f"medsae init {folder.address(tables[0])}"
        )
    if tables:
        return of_table(folder, tables[0])
    if not seen.images:
        raise DatasetError(
            f"{folder.uri} holds no table, and of {counted(len(files), 'file')} the sampled ones are neither "
            "images nor DICOM files. Name the folder or the table of the dataset"
        )
    return _images(folder, files, seen)


def look(folder: Store, files: Sequence[FoundFile]) -> Seen:
    """Open some of the files, evenly over all."""
    seen = Seen([], {}, [])
    for file in files[:: max(1, len(files) // LOOKED_AT)][:LOOKED_AT]:
        if is_archive(file.name):
            seen.archives.append(file.name)
            continue
        with folder.open(file.name) as stream:
            head = stream.read(HEAD)
        if formats.known(head):
            seen.images.append(file.name)
        elif (header := _header(head, file.size)) is not None:
            seen.headers[file.name] = header
    return seen


def _header(head: bytes, size: int) -> Header | None:
    try:
        return read_header(lambda count: head[:count], size)
    except ImageError:
        return None
    except DatasetError:  # there is no pydicom, which only a DICOM file needs
        if head[_MARK] != b"DICM":
            return None
        raise


def _images(folder: Store, files: Sequence[FoundFile], seen: Seen) -> Found:
    """Describe a bare folder, with a table, by which a recipe names its images."""
    ends = {os.path.splitext(name)[1] for name in seen.images}
    names = [file.name for file in files if os.path.splitext(file.name)[1] in ends]
    folders = {os.path.dirname(name) for name in names}
    title = folder.uri.rstrip("/").rpartition("/")[2] or "images"
    lines = [
        "kind: table",
        f"name: {value(title)}",
        "image: path",
        guessed("patient: null", NO_PATIENT.replace("name the column", "add a column to the table, and name it here,")),
        "labels: []    # none are known: add columns of 1, 0, -1 or blank to the table, and list them here",
    ]
    if len(folders) > 1:
        lines.append(f"# metadata: [folder]    # one of {len(folders)}; if folders are findings, make a label of each")
    if len(names) < len(files):
        lines.append(
            f"# {counted(len(files) - len(names), 'file')} with another ending than {', '.join(sorted(ends))}: not used"
        )
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["path", "folder"])
    writer.writerows([name, os.path.dirname(name)] for name in names)
    return Found(title, lines, [f"images: {value(folder.uri)}"], stream.getvalue().encode())


def _dicom(folder: Store, tables: Sequence[str], seen: Seen) -> Found:
    title = folder.uri.rstrip("/").rpartition("/")[2] or "dicom"
    unknown = sum(not header.patient for header in seen.headers.values())
    kind = "kind: dicom" if seen.headers else guessed("kind: dicom", "zip files, which were not opened")
    lines = [kind, f"name: {value(title)}"]
    lines.append("# Patients and studies are those of the headers, hashed under a key that stays in the run's root.")
    if unknown:
        lines.append(f"# {unknown} of {len(seen.headers)} sampled headers name no patient: their study counts as one.")
    joined, paths = [], [f"images: {value(folder.uri)}"]
    if len(tables) == 1:
        joined = _joined(folder, tables[0], seen)
        paths += [f"table: {value(folder.address(tables[0]))}"] if joined else []
    if tables and not joined:
        which = (
            f"no column of {tables[0]} names"
            if len(tables) == 1
            else f"none of {', '.join(tables[:5])} was tried to name"
        )
        lines.append(f"# labels: {which} these images; set how.paths.table, join, join_by and labels")
    return Found(title, [*lines, *joined], paths)


def _joined(folder: Store, name: str, seen: Seen) -> list[str]:
    """Return the join of a table's rows to images, and its labels; [] if no column names sampled images."""
    where = folder.address(name)
    table = read_table(file_data(where, "table"), where)
    wanted = {"instance": {header.instance for header in seen.headers.values()}, "path": set(seen.headers)}
    hits = []
    for column in table.column_names:
        try:
            cells = set(text(table, column, where).to_pylist())
        except DatasetError:
            continue
        hits += [(len(cells & names), column, way) for way, names in wanted.items()]
    count, column, way = max(hits, default=(0, "", ""))
    if not count:
        return []
    why = f"it names {count} of the {len(seen.headers)} sampled files, by {way}"
    labels = list(label_columns(table, where, [column]))
    return [guessed(f"join: {value(column)}", why), f"join_by: {way}", *label_lines(labels)]
