"""Files in folders and in zip archives, read within bounds. Nothing is ever unpacked to disk.

A file's address is its name below a Store; `!/` enters a zip archive: "2019/a.zip!/b/c.dcm", and once more for an
archive in an archive. An unreadable file raises ImageError with a reason of `decode.py`, and without its name.
"""

import io
import os
import re
import stat
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO, NamedTuple

import pyarrow.fs as pafs

from medsae_ray.core.artifacts.store import Store
from medsae_ray.core.images.sources import ImageSource
from medsae_ray.errors import ArtifactError, ImageError

MAX_FILE = 2**30  # bytes of one file or archive member that are ever held
MAX_DEPTH = 2  # archives in archives: 42.zip has six
MAX_MEMBERS = 200_000
_INTO = re.compile(r"(?<=\.zip)!/", re.IGNORECASE)


class FoundFile(NamedTuple):
    """A file of a folder."""

    name: str
    size: int
    """The size in bytes."""
    modified: float
    """The time of the last change, by which a stale reading of a file is recognised."""


def fetch(store: ImageSource, name: str) -> bytes:
    """Read the file at a path, URI or address. Raises ImageError for its own faults, OSError for the store's."""
    file, *members = _INTO.split(name)
    with _blaming(store, name), opened(store, file) as stream:
        if members:
            return member(stream, members)
        if stream.seek(0, os.SEEK_END) > MAX_FILE:
            raise ImageError("too_large", f"a file of more than {MAX_FILE} bytes")
        stream.seek(0)
        return stream.read()


@contextmanager
def opened(store: ImageSource, name: str) -> Iterator[BinaryIO]:
    """Open a seekable stream of one file, which is not an archive's member."""
    with _blaming(store, name):
        if store.is_local and "://" not in name:
            path = name if name.startswith("/") else store.path(name)
            # Opening a pipe would wait for its writer, for ever.
            if not stat.S_ISREG(os.stat(path).st_mode):
                raise ImageError("unreadable", "not a regular file (pipe, device or folder)")
        stream = store.open_uri(name)
    with stream:
        yield stream


def outer_file(address: str) -> str:
    """Return the file on disk that an address leads into."""
    return _INTO.split(address)[0]


@contextmanager
def opened_files(store: ImageSource, address: str) -> Iterator[Callable[[str], bytes]]:
    """Yield a reader of addresses in the same file or archive as `address`, whose directory is read once."""
    outer = outer_file(address)
    if outer == address:
        yield lambda name: fetch(store, name)
        return
    with opened(store, outer) as stream:
        with _blaming(store, outer):
            found = archive(stream)
        held: dict[str, zipfile.ZipFile] = {}

        def read(name: str) -> bytes:
            _, first, *deeper = _INTO.split(name)
            with _blaming(store, name):
                if not deeper:
                    return unpacked(found, first)
                if first not in held:  # one archive in the archive is kept open, as its files follow each other
                    held.clear()
                    held[first] = archive(io.BytesIO(unpacked(found, first)))
                data = unpacked(held[first], deeper[0])
                return member(io.BytesIO(data), deeper[1:]) if deeper[1:] else data

        yield read


