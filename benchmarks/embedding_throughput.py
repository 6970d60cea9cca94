"""The images per second of the embedding stage on Ray Data, and of a plain loop over the same shards in one process.

    python benchmarks/embedding_throughput.py --json result.json

Both run the same EmbedWork, write the same parts, and give the encoder the same number of threads. They take turns in
one process, so a machine that slows down slows both. Start-up (workers, weights, first shard) is left out: the clock
runs from a run's first written part to its last, and counts the images of all parts but the first. Parts are timed, not
receipts: Ray hands over a receipt only when the next one exists, which would flatter it.
Images that Ray decodes while its encoder still loads count too: if an encoder is about as cheap as decoding, take so
many images that these are a small part.
Without --weights, "medclip-vit" gets random weights in MedCLIP's own geometry, which cost as much as the real ones.
"""

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
from PIL import Image
from rich.console import Console
from rich.table import Table

from medsae_ray.cluster.joining import cluster
from medsae_ray.config import How, Pool, parse_recipe
from medsae_ray.core.artifacts import schema
from medsae_ray.core.artifacts.artifact import Draft
from medsae_ray.core.artifacts.store import Store
from medsae_ray.core.encoders.embedding import EmbedWork
from medsae_ray.core.encoders.medclip import SwinGeometry, build_vit, save_vit
from medsae_ray.core.images.reader import Reading
from medsae_ray.pipeline import run_stage
from medsae_ray.runtime.made import packages
from medsae_ray.runtime.shards import map_shards

ENGINES = ("loop", "ray")
SIDES = (320, 512)  # px, shortest and longest side of an image
ACCEPTED = 0.85  # of the loop's rate


@dataclass(frozen=True)
class Timing:
    """One run of one engine."""

    engine: str
    startup: float
    """Seconds until the first part was written."""
    seconds: float
    """From the first part to the last."""
    images: int
    """Images of all parts but the first."""

    @property
    def rate(self) -> float:
        """Images per second."""
        return self.images / self.seconds


def draw(folder: Path, images: int) -> Path:
    """Grey JPEGs with the size and the detail of small radiographs, and the table that names them."""
    rng = np.random.default_rng(0)
    names = [f"i{number:05d}.jpg" for number in range(images)]
    for name in names:
        width, height = (int(side) for side in rng.integers(*SIDES, 2, endpoint=True))
        coarse = Image.fromarray(rng.integers(20, 230, (9, 9), dtype=np.uint8)).resize((width, height), 3)
        pixels = np.asarray(coarse, np.float32) + rng.normal(0, 6, (height, width))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / name, quality=90)
    table = folder / "table.csv"
    halves = [number % 2 for number in range(images)]
    pyarrow.csv.write_csv(pa.table({"path": names, "patient": names, "label": halves}), table)
    return table


def swin(folder: Path, geometry: SwinGeometry) -> Path:
    """An encoder of that shape with random weights, which cost what trained ones do."""
    weights = folder / "encoder.safetensors"
    save_vit(build_vit(geometry), geometry, weights)
    return weights


def embedding_work(folder: Path, table: Path, weights: Path | str, chosen: argparse.Namespace) -> EmbedWork:
    """The images of `table`, their manifest and an encoder, as the embeddings stage would have them."""
    options = {"size": chosen.size} if chosen.encoder == "onnx" else {}
    dataset = {"kind": "table", "name": "drawn", "image": "path", "patient": "patient", "labels": ["label"]}
    what = {"dataset": dataset, "shard_rows": chosen.shard_rows, "encoder": {"kind": chosen.encoder, **options}}
    paths = {"table": str(table), "weights": str(weights)}
    recipe = parse_recipe({"name": "benchmark", "what": what, "how": {"engine": "loop", "paths": paths}})
    return EmbedWork(
        manifest=run_stage(recipe, str(folder / "manifest"), "manifest"),
        images=Store(str(folder)),
        encoder=recipe.what.encoder,
        weights=str(weights),
        reading=Reading.of(recipe.what.images),
        device="cuda" if chosen.gpus else "cpu",
        threads=chosen.threads,
        batch_size=chosen.batch_size,
        readers=chosen.readers,
    )


