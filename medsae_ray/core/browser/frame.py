"""What all pages of a site share: the templates, the features in their order, and the sections about the whole run."""

from functools import cached_property
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader

from medsae_ray.core.browser import grid
from medsae_ray.core.browser.data import BrowserData
from medsae_ray.core.browser.images import ImageFiles
from medsae_ray.core.browser.privacy import SMALL, people
from medsae_ray.core.browser.strength import sample_images
from medsae_ray.core.report import render, view

POLICY = "default-src 'self'"
"""The Content-Security-Policy of every page: no script, style or image from elsewhere, and no script or style in it."""


class Frame:
    """The data of a site with all that is made of them once."""

    def __init__(self, data: BrowserData) -> None:
        self.data = data
        self.rows = grid.ordered(data)
        self.row_of = {row["feature"]: row for row in self.rows}
        self.place_of = {row["feature"]: place for place, row in enumerate(self.rows)}
        self.copies_of = {f: sorted(set(group) - {f}) for group in data.report.copies for f in group}

    def render(self, template: str, root: str = "", **context: Any) -> str:
        """Render a page; `root` is the way from it to the site's folder."""
        shared = self.sections | {
            "root": root,
            "reading": "" if template == "run.html.j2" else f"{root}run.html",
            "card_link": f"{root}feature/%d.html",
        }
        return self._environment.get_template(template).render(shared | context)

    def files(self, root: str) -> ImageFiles:
        """Return the images as a page sees them that lies below the site's folder by `root`."""
        return ImageFiles(self.data, self.paged, root)

    @cached_property
    def shown(self) -> list[tuple[int, str]]:
        """The images on each feature's page, as pairs of a feature and an image id."""
        if self.data.access == "none":
            return []
        found = [(feature, image_id) for feature, row in self.row_of.items() for image_id in row["top_images"]]
        found += [(feature, image.image_id) for feature in self.row_of for image in sample_images(self.data, feature)]
        return list(dict.fromkeys(found))

    @cached_property
    def paged(self) -> frozenset[str]:
        """The images that pages link to: those on the features' pages, if single images are shown."""
        return frozenset(image_id for _, image_id in self.shown) if self.data.access == "all" else frozenset()

    @cached_property
    def heated(self) -> frozenset[tuple[int, str]]:
        """The pairs of a feature and an image with a heat map on some page."""
        return frozenset(pair for pair in self.shown if self.data.report.patches and self._is_active(*pair))

    def _is_active(self, feature: int, image_id: str) -> bool:
        row = self.data.images.row_of[image_id]
        of = slice(*self.data.active_NF.indptr[row : row + 2])
        return bool((self.data.active_NF.indices[of] == feature).any())

    @cached_property
    def correlation_limit(self) -> float:
        """The end of the correlation axis of all cards."""
        return view.common_limit(self.rows, ("r", "r_low", "r_high"))

    @cached_property
    def tiles(self) -> list[grid.Tile]:
        """The tiles of all features."""
        return grid.tiles(self.data, self.rows)

    @cached_property
    def sections(self) -> dict[str, Any]:
        """The sections of the report about the whole run."""
        features = set(self.row_of)
        found = render.sections(self.data.report, self.rows, features, "feature/%d.html")
        return found | {"linked": {feature: feature for feature in features}, "stands_for": self.copies_of}

    @cached_property
    def _environment(self) -> Environment:
        loader = ChoiceLoader([PackageLoader("medsae_ray.core.browser"), PackageLoader("medsae_ray.core.report")])
        found = render.templates(loader, people)
        found.globals |= {
            "policy": POLICY,
            "small": SMALL,
            "access": self.data.access,
            "citation": self.data.citation,
            "has_map": bool(self.data.place_of),
            "title_of": lambda row: row["name"] or "Unnamed",
        }
        return found
