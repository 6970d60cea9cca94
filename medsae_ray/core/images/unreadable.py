"""Images that cannot be used: how many and why, and what is wrong where none of them is there.

Messages give counts, rows and the folder that the recipe names. Paths of images may tell who is on them, and stay out.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from medsae_ray.core.artifacts.artifact import Receipt
from medsae_ray.core.artifacts.store import Store
from medsae_ray.core.images.archives import outer_file
from medsae_ray.core.images.reader import split_slice

MISSING = "missing"
ENOUGH = 32
"""Images that a dataset's first shards need to have before they speak for it."""
SHARDS = 3
"""Shards without a usable image after which a dataset is given up."""
TRIED = 3
"""Images that are looked for elsewhere."""


def nothing_usable(receipt: Receipt) -> bool:
    """Whether no row of a part is ok."""
    return receipt.rows > 0 and sum(receipt.not_ok.values()) >= receipt.rows


def counted(not_ok: Mapping[str, int], of: int, reasons: int | None = None, noun: str = "images") -> str:
    """How many and why, the most frequent `reasons` first: 3 of 605 images not ok: 2 missing, 1 truncated."""
    ranked = sorted(not_ok.items(), key=lambda item: (-item[1], item[0]))
    said = [f"{count:,} {reason}" for reason, count in ranked[:reasons]]
    more = ["others"] if len(ranked) > len(said) else []
    return f"{sum(not_ok.values()):,} of {of:,} {noun} not ok: {', '.join([*said, *more])}"


def advice(uris: Sequence[str], folder: Store) -> str:
    """What looks wrong with paths below `folder`, none of which is there."""
    files = [outer_file(split_slice(uri)[0]) for uri in uris]
    backslashes = sum("\\" in file for file in files)
    absolute = sum(file.startswith("/") for file in files)
    if backslashes:
        return f"{backslashes:,} of the paths have backslashes: write them with /"
    if absolute:
        return f"{absolute:,} of the paths start with /, so that no folder is put before them"
    if windows := sum(file[1:2] == ":" for file in files):
        return f"{windows:,} of the paths start with the letter of a drive: write them from the images' folder on"
    if any("://" in file for file in files):
        return "the paths are URIs, so that no folder is put before them"
    return _elsewhere(files[:TRIED], folder)


def _elsewhere(files: Sequence[str], folder: Store) -> str:
    """Where files of these names are instead, if a look or two finds them."""
    if not folder.names() and not folder.folders():
        return "that folder is not there, or empty"
    paths = [PurePosixPath(file) for file in files]
    if any(folder.exists(path.name) for path in paths if len(path.parts) > 1):
        return "files of these names lie directly in it: leave the folders out of the paths"
    if any(folder.exists("/".join(path.parts[1:])) for path in paths if len(path.parts) > 1):
        return "without their first folder the paths lead to files there: let it name the folder above"
    if any(folder.exists(f"{inner}/{path}") for inner in folder.folders()[:100] for path in paths):
        return "below one of its folders the paths lead to files: let it name that one"
    stems = Counter(PurePosixPath(name).stem for name in folder.names(str(paths[0].parent).removeprefix(".")))
    if any(stems[path.stem] for path in paths):
        return "files of these names are there, but with another ending: write theirs in the table"
    return "no file of such a name was found there; they are paths from that folder on"
