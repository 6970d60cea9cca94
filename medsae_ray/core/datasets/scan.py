"""The content of a folder of DICOM files: every readable header, and the files passed over with the reasons.

| passed over | reason |
|---|---|
| not_an_image | it is no DICOM file |
| no_pixels | it is a DICOM file without an image: a report, a plan, a directory |
| corrupt, truncated, empty, too_large, unreadable, missing | it, or the archive that it is in, cannot be read |
| too_many_frames | it claims more frames than fit in its bytes, or than MAX_FRAMES |
| unsafe_name | its name in an archive leads out of it (..), or is ambiguous with another address |
| too_deep | it is an archive in archives, deeper than MAX_DEPTH |
| link_loop, not_a_file | its folder was seen before, by another link; it is a pipe or a device |
| duplicate | an image with its SOP instance UID and the same pixels came before, by name |

Anonymisers may give images of different pixels one SOP instance UID. Those are kept and told apart by their pixels
(`File.twin`). A file with a whole header but broken pixels is not passed over: it becomes a row that is not ok.
"""

import hashlib
import io
import os
import zipfile
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from typing import BinaryIO, NamedTuple

from medsae_ray.core.artifacts.store import Store
from medsae_ray.core.images.archives import (
    MAX_DEPTH,
    FoundFile,
    archive,
    is_archive,
    opened,
    opened_files,
    outer_file,
    unpacked,
    usable,
    walk,
)
from medsae_ray.core.images.dicom import Header, pixel_digest, read_header
from medsae_ray.errors import DatasetError, ImageError

READERS = min(32, 4 * (os.cpu_count() or 1))
"""The number of headers read at once; on a network most of the time is waiting."""


class File(NamedTuple):
    """One DICOM file."""

    name: str
    """The address below how.paths.images."""
    size: int
    header: Header
    twin: str = ""
    """The start of the SHA-256 of its pixels, if images of other pixels have the same SOP instance UID."""


class FolderScan(NamedTuple):
    """All files, by name, and the number passed over for each reason."""

    files: list[File]
    skipped: dict[str, int]


def scan(store: Store, folders: Sequence[str]) -> FolderScan:
    """Read every header below `folders`. Raises DatasetError for a missing folder.

    A second call on unchanged files, as for the rows after the identity, returns the first result.
    """
    skipped: Counter[str] = Counter()
    found: dict[str, FoundFile] = {}
    for folder in folders:
        if store.is_local and not os.path.isdir(store.path(folder)):
            raise DatasetError(f"what.dataset.folders: there is no folder {folder!r} in how.paths.images")
        found.update({file.name: file for file in walk(store, folder, skipped)})
    return _headers(store.uri, tuple(found[name] for name in sorted(found)), tuple(sorted(skipped.items())))


@lru_cache(maxsize=2)
def _headers(uri: str, found: tuple[FoundFile, ...], passed_over: tuple[tuple[str, int], ...]) -> FolderScan:
    store, skipped = Store(uri), Counter(dict(passed_over))
    with ThreadPoolExecutor(READERS) as pool:
        read = pool.map(lambda file: _read(store, file), found)
        files: list[File] = []
        for one, counts in read:
            files += one
            skipped.update(counts)
    distinct = _distinct(store, files, skipped)
    return FolderScan(distinct, dict(sorted((+skipped).items())))


def _distinct(store: Store, files: list[File], skipped: Counter[str]) -> list[File]:
    """Return one file per SOP instance UID, or several if their pixels differ."""
    times = Counter(file.header.instance for file in files)
    repeated = [file for file in files if file.header.instance and times[file.header.instance] > 1]
    digests = _pixels(store, [file.name for file in repeated])
    found: dict[str, dict[str, str]] = {}
    for file in repeated:
        found.setdefault(file.header.instance, {}).setdefault(digests[file.name], file.name)
    kept = {name: digest[:12] for of in found.values() for digest, name in of.items() if len(of) > 1}
    first = {name for of in found.values() for name in of.values()}
    skipped["duplicate"] += len(repeated) - len(first)
    distinct = [file for file in files if file.name not in digests or file.name in first]
    return [file._replace(twin=kept.get(file.name, "")) for file in distinct]


def _pixels(store: Store, names: Sequence[str]) -> dict[str, str]:
    """Map each name to a digest of its pixels, or of the name itself if they cannot be read."""

    def of_outer(addresses: list[str]) -> list[tuple[str, str]]:
        with opened_files(store, addresses[0]) as read:
            return [(name, _digest(read, name)) for name in addresses]

    with ThreadPoolExecutor(READERS) as pool:
        return dict(pair for pairs in pool.map(of_outer, _by_outer(names)) for pair in pairs)


def _by_outer(names: Sequence[str]) -> list[list[str]]:
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(outer_file(name), []).append(name)
    return list(groups.values())


def _digest(read: Callable[[str], bytes], name: str) -> str:
    try:
        return pixel_digest(read(name))
    except ImageError:
        return hashlib.sha256(name.encode()).hexdigest()


def _read(store: Store, found: FoundFile) -> tuple[list[File], Counter[str]]:
    """Return the DICOM files in one file: the file itself, or the members of an archive."""
    skipped: Counter[str] = Counter()
    try:
        with opened(store, found.name) as stream:
            if is_archive(found.name):
                return list(_of_archive(archive(stream), found.name, 1, skipped)), skipped
            header = read_header(partial(_start, stream), found.size)
        return [File(found.name, found.size, header)], skipped
    except ImageError as error:
        skipped[error.reason] += 1
    except OSError:
        if not store.is_local:
            raise
        skipped["unreadable"] += 1
    return [], skipped


def _start(stream: BinaryIO, count: int) -> bytes:
    stream.seek(0)
    return stream.read(count)


def _of_archive(found: zipfile.ZipFile, address: str, depth: int, skipped: Counter[str]) -> list[File]:
    files: list[File] = []
    for info in usable(found, skipped):
        name = f"{address}!/{info.filename}"
        try:
            if not is_archive(name):
                header = read_header(partial(unpacked, found, info.filename), info.file_size)
                files.append(File(name, info.file_size, header))
            elif depth < MAX_DEPTH:
                inner = archive(io.BytesIO(unpacked(found, info.filename)))
                files += _of_archive(inner, name, depth + 1, skipped)
            else:
                skipped["too_deep"] += 1
        except ImageError as error:
            skipped[error.reason] += 1
    return files
