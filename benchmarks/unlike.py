"""The share of foreign and spoilt images that a run flags as unlike its own, and of its own test patients.

    python benchmarks/unlike.py RECIPE --root ROOT --json result.json [--foreign NAME=FOLDER ...] [--phantoms SEED]

Stage `likeness` of the run is made if it is missing, with all before it. Images of test patients, one each, are spoilt
in every way of `SPOILT` and encoded by the run's encoder, as are the images of foreign folders (PNG, JPEG, DICOM, TIFF)
and phantoms of another seed. Each share has Wilson's 95 % interval.
"""

import argparse
import json
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageOps
from rich.console import Console

from medsae_ray.config import Recipe, load_recipe
from medsae_ray.core.analysis.drawn import drawn
from medsae_ray.core.analysis.likeness import Judge
from medsae_ray.core.analysis.partial_sums import one_readable
from medsae_ray.core.artifacts.columns import column, readable
from medsae_ray.core.artifacts.likeness import LikenessMetrics
from medsae_ray.core.artifacts.metrics import metrics_of
from medsae_ray.core.artifacts.store import Store
from medsae_ray.core.encoders.embedding import Embedder
from medsae_ray.core.images.reader import Reading
from medsae_ray.core.naming.scores import wilson
from medsae_ray.core.phantom.cohort import patient
from medsae_ray.core.phantom.render import render
from medsae_ray.errors import ImageError
from medsae_ray.pipeline import STAGES
from medsae_ray.runtime.run import Run
from medsae_ray.stages.manifest import image_store

Change = Callable[[Image.Image, np.random.Generator], Image.Image]
BATCH = 32
PHANTOMS = 100


