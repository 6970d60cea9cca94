"""The places of a manifest's images: below one folder, or below several named ones."""

from dataclasses import dataclass
from typing import BinaryIO, Protocol

from medsae_ray.core.artifacts.store import Store, is_absolute, split_uri


@dataclass(frozen=True)
class Folders:
    """A set of named folders: "a/x/y.png" is x/y.png in the folder called a."""

    of: dict[str, Store]

    @property
    def is_local(self) -> bool:
        """True if all folders are on a local filesystem."""
        return all(store.is_local for store in self.of.values())

    def path(self, name: str) -> str:
        """Return `Store.path` of the image."""
        store, rest = self.place(name)
        return store.path(rest)

    def place(self, uri: str) -> tuple[Store, str]:
        """Return `Store.place` of the image."""
        if is_absolute(uri):
            return split_uri(uri)
        folder, _, rest = uri.partition("/")
        return self.of[folder], rest

    def open_uri(self, uri: str) -> BinaryIO:
        """Open the image as `Store.open_uri` does."""
        store, rest = self.place(uri)
        return store.open(rest)


class ImageSource(Protocol):
    """The start of a manifest's relative uris: a Store, Folders, or one of them behind a cache."""

    @property
    def is_local(self) -> bool:
        """True if all images are on a local filesystem."""
        ...

    def path(self, name: str) -> str:
        """Return the path as `Store.path` does."""
        ...

    def place(self, uri: str) -> tuple[Store, str]:
        """Return the folder and name as `Store.place` does."""
        ...

    def open_uri(self, uri: str) -> BinaryIO:
        """Open the image as `Store.open_uri` does."""
        ...
