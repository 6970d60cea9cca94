"""A read-through cache of a slow store's images on a node's own disk; the least recently used files go first.

    <folder>/<64 hex>     SHA-256 of the file (32 bytes), then the file's bytes
    <folder>/used         the number of cached bytes, or more

A file's name is the hash of its uri, its size and its version in the store (time of the last change, ETag), so a
changed file has another name. Bytes with a wrong checksum are not served. Every change of the folder is made under one
lock, which the kernel takes back from a process that dies; reading needs none.
"""

import hashlib
import io
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pyarrow.fs as pafs

from medsae_ray.core.artifacts.locks import locked
from medsae_ray.core.artifacts.store import Store
from medsae_ray.core.images.sources import ImageSource

MAX_FILE = 2**30  # bytes: larger files, mostly archives, are not cached
_USED, _TEMPORARY = "used", "incoming"
_DIGEST = 32  # bytes
_LOW = 0.9  # the share of the limit to shrink to, so that one removal makes room for many files


@dataclass(frozen=True)
class Cached:
    """A source `images` with those of a remote store cached in `folder`, at most `limit` bytes.

    Safe to use from many processes and threads at once. A disk that is full or gone makes it slower and nothing else.
    """

    images: ImageSource
    folder: str
    limit: int

    @property
    def is_local(self) -> bool:
        """True if the images themselves are on a local filesystem."""
        return self.images.is_local

    def path(self, name: str) -> str:
        """Return `Store.path` of the images."""
        return self.images.path(name)

    def place(self, uri: str) -> tuple[Store, str]:
        """Return `Store.place` of the images."""
        return self.images.place(uri)

    def open_uri(self, uri: str) -> BinaryIO:
        """Open a stream as `Store.open_uri` does; a cached file is in memory whole. Raises the store's errors."""
        store, name = self.place(uri)
        key, size = (None, 0) if store.is_local else _version(store, name)
        if key is None or size > min(MAX_FILE, _LOW * self.limit - _DIGEST):
            return store.open(name)
        data = self._kept(key, size)
        if data is None:
            data = store.read(name)
            if len(data) == size:  # otherwise the file has just changed
                with suppress(OSError):
                    self._keep(key, data)
        return io.BytesIO(data)

    def _kept(self, key: str, size: int) -> bytes | None:
        file = Path(self.folder, key)
        try:
            with file.open("rb") as stream:
                digest, data = stream.read(_DIGEST), stream.read()
            if len(data) != size or hashlib.sha256(data).digest() != digest:
                file.unlink()
                return None
            os.utime(file)
        except OSError:  # not there, most of the time
            return None
        return data

    def _keep(self, key: str, data: bytes) -> None:
        folder, taken = Path(self.folder), _DIGEST + len(data)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with locked(folder / _USED) as used:
            before = _number(used)
            if before is None or before + taken > self.limit:
                before = _make_room(folder, int(_LOW * self.limit) - taken)
            # Written first: a process that dies from here on leaves fewer bytes than the number.
            used.seek(0)
            used.write(b"%020d" % (before + taken))
            with open(folder / _TEMPORARY, "wb", opener=_private) as stream:
                stream.write(hashlib.sha256(data).digest())
                stream.write(data)
            os.replace(folder / _TEMPORARY, folder / key)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _number(used: BinaryIO) -> int | None:
    """Return the number of cached bytes, None if it is missing or incomplete."""
    text = used.read()
    return int(text) if len(text) == 20 and text.isdigit() else None


def _make_room(folder: Path, most: int) -> int:
    """Remove the least recently used files until at most `most` bytes are left, and return their number. Under the lock
    an incomplete file has no writer."""
    (folder / _TEMPORARY).unlink(missing_ok=True)
    files = []
    for entry in os.scandir(folder):
        if entry.name != _USED:
            with suppress(FileNotFoundError):  # a reader has found it damaged
                status = entry.stat()
                files.append((status.st_mtime_ns, status.st_size, entry.path))
    left = sum(size for _, size, _ in files)
    for _, size, path in sorted(files):
        if left <= most:
            break
        with suppress(FileNotFoundError):
            os.unlink(path)
        left -= size
    return left


def _version(store: Store, name: str) -> tuple[str | None, int]:
    """Return the name under which a file is cached, and its size; no name if its version is unknown."""
    filesystem, path = store.opened[0], store.path(name)
    found = store.info(name)
    if found.type != pafs.FileType.File or found.size is None:
        return None, 0
    version = found.mtime_ns or store.patiently(lambda: _etag(filesystem, path))
    if not version:
        return None, found.size
    return hashlib.sha256(f"{store.uri}/{name}\n{found.size}\n{version}".encode()).hexdigest(), found.size


def _etag(filesystem: pafs.FileSystem, path: str) -> str | None:
    """Return the ETag of a web server, through fsspec."""
    handler = getattr(filesystem, "handler", None)
    if not isinstance(handler, pafs.FSSpecHandler):
        return None
    about = {key.lower(): value for key, value in handler.fs.info(path).items()}
    return next((str(about[key]) for key in ("etag", "last-modified", "last_modified") if about.get(key)), None)
