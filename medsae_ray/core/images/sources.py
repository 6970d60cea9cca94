"""Where the images of a manifest are: below one folder, or below several that have names."""

from dataclasses import dataclass
from typing import BinaryIO, Protocol

from medsae_ray.core.artifacts.store import Store, is_absolute, split_uri


@dataclass(frozen=True)
class Folders:
    """Several folders under names: "a/x/y.png" is x/y.png in the folder called a."""

    of: dict[str, Store]

    @property
    def is_local(self) -> bool:
        """Whether all folders are on a local filesystem."""
        return all(store.is_local for store in self.of.values())

    def path(self, name: str) -> str:
        """As `Store.path`."""
        store, rest = self.place(name)
        return store.path(rest)

    def place(self, uri: str) -> tuple[Store, str]:
        """As `Store.place`."""
        if is_absolute(uri):
            return split_uri(uri)
        folder, _, rest = uri.partition("/")
        return self.of[folder], rest

    def open_uri(self, uri: str) -> BinaryIO:
        """As `Store.open_uri`."""
        store, rest = self.place(uri)
        return store.open(rest)


class ImageSource(Protocol):
    """Where the relative uris of a manifest start: a Store, Folders, or one of them behind a cache."""

    @property
    def is_local(self) -> bool:
        """Whether all images are on a local filesystem."""
        ...

    def path(self, name: str) -> str:
        """As `Store.path`."""
        ...

    def place(self, uri: str) -> tuple[Store, str]:
        """As `Store.place`."""
        ...

    def open_uri(self, uri: str) -> BinaryIO:
        """As `Store.open_uri`."""
        ...
