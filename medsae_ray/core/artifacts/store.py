"""A folder of files at a URI: local, s3://, gs:// (pyarrow) or any that fsspec knows. Writes are all or nothing."""

import os
import re
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, TypeVar
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.fs as pafs

from medsae_ray.core.artifacts.first_writer import put_new
from medsae_ray.core.artifacts.patience import PatientFile, patiently
from medsae_ray.core.artifacts.write_errors import writing
from medsae_ray.errors import ArtifactError

T = TypeVar("T")
_OBJECTS = ("s3", "gs", "gcs")
_OPTIONS = re.compile(r"\?((region|scheme|endpoint_override|project_id|[a-z_]+_seconds)=[^&=/]*(&|$))+$")
"""The options after an object store's address, as pyarrow reads them; any other ? is part of a name."""


def _resolve(uri: str) -> tuple[pafs.FileSystem, str]:
    scheme, divided, rest = uri.partition("://")
    if not divided:
        return pafs.LocalFileSystem(), uri
    if scheme.lower() in _OBJECTS:
        return _of_objects(scheme.lower(), rest)
    try:
        found: tuple[pafs.FileSystem, str] = pafs.FileSystem.from_uri(uri)
        return found
    except pa.ArrowInvalid:
        import fsspec

        try:
            filesystem, path = fsspec.core.url_to_fs(uri)
        except (ImportError, ValueError) as error:
            raise ArtifactError(f"no filesystem for {uri!r}: {error}. Use a local path, s3:// or gs://") from error
        return pafs.PyFileSystem(pafs.FSSpecHandler(filesystem)), path


def _of_objects(scheme: str, rest: str) -> tuple[pafs.FileSystem, str]:
    """Open a bucket. Only the bucket is read as a URI: object names may hold any character (space, #, %, ?, +, ...)."""
    place, options = _without_options(rest)
    bucket, _, key = place.partition("/")
    try:
        # The store is asked for the region of a bucket without one.
        filesystem, base = patiently(
            f"{scheme}://{bucket}", lambda: pafs.FileSystem.from_uri(f"{scheme}://{bucket}{options}")
        )
    except pa.ArrowInvalid as error:
        raise ArtifactError(f"{scheme}://{bucket} is not a bucket: {error}") from error
    return filesystem, f"{base}/{key}" if key else base


def _without_options(uri: str) -> tuple[str, str]:
    found = _OPTIONS.search(uri)
    return (uri[: found.start()], found[0]) if found else (uri, "")


def plain_path(uri: str) -> str:
    """Return a file: URL as its path, with its %20 decoded; any other address unchanged."""
    if not uri.lower().startswith("file:/"):
        return uri
    host, slash, path = uri[7:].partition("/") if uri[5:7] == "//" else ("", "/", uri[6:])
    if host not in ("", "localhost"):
        raise ArtifactError(f"a file: URL names this machine's files, as file:///folder/name, and not {host!r}")
    return unquote(slash + path)