@contextmanager
def _blaming(store: ImageSource, name: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise ImageError("missing", "no such file") from error
    except (ValueError, ArtifactError) as error:
        raise ImageError("unreadable", "not the address of a file") from error
    except OSError as error:
        # On a local disk the file itself is at fault. An object store that does not answer is no property of the
        # image: the shard fails, and the next run computes it again.
        if not store.is_local:
            raise OSError(_nameless(str(error), name)) from None
        raise ImageError("unreadable", os.strerror(error.errno) if error.errno else type(error).__name__) from error


def _nameless(text: str, uri: str) -> str:
    """Return an error's text, which goes into logs, without the image's place, which may identify a patient."""
    parts = uri.split("/")
    tails = ("/".join(parts[start:]) for start in range(len(parts)))
    tail = next((tail for tail in tails if tail and tail in text), None)
    return text.replace(tail, "(an image)") if tail else text


def archive(stream: BinaryIO) -> zipfile.ZipFile:
    """Open the zip archive in a stream. Raises ImageError if it is not one, or has more than MAX_MEMBERS members."""
    try:
        found = zipfile.ZipFile(stream)
    except OSError:
        raise
    except Exception as error:  # BadZipFile, ValueError, struct.error, UnicodeDecodeError, NotImplementedError
        raise ImageError("corrupt", "not a zip archive") from error
    if len(found.filelist) > MAX_MEMBERS:
        raise ImageError("too_large", f"an archive of more than {MAX_MEMBERS} members")
    return found


def member(stream: BinaryIO, members: list[str]) -> bytes:
    """Read a member of the archive in `stream`; further names enter archives in it."""
    name, *deeper = members
    data = unpacked(archive(stream), name)
    return member(io.BytesIO(data), deeper) if deeper else data


def unpacked(found: zipfile.ZipFile, name: str, limit: int | None = None) -> bytes:
    """Read a member's bytes, at most the first `limit` of them; without a limit a member above MAX_FILE is refused."""
    try:
        info = found.getinfo(name)
        if limit is None and info.file_size > MAX_FILE:
            raise ImageError("too_large", f"an archive's member claims {info.file_size} bytes")
        if info.flag_bits & 1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ImageError("unreadable", "the archive's member is encrypted or packed in an unknown way")
        with found.open(info) as content:
            return content.read(info.file_size if limit is None else limit)
    except KeyError as error:
        raise ImageError("missing", "no such member of the archive") from error
    except (ImageError, OSError):
        raise
    except EOFError as error:
        raise ImageError("truncated", "the archive ends before its member does") from error
    except Exception as error:  # BadZipFile, zlib.error, struct.error, NotImplementedError, RuntimeError, ...
        raise ImageError("corrupt", f"{type(error).__name__} in an archive") from error


def usable(found: zipfile.ZipFile, skipped: Counter[str]) -> list[zipfile.ZipInfo]:
    """List an archive's files by name; names that lead out of it and second copies are counted in `skipped`."""
    kept: dict[str, zipfile.ZipInfo] = {}
    for info in found.filelist:
        name = info.filename
        if name.endswith("/"):
            continue
        unsafe = name.startswith("/") or "\\" in name or ".." in name.split("/") or ":" in name.split("/")[0]
        if unsafe or _ambiguous(name):
            skipped["unsafe_name"] += 1
        elif name in kept:
            skipped["duplicate"] += 1
        else:
            kept[name] = info
    return [kept[name] for name in sorted(kept)]


def is_archive(name: str) -> bool:
    """Return True if a name ends in .zip, in any case."""
    return name.lower().endswith(".zip")


def walk(store: Store, folder: str, skipped: Counter[str]) -> list[FoundFile]:
    """List all files below `folder`, by name. Links are followed once; other entries are counted in `skipped`."""
    found = _walk_local(store, folder, skipped) if store.is_local else _walk_remote(store, folder)
    return sorted(found)


def _walk_local(store: ImageSource, folder: str, skipped: Counter[str]) -> Iterator[FoundFile]:
    root = store.path("")
    todo, seen = [os.path.normpath(os.path.join(root, folder))], set()
    while todo:
        place = todo.pop()
        try:
            status = os.stat(place)
            entries = list(os.scandir(place))
        except OSError:
            skipped["unreadable"] += 1
            continue
        if (status.st_dev, status.st_ino) in seen:
            skipped["link_loop"] += 1
            continue
        seen.add((status.st_dev, status.st_ino))
        for entry in entries:
            name = os.path.relpath(entry.path, root)
            reason, about = _kind(entry, name)
            if reason == "folder":
                todo.append(entry.path)
            elif reason:
                skipped[reason] += 1
            elif about:
                yield FoundFile(name, about.st_size, about.st_mtime)


def _kind(entry: os.DirEntry[str], name: str) -> tuple[str, os.stat_result | None]:
    """Return "folder", a reason to skip, or "" for a file; and the file system's status of the entry."""
    try:
        status = entry.stat()
    except OSError as error:
        return ("link_loop" if getattr(error, "errno", 0) == 40 else "missing"), None
    if stat.S_ISDIR(status.st_mode):
        return "folder", status
    if not stat.S_ISREG(status.st_mode):
        return "not_a_file", status
    return ("unsafe_name" if _ambiguous(name) else ""), status


def _ambiguous(name: str) -> bool:
    """Return True for a name that is not text, or that would be read as another address."""
    return bool(_INTO.search(name)) or not name.isprintable()


def _walk_remote(store: Store, folder: str) -> Iterator[FoundFile]:
    root = len(store.path(""))
    for info in store.listed("" if folder == "." else folder, recursive=True):
        if info.type == pafs.FileType.File and not _ambiguous(info.path[root:]):
            yield FoundFile(info.path[root:], info.size, info.mtime_ns or 0)