def noise(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Grey values of which each is drawn by itself."""
    return Image.fromarray(rng.integers(0, 256, image.size[::-1], dtype=np.uint8))


def clouds(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """The same on an eighth of the pixels, smoothly enlarged."""
    small = rng.integers(0, 256, [max(1, side // 8) for side in image.size[::-1]], dtype=np.uint8)
    return Image.fromarray(small).resize(image.size, Image.Resampling.BICUBIC)


def grainy(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Noise of 40 grey levels on the image."""
    return Image.fromarray((np.asarray(image) + rng.normal(0, 40, image.size[::-1])).clip(0, 255).astype(np.uint8))


def middle(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """The middle of the image alone, 60 % of each side."""
    width, height = image.size
    return image.crop((width // 5, height // 5, width - width // 5, height - height // 5))


def small(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """The image at half its size on black, as on a screenshot."""
    width, height = image.size
    page = Image.new("L", image.size)
    page.paste(image.resize((width // 2, height // 2)), (width // 4, height // 4))
    return page


def text(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Black lines of text on white."""
    page = Image.new("L", image.size, 255)
    words = "".join(chr(int(code)) for code in rng.integers(97, 123, 2000))
    for line, start in enumerate(range(0, 1200, 40)):
        ImageDraw.Draw(page).text((5, 5 + 11 * line), words[start : start + 40], fill=0)
    return page


def gamma(power: float, image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Grey values to a power."""
    return image.point([int(255 * (value / 255) ** power) for value in range(256)])


SPOILT: dict[str, Change] = {
    "white": lambda image, rng: Image.new("L", image.size, 255),
    "black": lambda image, rng: Image.new("L", image.size, 0),
    "noise": noise,
    "clouds": clouds,
    "text": text,
    "inverted": lambda image, rng: ImageOps.invert(image),
    "upside down (180 degrees)": lambda image, rng: image.rotate(180),
    "top to bottom": lambda image, rng: ImageOps.flip(image),
    "rotated by 90 degrees": lambda image, rng: image.transpose(Image.Transpose.ROTATE_90),
    "rotated by 270 degrees": lambda image, rng: image.transpose(Image.Transpose.ROTATE_270),
    "rotated by 30 degrees": lambda image, rng: image.rotate(30),
    "left to right": lambda image, rng: ImageOps.mirror(image),
    "half its size on black": small,
    "its middle alone": middle,
    "blurred": lambda image, rng: image.filter(ImageFilter.GaussianBlur(image.width / 56)),
    "grainy": grainy,
    "darker (gamma 2)": partial(gamma, 2.0),
    "brighter (gamma 0.5)": partial(gamma, 0.5),
}
ALIKE = ("white", "black")
"""The kinds of which all images of one size are equal."""


class Trial:
    """A run with its encoder and its judgement."""

    def __init__(self, run: Run) -> None:
        what, paths = run.recipe.what, run.recipe.how.paths
        self.run, self.judge = run, Judge(run.artifact("likeness"))
        weights = what.encoder.local(what.encoder.pinned(paths.weights))
        self._embedder = Embedder.of(what.encoder.load(weights, device="cpu", threads=1), what.encoder.patches)
        self.reading = Reading.of(what.images, self._embedder.encoder.preprocess.size)

    def test_images(self, most: int) -> list[Image.Image]:
        """Read one image of each of at most so many test patients."""
        manifest, embeddings = self.run.artifact("manifest"), self.run.artifact("embeddings")
        table = manifest.table()
        chosen_N = one_readable(table, readable(embeddings)) & (column(table, "split") == "detection")
        chosen_N = drawn(column(table, "image_id"), chosen_N, most, 0)
        uris, store = column(table, "uri")[chosen_N], image_store(self.run)
        return [self.reading.image(store, str(uri)).convert("L") for uri in uris]

    def flagged(self, images: Iterable[Image.Image]) -> dict[str, Any]:
        """Count the flagged ones of some images."""
        flags: list[bool] = []
        waiting = iter(images)
        while batch := list(islice(waiting, BATCH)):
            x_NTD = self._embedder.embed(np.stack([self._embedder.encoder.preprocess(image) for image in batch]))
            judged = [self.judge.of_embedding(x_D) for x_D in x_NTD.mean(1)]
            flags += [bool(one and one["flag"]) for one in judged]
        low, high = wilson(sum(flags), len(flags))
        return {"images": len(flags), "flagged": sum(flags), "low": low, "high": high}


def opened(folder: Path, reading: Reading) -> Iterator[Image.Image]:
    """Yield the images of a folder that can be read."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            try:
                yield reading.decoded(path.read_bytes()).convert("L")
            except ImageError:
                print(f"left out: {path.name}")


def phantoms(seed: int) -> Iterator[Image.Image]:
    """Draw the first radiograph of each of some patients."""
    return (Image.fromarray(render(patient(seed, number)[0])) for number in range(PHANTOMS))


def kinds(trial: Trial, most: int, foreign: list[str], seed: int | None) -> dict[str, dict[str, Any]]:
    """Count the flagged images of each kind."""
    own, found = trial.test_images(most), {}
    found["own test patients"] = trial.flagged(own)
    for name, change in SPOILT.items():
        rng = np.random.default_rng(0)
        sizes = {image.size: image for image in own}
        found[name] = trial.flagged(change(image, rng) for image in (sizes.values() if name in ALIKE else own))
        print(name, found[name], flush=True)
    for given in foreign:
        name, _, folder = given.partition("=")
        found[name] = trial.flagged(opened(Path(folder), trial.reading))
        print(name, found[name], flush=True)
    if seed is not None:
        found["phantoms"] = trial.flagged(phantoms(seed))
    return found


def measured(recipe: Recipe, root: str, most: int, foreign: list[str], seed: int | None) -> dict[str, Any]:
    """Return all figures of one run."""
    with Run(recipe, Store(root), STAGES, Console()) as run:
        found: dict[str, Any] = {"likeness": metrics_of(run.artifact("likeness"), LikenessMetrics)}
        found["dim"] = int(run.artifact("embeddings").schema.field("x").type.list_size)
        found["kinds"] = kinds(Trial(run), most, foreign, seed)
        return found


def main() -> None:
    """Measure one run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("--root", required=True)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--most", type=int, default=400, help="test patients whose images are spoilt (400)")
    parser.add_argument("--foreign", action="append", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--phantoms", type=int, metavar="SEED")
    chosen = parser.parse_args()
    recipe = load_recipe(chosen.recipe)
    how = recipe.how.model_copy(update={"engine": "loop"})
    found = measured(recipe.model_copy(update={"how": how}), chosen.root, chosen.most, chosen.foreign, chosen.phantoms)
    chosen.json.write_text(json.dumps(found, indent=1))
    for name, one in found["kinds"].items():
        print(f"| {name} | {one['flagged']} of {one['images']} | {one['low']:.3f} to {one['high']:.3f} |")
    print(found["likeness"])


if __name__ == "__main__":
    main()
