"""The images of a page: how it calls them, where they lie, and where they lead."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from medsae_ray.core.analysis.patch_maps import Pair, PatchMap
from medsae_ray.core.report.overlay import overlay_url
from medsae_ray.core.report.thumbnails import data_url


class PageImages(Protocol):
    """The images of one page."""

    def called(self, image_id: str) -> str:
        """Return the words for an image."""
        ...

    def src(self, image_id: str) -> str | None:
        """Return the address of its thumbnail; None without one."""
        ...

    def heat(self, feature: int, image_id: str, peak: float) -> str | None:
        """Return the address of a feature's activation to lay over it; None without one. `peak` is opaque."""
        ...

    def href(self, image_id: str) -> str | None:
        """Return the address of the image's own page; None without one."""
        ...


@dataclass(frozen=True)
class Embedded:
    """The images of a page that holds them itself, as data URLs."""

    thumbnail: Callable[[str], bytes | None]
    maps: Mapping[Pair, PatchMap]

    def called(self, image_id: str) -> str:
        """Return the image's id."""
        return image_id

    def src(self, image_id: str) -> str | None:
        """Return the thumbnail itself."""
        return data_url(self.thumbnail(image_id))

    def heat(self, feature: int, image_id: str, peak: float) -> str | None:
        """Return the overlay itself."""
        return overlay_url(self.thumbnail(image_id), self.maps.get((feature, image_id)), peak)

    def href(self, image_id: str) -> str | None:
        """Return None: the page has no pages of images."""
        return None
