"""The site: every file of the browser by its path. A folder has all of them, and the service makes them when asked."""

import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib import resources

from medsae_ray.core.browser import exports, grid, images
from medsae_ray.core.browser.data import BrowserData
from medsae_ray.core.browser.feature_page import feature_data, feature_page
from medsae_ray.core.browser.frame import Frame
from medsae_ray.core.browser.image_page import image_page
from medsae_ray.core.browser.run_pages import compare_page, grid_page, labels_page, map_page, run_page
from medsae_ray.core.report import render

KINDS = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "jpg": "image/jpeg",
    "png": "image/png",
    "svg": "image/svg+xml",
    "csv": "text/csv; charset=utf-8",
    "parquet": "application/vnd.apache.parquet",
}
"""The type of a file by its ending."""
FOLDERS = ("feature", "image", "thumb", "shade", "heat", "data", "exports")
PLACES = ("/", "/{page}.html", "/style.css", "/browser.js", "/icon.svg", *(f"/{folder}/{{name}}" for folder in FOLDERS))
"""The routes below which all files lie."""
File = bytes | str | None


class Site:
    """The files of one run's browser. They are made from the run whenever they are asked for."""

    def __init__(self, data: BrowserData) -> None:
        render.check(data.report)
        self.data, self._frame = data, Frame(data)
        self._fixed = self._fixed_files()
        self._numbered: dict[str, Callable[..., File]] = {
            "feature/*.html": partial(self._of_feature, feature_page),
            "data/*.js": partial(self._of_feature, feature_data),
            "image/*.html": lambda number: self._of_image(number, lambda row: image_page(self._frame, row)),
            "image/*.png": lambda number: self._of_image(number, self._large),
            "shade/*.png": lambda number: self._of_image(number, self._shade),
            "thumb/*.jpg": self._thumbnail,
            "heat/*-*.png": self._heat,
        }

    def file(self, path: str) -> bytes | None:
        """Return the file at a path, such as feature/17.html; None if there is none."""
        numbers = re.findall(r"0|[1-9]\d{0,8}", path)
        if path in self._fixed:
            found = self._fixed[path]()
        elif make := self._numbered.get(re.sub(r"0|[1-9]\d{0,8}", "*", path)):
            found = make(*map(int, numbers))
        else:
            found = None
        return found.encode() if isinstance(found, str) else found

    def paths(self) -> Iterator[str]:
        """Yield the path of every file of a folder. The service also has those of images that no feature's page
        shows."""
        yield from self._fixed
        for feature in self._frame.row_of:
            yield from (f"feature/{feature}.html", f"data/{feature}.js")
        numbers = sorted(map(self.data.images.number, {image_id for _, image_id in self._frame.shown}))
        for number in numbers if self.data.access == "all" else ():
            yield from (f"image/{number}.html", f"image/{number}.png", f"shade/{number}.png")
        yield from (f"thumb/{number}.jpg" for number in sorted({*numbers, *self._like(numbers)}))
        heated = sorted((f, self.data.images.number(image_id)) for f, image_id in self._frame.heated)
        yield from (f"heat/{feature}-{number}.png" for feature, number in heated)

    def _like(self, numbers: Sequence[int]) -> set[int]:
        """Return the numbers of images that the pages of these images show besides."""
        if self.data.access != "all":
            return set()
        ids = (self.data.images.id_N[self.data.images.of_number[number]] for number in numbers)
        return {self.data.images.number(other) for image_id in ids for other, _ in self.data.similar(image_id)}

    def _fixed_files(self) -> dict[str, Callable[[], File]]:
        frame = self._frame
        found: dict[str, Callable[[], File]] = {
            "index.html": lambda: grid_page(frame, 1),
            "run.html": lambda: run_page(frame),
            "labels.html": lambda: labels_page(frame),
            "compare.html": lambda: compare_page(frame),
            "style.css": _style,
            "browser.js": _script,
            "icon.svg": lambda: _packaged("icon.svg"),
            "data/features.js": lambda: grid.script(self.data, frame.tiles),
            "exports/features.csv": lambda: exports.csv(self.data, frame.rows),
            "exports/features.parquet": lambda: exports.parquet(self.data, frame.rows),
        }
        if self.data.place_of:
            found["map.html"] = lambda: map_page(frame)
        pages = range(2, -(-len(frame.rows) // grid.PAGE) + 1)
        return found | {f"page-{number}.html": partial(grid_page, frame, number) for number in pages}

    def _of_feature(self, make: Callable[[Frame, int], str], feature: int) -> File:
        return make(self._frame, feature) if feature in self._frame.row_of else None

    def _of_image(self, number: int, make: Callable[[int], File]) -> File:
        return make(row) if self.data.access == "all" and (row := self._row(number)) is not None else None

    def _row(self, number: int) -> int | None:
        of_number = self.data.images.of_number
        return int(of_number[number]) if number < len(of_number) else None

    def _large(self, row: int) -> File:
        return self.data.picture(self.data.images.id_N[row], images.LARGE)

    def _shade(self, row: int) -> File:
        found = self.data.shade(self.data.images.id_N[row], images.LARGE)
        return found.png if found else None

    def _thumbnail(self, number: int) -> File:
        row = None if self.data.access == "none" else self._row(number)
        return None if row is None else images.thumbnail(self.data, self.data.images.id_N[row])

    def _heat(self, feature: int, number: int) -> File:
        row = None if self.data.access == "none" else self._row(number)
        if row is None or feature not in self._frame.row_of:
            return None
        return images.heat_map(self.data, feature, self.data.images.id_N[row], self._frame.row_of[feature]["max"])


def _style() -> str:
    """Return the report's style sheets with the browser's own."""
    shared = (render.style(name) for name in ("style.css", "names.css", "recovery.css"))
    return "\n".join(map(str, (*shared, _packaged("browser.css"))))


def _script() -> str:
    """Return the one script, of its files in their order."""
    folder = resources.files("medsae_ray.core.browser").joinpath("script")
    files = sorted(folder.iterdir(), key=lambda file: file.name)
    return "\n".join(file.read_text(encoding="utf-8") for file in files if file.name.endswith(".js"))


def _packaged(name: str) -> str:
    return resources.files("medsae_ray.core.browser").joinpath(name).read_text(encoding="utf-8")
