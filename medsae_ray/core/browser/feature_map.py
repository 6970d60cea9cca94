"""The map of features: a dot each, coloured by the verdict on its name, and a link to its page. The dots of a small
map have their names beside them."""

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from medsae_ray.core.browser.grid import Tile
from medsae_ray.core.report.charts import join, linear, svg, text

WIDTH, HEIGHT, EDGE = 960.0, 640.0, 12.0
FEW = 64
"""The most features whose names are written on the map."""


def feature_map(place_of: Mapping[int, tuple[float, float]], tiles: Sequence[Tile]) -> Markup:
    """Draw the features that have a place."""
    shown = [tile for tile in tiles if tile.feature in place_of]
    if not shown:
        return Markup()
    xs, ys = zip(*(place_of[tile.feature] for tile in shown), strict=True)
    x, y = linear(min(xs), max(xs), EDGE, WIDTH - EDGE), linear(min(ys), max(ys), HEIGHT - EDGE, EDGE)
    named = len(shown) <= FEW
    dots = (_dot(tile, x(place_of[tile.feature][0]), y(place_of[tile.feature][1]), named) for tile in shown)
    return svg(WIDTH, HEIGHT, "feature-map", f"{len(shown)} features by likeness", join(dots), role="group")


def _dot(tile: Tile, x: float, y: float, named: bool) -> Markup:
    link = Markup('<a href="feature/{}.html"><circle class="place {}" cx="{:.1f}" cy="{:.1f}" r="4">{}</circle>{}</a>')
    said = Markup("<title>{} {}: {}</title>").format(tile.feature, tile.name or "unnamed", tile.verdict or "not tested")
    return link.format(tile.feature, tile.verdict or "none", x, y, said, _name(tile, x, y) if named else "")


def _name(tile: Tile, x: float, y: float) -> Markup:
    """Write a feature's name beside its dot, towards the middle of the map."""
    name = tile.name or f"feature {tile.feature}"
    return text("name", x + 9, y + 4, name) if x < WIDTH / 2 else text("name end", x - 9, y + 4, name)
