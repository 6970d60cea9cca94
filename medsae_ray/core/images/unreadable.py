"""Unusable images: their numbers and reasons, and advice if all of them are missing.

Messages give counts, rows and the folder that the recipe names. Paths of images may identify patients, and stay out.
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
"""The images in a dataset's first shards that suffice for a judgement of it."""
SHARDS = 3
"""The shards without a usable image after which a dataset is refused."""
TRIED = 3
"""The images that are searched for elsewhere."""


def nothing_usable(receipt: Receipt) -> bool:
    """Return True if no row of a part is ok."""
    return receipt.rows > 0 and sum(receipt.not_ok.values()) >= receipt.rows


def counted(not_ok: Mapping[str, int], of: int, reasons: int | None = None, noun: str = "images") -> str:
    """Return numbers and reasons, the most frequent `reasons` first: 3 of 605 images not ok: 2 missing, 1 truncated."""
    ranked = sorted(not_ok.items(), key=lambda item: (-item[1], item[0]))
    said = [f"{count:,} {reason}" for reason, count in ranked[:reasons]]
    more = ["others"] if len(ranked) > len(said) else []
    return f"{sum(not_ok.values()):,} of {of:,} {noun} not ok: {', '.join([*said, *more])}"


def advice(uris: Sequence[str], folder: Store) -> str:
    """Return advice on paths below `folder`, all of which are missing."""
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
    """Describe the actual place of files of these names, after a few searches."""
    if not folder.names() and not folder.folders():
        return "that folder is missing or empty"
    paths = [PurePosixPath(file) for file in files]
    if any(folder.exists(path.name) for path in paths if len(path.parts) > 1):
        return "files of these names lie directly in it: leave the folders out of the paths"
    if any(folder.exists("/".join(path.parts[1:])) for path in paths if len(path.parts) > 1):
        return "without their first folder the paths lead to files there: let it name the folder above"
    if any(folder.exists(f"{inner}/{path}") for inner in folder.folders()[:100] for path in paths):
        return "below one of its folders the paths lead to files: let it name that one"
    stems = Counter(PurePosixPath(name).stem for name in folder.names(str(paths[0].parent).removeprefix(".")))
    if any(stems[path.stem] for path in paths):
        return "files of these names exist, but with another ending: write theirs in the table"
    return "no file of such a name was found there; they must be paths from that folder on"