def timed(work: EmbedWork, dim: int, engine: str, pool: Pool) -> Timing:
    """Embed every shard with `engine` into a folder that is thrown away."""
    with tempfile.TemporaryDirectory() as folder:
        draft = Draft(Store(folder), "embeddings", 1, {}, {})
        start = time.time()
        receipts = list(map_shards(work, draft.writer(schema.embeddings(dim)), sorted(work.rows), pool, engine))
        written = sorted((Path(draft.store.path(r.name)).stat().st_mtime, r.rows) for r in receipts)
    if {r.shard: r.rows for r in receipts} != work.rows or any(r.not_ok for r in receipts):
        raise RuntimeError(f"engine {engine} did not embed every image: {receipts}")
    (first, _), (last, _) = written[0], written[-1]
    return Timing(engine, first - start, last - first, sum(rows for _, rows in written[1:]))


def show(timings: list[Timing], console: Console) -> dict[str, float]:
    """Print every run; return the medians and their ratio."""
    table = Table("engine", box=None, header_style="bold")
    for column in ("start-up s", "images", "s", "images/s"):
        table.add_column(column, justify="right")
    for t in timings:
        table.add_row(t.engine, f"{t.startup:.1f}", str(t.images), f"{t.seconds:.1f}", f"{t.rate:.1f}")
    console.print(table)
    rates = {engine: statistics.median(t.rate for t in timings if t.engine == engine) for engine in ENGINES}
    ratio = rates["ray"] / rates["loop"]
    verdict = "reached" if ratio >= ACCEPTED else "missed"
    console.print(
        f"medians: loop {rates['loop']:.1f}, ray {rates['ray']:.1f} images/s; "
        f"ratio {ratio:.2f}, {ACCEPTED} is {verdict}"
    )
    return {**rates, "ratio": ratio}


def add_pool(parser: argparse.ArgumentParser, **defaults: float) -> None:
    """An option for every setting of the pool but its retries."""
    for name, default in (Pool().model_dump(exclude={"retries"}) | defaults).items():
        text = f"as how.embed.{name} of a recipe"
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default, help=text)


def pool_of(chosen: argparse.Namespace) -> Pool:
    """Make the pool of workers from options of the command line that have its fields' names."""
    return Pool.model_validate({name: value for name, value in vars(chosen).items() if name in Pool.model_fields})


def machine() -> dict[str, str | int | None]:
    """Describe the machine: cores, architecture and Python."""
    return {"cpus": os.cpu_count(), "machine": platform.machine(), "python": platform.python_version()}


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--shard-rows", type=int, default=64, help="images per shard")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each engine, in turns")
    parser.add_argument("--encoder", choices=("medclip-vit", "onnx"), default="medclip-vit")
    parser.add_argument("--weights", type=Path, help="the encoder's weights; needed for onnx")
    parser.add_argument("--size", type=int, default=224, help="onnx: side of the model's input, in pixels")
    parser.add_argument("--ray-cpus", type=int, default=os.cpu_count(), help="CPUs of the local Ray cluster")
    add_pool(parser)
    parser.add_argument("--json", type=Path, metavar="OUT", help="also write settings and figures there")
    chosen = parser.parse_args()
    if chosen.encoder == "onnx" and chosen.weights is None:
        parser.error("--encoder onnx needs --weights FILE.onnx")
    if chosen.images < 2 * chosen.shard_rows:
        parser.error("at least two shards are needed: the first is start-up")
    return chosen


def main() -> None:
    """Time both engines in turns, and print and write the medians."""
    chosen, console = arguments(), Console()
    settings = {name: str(value) if isinstance(value, Path) else value for name, value in vars(chosen).items()}
    with tempfile.TemporaryDirectory() as folder, cluster(How(cpus=chosen.ray_cpus)):
        weights = chosen.weights or swin(Path(folder), SwinGeometry())
        work = embedding_work(Path(folder), draw(Path(folder), chosen.images), weights, chosen)
        dim, pool = work.load().layout.dim, pool_of(chosen)
        timings = [timed(work, dim, engine, pool) for _ in range(chosen.rounds) for engine in ENGINES]
    medians = show(timings, console)
    if chosen.json:
        runs = [{**asdict(t), "rate": t.rate} for t in timings]
        result: dict[str, Any] = {
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "settings": settings,
            "runs": runs,
        }
        result |= {**medians, "machine": machine(), "packages": packages()}
        chosen.json.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