@dataclass(frozen=True)
class Store:
    """A folder at `uri`. Cheap to pickle: each process opens its own connection."""

    uri: str
    """The folder's address. A local path is made absolute at once: other processes have other working directories."""

    def __post_init__(self) -> None:
        uri = plain_path(self.uri)
        if "://" not in uri:
            uri = os.path.abspath(os.path.expanduser(uri))
        object.__setattr__(self, "uri", uri)

    @cached_property
    def opened(self) -> tuple[pafs.FileSystem, str]:
        """The filesystem and the path of this folder in it, resolved once per process."""
        return _resolve(self.uri)

    def __getstate__(self) -> dict[str, str]:
        return {"uri": self.uri}

    @property
    def is_local(self) -> bool:
        """True if the folder is on a local filesystem."""
        return isinstance(self.opened[0], pafs.LocalFileSystem)

    def path(self, name: str) -> str:
        """Return `name` below this folder, in the filesystem's own form."""
        return f"{self.opened[1].rstrip('/')}/{name}"

    def address(self, name: str) -> str:
        """Return `name` below this folder as an address, with the scheme of this folder's own."""
        return self.child(name).uri

    def child(self, name: str) -> "Store":
        """Return the folder `name` below this one; options in the URI are kept."""
        place, options = _without_options(self.uri)
        return Store(f"{place.rstrip('/')}/{name}{options}")

    def patiently(self, act: Callable[[], T]) -> T:
        """Return the result of `act`, which accesses this store; while a remote store is away it is retried."""
        return act() if self.is_local else patiently(self._bucket, act)

    @property
    def _bucket(self) -> str:
        scheme, _, rest = _without_options(self.uri)[0].partition("://")
        return f"{scheme}://{rest.partition('/')[0]}"

    def read(self, name: str) -> bytes:
        """Read all bytes of one file. Raises FileNotFoundError, or another OSError from the filesystem."""

        def whole() -> bytes:
            with self.opened[0].open_input_file(self.path(name)) as stream:
                data: bytes = stream.read()
                return data

        return self.patiently(whole)

    def open(self, name: str) -> BinaryIO:
        """Open a seekable stream of one file."""
        if self.is_local:
            stream: BinaryIO = self.opened[0].open_input_file(self.path(name))
            return stream
        return PatientFile(self._bucket, lambda: self.opened[0].open_input_file(self.path(name)))  # type: ignore[return-value]

    def info(self, name: str = "") -> pafs.FileInfo:
        """Return the file information of a name, which need not exist."""
        return self.patiently(lambda: self.opened[0].get_file_info(self.path(name) if name else self.opened[1]))

    def listed(self, folder: str = "", recursive: bool = False) -> list[pafs.FileInfo]:
        """List the entries directly in `folder`, or anywhere below; [] for a missing folder."""
        base = (self.path(folder) if folder else self.opened[1]).rstrip("/") or "/"
        chosen = pafs.FileSelector(base, allow_not_found=True, recursive=recursive)
        return list(self.patiently(lambda: self.opened[0].get_file_info(chosen)))

    def place(self, uri: str) -> tuple["Store", str]:
        """Return folder and name of an image: a URI or an absolute path unchanged, any other one below this folder."""
        return split_uri(uri) if is_absolute(uri) else (self, uri)

    def open_uri(self, uri: str) -> BinaryIO:
        """Open a seekable stream of the image at `uri`."""
        folder, name = self.place(uri)
        return folder.open(name)

    def exists(self, name: str) -> bool:
        """Return True if `name` is a file, not a folder."""
        return bool(self.info(name).type == pafs.FileType.File)

    def names(self, folder: str = "") -> list[str]:
        """List the file names directly in `folder`, sorted, without writers' temporary files; [] if it is missing."""
        return sorted(self.sizes(folder))

    def sizes(self, folder: str = "") -> dict[str, int]:
        """Return the bytes of each file of `names`."""
        found = (i for i in self.listed(folder) if i.type == pafs.FileType.File)
        return {info.base_name: info.size for info in found if not info.base_name.startswith(".")}

    def folders(self, folder: str = "") -> list[str]:
        """List the names of the folders directly in `folder`, sorted."""
        return sorted(i.base_name for i in self.listed(folder) if i.type == pafs.FileType.Directory)

    def write(self, name: str, data: bytes) -> None:
        """Write a file whole or not at all: a rename on a local disk, one PUT on an object store.

        Raises ArtifactError with the cause and the remedy if it cannot be written.
        """
        with writing(f"{self.uri}/{name}"):
            if self.is_local:
                temporary = self._write_temporary(name, data)
                os.replace(temporary, self.path(name))
            else:
                self.patiently(lambda: self._put(name, data))

    def _put(self, name: str, data: bytes) -> None:
        with self.opened[0].open_output_stream(self.path(name)) as stream:
            stream.write(data)

    def write_new(self, name: str, data: bytes) -> bool:
        """Write like `write` unless the file exists: the first writer wins, and later ones return False.

        This is exclusive on a local disk, and on S3 where `put_new` works. Any other store is asked first, so two
        writers within the same few milliseconds may both write; their contents differ only in times.
        """
        if not self.is_local:
            return self._write_object(name, data)
        with writing(f"{self.uri}/{name}"):
            temporary = self._write_temporary(name, data)
            try:
                os.link(temporary, self.path(name))
            except FileExistsError:
                return False
            finally:
                os.unlink(temporary)
        return True

    def _write_object(self, name: str, data: bytes) -> bool:
        if self.exists(name):  # asked in any case: a store without conditional writes would replace it
            return False
        if isinstance(self.opened[0], pafs.S3FileSystem):
            made = put_new(self.path(name), _without_options(self.uri)[1], self.opened[0].region, data)
            if made is not None:
                return made
            if self.exists(name):  # the answer was lost, or another was quicker
                return False
        self.write(name, data)
        return True

    def check_writable(self) -> None:
        """Raise ArtifactError if no file can be made here. On an object store only the first write shows it."""
        if self.is_local:
            with writing(self.uri):
                os.unlink(self._write_temporary("writable", b""))

    def delete(self, name: str) -> None:
        """Remove a file, if it exists."""
        with suppress(FileNotFoundError):
            self.patiently(lambda: self.opened[0].delete_file(self.path(name)))

    def delete_folder(self, name: str) -> None:
        """Remove a folder with its contents, if it exists, and this folder if it is then empty."""
        if self.info(name).type == pafs.FileType.Directory:
            with suppress(FileNotFoundError):  # retried after it had succeeded
                self.patiently(lambda: self.opened[0].delete_dir(self.path(name)))
        if self.is_local:
            with suppress(OSError):  # not empty: another run is at work
                os.rmdir(self.opened[1])

    def _write_temporary(self, name: str, data: bytes) -> str:
        final = Path(self.path(name))
        final.parent.mkdir(parents=True, exist_ok=True)
        temporary = final.with_name(f".{uuid.uuid4().hex}.tmp")
        try:
            with temporary.open("wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
        except OSError:  # a full disk should not be full of halves
            temporary.unlink(missing_ok=True)
            raise
        return str(temporary)


def is_absolute(uri: str) -> bool:
    """Return True if a uri starts at a store or at the root of a disk."""
    return "://" in uri or uri.startswith(("/", "file:/"))


def split_uri(uri: str) -> tuple[Store, str]:
    """Return the folder and name of one file or artifact: "s3://b/a/x" -> (Store("s3://b/a"), "x")."""
    place, options = _without_options(plain_path(uri))
    folder, _, name = place.rstrip("/").rpartition("/")
    return Store(f"{folder}{options}" if folder else "/" if place.startswith("/") else "."), name
