"""The pages about the whole run: the grid, the report's sections, the label map, the map of features, comparisons."""

from medsae_ray.core.browser import grid
from medsae_ray.core.browser.feature_map import feature_map
from medsae_ray.core.browser.frame import Frame


def grid_page(frame: Frame, number: int) -> str:
    """Return a page of the grid, from 1."""
    pages = dict(grid.pages(frame.tiles))
    return frame.render(
        "grid.html.j2",
        tiles=pages[number],
        number=number,
        last=len(pages),
        total=len(frame.tiles),
        choices=grid.choices(frame.tiles),
        sorts=grid.SORTS,
    )


def run_page(frame: Frame) -> str:
    """Return the report's sections about the whole run, and how to read them."""
    return frame.render("run.html.j2", serves={})


def labels_page(frame: Frame) -> str:
    """Return the map of labels by features."""
    return frame.render("labels.html.j2")


def compare_page(frame: Frame) -> str:
    """Return the page on which the script compares features."""
    return frame.render("compare.html.j2")


def map_page(frame: Frame) -> str:
    """Return the map of features."""
    return frame.render("map.html.j2", feature_map=feature_map(frame.data.place_of, frame.tiles))
