"""The files of images: thumbnails, large images, grey values to be windowed, and heat maps, named by numbers alone."""

from collections.abc import Container
from dataclasses import dataclass

from medsae_ray.core.browser.data import BrowserData
from medsae_ray.core.report.overlay import overlay_png
from medsae_ray.core.report.thumbnails import SIDE, jpeg

LARGE = 1024
"""The most pixels a side of an image's own page."""


@dataclass(frozen=True)
class ImageFiles:
    """The images of a page that lie beside it; `root` is the way from the page to the site's folder."""

    data: BrowserData
    paged: Container[str]
    """The images that have pages of their own."""
    root: str = ""

    def called(self, image_id: str) -> str:
        """Return the words for an image: its number."""
        return f"image {self.data.images.number(image_id)}"

    def src(self, image_id: str) -> str | None:
        """Return the address of its thumbnail; None if images are not shown."""
        return None if self.data.access == "none" else f"{self.root}thumb/{self.data.images.number(image_id)}.jpg"

    def heat(self, feature: int, image_id: str, peak: float) -> str | None:
        """Return the address of a feature's heat map; None for an SAE on whole images."""
        if self.data.report.patches is None or self.data.access == "none":
            return None
        return f"{self.root}heat/{feature}-{self.data.images.number(image_id)}.png"

    def href(self, image_id: str) -> str | None:
        """Return the address of the image's page; None if single images have none."""
        return f"{self.root}image/{self.data.images.number(image_id)}.html" if image_id in self.paged else None


def thumbnail(data: BrowserData, image_id: str) -> bytes | None:
    """Return the thumbnail as JPEG without metadata; None if the image cannot be read."""
    return jpeg(data.picture(image_id, SIDE))


def heat_map(data: BrowserData, feature: int, image_id: str, peak: float) -> bytes | None:
    """Return a feature's activation on an image's patches as PNG; None without one."""
    if data.report.patches is None:
        return None
    found = data.report.patches.maps([(feature, image_id)]).get((feature, image_id))
    return overlay_png(data.picture(image_id, SIDE), found, peak)
