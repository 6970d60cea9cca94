"""The embedding of an archive compared in one run with its halves, decoding alone and the encoder alone.

    python benchmarks/archive_throughput.py --images 20000 --json result.json

Images of 1024 pixels in twelve formats (benchmarks/archive_images.py), in a mixed order.

With an encoder on a GPU the two halves of a run share no resource. Here both are CPU work, so each has its own cores:
decoding is bound to --decode-cores and encoding to --encode-cores, alone as well as together. A half alone is the bare
loop over its own function in a process of its own, without Ray. The driver, Ray's processes and the kernel are bound to
nothing and take from both.

| figure | is |
|---|---|
| decode, encode | images per second of each half alone: mean of a measurement before and one after the whole |
| beside | of both at the same time, independent of each other: the cores' mutual slowdown in any case |
| whole | of the stage on Ray Data, from the part that completes a tenth of the images to the last |
| ratio | whole / min(decode, encode) |
| driver | proportional set size of the driver (PSS), MB, at --flat-from images, and the largest after that |
| store | largest use of Ray's object store, and bytes that it spilled to disk |
"""

import argparse
import json
import multiprocessing
import os
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray
from archive_images import archive
from embedding_throughput import add_pool, embedding_work, machine, pool_of, swin
from ray._private.internal_api import get_memory_info_reply, get_state_from_address
from rich.console import Console
from rich.table import Table

from medsae_ray.cluster.joining import cluster
from medsae_ray.config import How, Pool
from medsae_ray.core.artifacts import schema
from medsae_ray.core.artifacts.artifact import Draft
from medsae_ray.core.artifacts.store import Store
from medsae_ray.core.artifacts.work import ShardWork
from medsae_ray.core.encoders.medclip import SwinGeometry
from medsae_ray.runtime.made import packages
from medsae_ray.runtime.shards import map_shards

RATIO, FLAT = 0.9, 0.1  # accepted: share of the slower half's rate; growth of the driver
NEAR = SwinGeometry(embed_dim=32, depths=(2, 2, 2, 2), num_heads=(1, 2, 4, 8))
"""About as dear as decoding, where the halves have to overlap all the time."""
WARM = 8  # shards that the encoder alone goes through again and again


@dataclass(frozen=True)
class Bound:
    """Another's work, each half on cores of its own."""

    work: ShardWork
    decode_cores: tuple[int, ...]
    encode_cores: tuple[int, ...]

    @property
    def rows(self) -> dict[int, int]:
        """The rows that each shard's part has."""
        return self.work.rows

    def prepare(self, shard: int) -> pa.Table:
        """Prepare a shard on the cores for decoding."""
        os.sched_setaffinity(0, self.decode_cores)  # this thread, and those that it starts
        return self.work.prepare(shard)

    def load(self) -> Any:
        """Load the model, and move all threads of this process to the cores for encoding."""
        model = self.work.load()
        for thread in os.listdir("/proc/self/task"):
            os.sched_setaffinity(int(thread), self.encode_cores)
        return model

    def compute(self, model: Any, prepared: pa.Table) -> pa.Table:
        """Compute a shard on the cores for encoding."""
        os.sched_setaffinity(0, self.encode_cores)
        return self.work.compute(model, prepared)


def decode_alone(work: Bound, seconds: float) -> float:
    """Images per second."""
    done, start = 0, time.perf_counter()
    for shard in sorted(work.rows):
        done += work.prepare(shard).num_rows
        if time.perf_counter() - start > seconds:
            break
    return done / (time.perf_counter() - start)


def encode_alone(work: Bound, seconds: float) -> float:
    """Images per second, of shards that lie in memory decoded."""
    model, shards = work.load(), [work.prepare(shard) for shard in sorted(work.rows)[:WARM]]
    work.compute(model, shards[0])
    done, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        done += work.compute(model, shards[done % len(shards)]).num_rows
    return done / (time.perf_counter() - start)


HALVES = {"decode": decode_alone, "encode": encode_alone}


def measured(work: Bound, halves: Sequence[str], seconds: float) -> dict[str, float]:
    """Each half in a process of its own, at the same time."""
    with ProcessPoolExecutor(len(halves), multiprocessing.get_context("spawn")) as processes:
        found = {half: processes.submit(HALVES[half], work, seconds) for half in halves}
        return {half: rate.result() for half, rate in found.items()}


class Watch(threading.Thread):
    """Notes once a second how many images are done, the driver's memory, and what Ray's object store holds."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.images, self.over = 0, threading.Event()
        self.samples: list[dict[str, float]] = []

    def run(self) -> None:
        """Take a sample every second until `over` is set; memory in MB."""
        address = get_state_from_address(ray.get_runtime_context().gcs_address)
        while not self.over.wait(1):
            store = get_memory_info_reply(address).store_stats
            used, spilled = store.object_store_bytes_used / 1e6, store.spilled_bytes_total / 1e6
            self.samples.append({"images": self.images, "driver": pss(), "store": used, "spilled": spilled})


def pss() -> float:
    """MB of this process; what it shares with others counts in part."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024 / 1e6


def whole(work: Bound, dim: int, pool: Pool, watch: Watch) -> dict[str, float]:
    """The stage on Ray Data, into a folder that is thrown away."""
    with tempfile.TemporaryDirectory() as folder:
        draft, start = Draft(Store(folder), "embeddings", 1, {}, {}), time.time()
        watch.start()
        receipts = []
        for receipt in map_shards(work, draft.writer(schema.embeddings(dim)), sorted(work.rows), pool, "ray"):
            receipts.append(receipt)
            watch.images += receipt.rows
        watch.over.set()
        written = sorted((Path(draft.store.path(r.name)).stat().st_mtime, r.rows) for r in receipts)
    if {r.shard: r.rows for r in receipts} != work.rows or any(r.not_ok for r in receipts):
        raise RuntimeError("not every image was embedded")
    at = len(written) // 10
    (first, _), (last, _) = written[at], written[-1]
    images = sum(rows for _, rows in written)
    return {
        "whole": sum(rows for _, rows in written[at + 1 :]) / (last - first),
        "whole_with_start": images / (last - start),
        "start_s": written[0][0] - start,
    }


def figures(alone: list[dict[str, float]], beside: dict[str, float], rate: dict[str, float]) -> dict[str, Any]:
    """Compute the mean rates of the halves and their ratios to the whole."""
    mean = {half: sum(found[half] for found in alone) / len(alone) for half in HALVES}
    ratio = rate["whole"] / min(mean.values())
    return {**mean, "beside": beside, **rate, "ratio": ratio, "ratio_beside": rate["whole"] / min(beside.values())}


def memory(samples: list[dict[str, float]], flat_from: int) -> dict[str, float]:
    """Compute the driver's growth in memory after `flat_from` images, and the object store's peak."""
    after = [sample["driver"] for sample in samples if sample["images"] >= flat_from]
    peak = {name: max(sample[name] for sample in samples) for name in ("store", "spilled")}
    return {"driver_from": after[0], "driver_most": max(after), "growth": max(after) / after[0] - 1, **peak}


def show(found: dict[str, Any], alone: list[dict[str, float]], console: Console) -> None:
    """Print rates, ratio and memory, and whether the goals are met."""
    table = Table("images/s", "alone before", "alone after", "side by side", box=None, header_style="bold")
    for half in HALVES:
        table.add_row(half, *(f"{one[half]:.1f}" for one in (*alone, found["beside"])))
    table.add_row("whole", "", f"{found['whole']:.1f}", "")
    console.print(table)
    verdict = "reached" if found["ratio"] >= RATIO else "missed"
    console.print(f"ratio {found['ratio']:.3f} ({found['ratio_beside']:.3f} of side by side), {RATIO} is {verdict}")
    flat = "flat" if found["growth"] <= FLAT else "not flat"
    console.print(f"driver {found['driver_from']:.0f} MB, then at most {found['driver_most']:.0f}: {flat}", end="; ")
    console.print(f"object store at most {found['store']:.0f} MB, {found['spilled']:.0f} MB spilled")


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--each", type=int, default=40, help="distinct files per format; the rest are links to them")
    parser.add_argument("--side", type=int, default=1024, help="pixels")
    parser.add_argument("--shard-rows", type=int, default=64, help="images per shard")
    text = "a Swin that costs about what decoding does (default), the shipped one, or a model with --weights"
    parser.add_argument("--encoder", choices=("swin", "phantom", "medclip-vit", "onnx"), default="swin", help=text)
    parser.add_argument("--weights", type=Path, help="for onnx and medclip-vit")
    parser.add_argument("--size", type=int, default=224, help="onnx: side of the model's input, in pixels")
    parser.add_argument("--seconds", type=float, default=40, help="length of each measurement of a half")
    parser.add_argument("--flat-from", type=int, default=2000, help="images after which the driver is to stay flat")
    parser.add_argument("--decode-cores", type=_cores, default=(0,), help="0,2,4 for instance")
    parser.add_argument("--encode-cores", type=_cores, default=(1,))
    parser.add_argument("--ray-cpus", type=int, default=os.cpu_count(), help="CPUs of the local Ray cluster")
    parser.add_argument("--json", type=Path, metavar="OUT", help="also write settings, figures and samples there")
    add_pool(parser, readers=1)
    chosen = parser.parse_args()
    if chosen.encoder in ("onnx", "medclip-vit") and chosen.weights is None:
        parser.error(f"--encoder {chosen.encoder} needs --weights FILE")
    return chosen


def _cores(text: str) -> tuple[int, ...]:
    return tuple(int(core) for core in text.split(","))


def main() -> None:
    """Measure the halves alone and side by side, then the whole, then the halves again."""
    chosen, console = arguments(), Console()
    settings = {name: str(value) if isinstance(value, Path) else value for name, value in vars(chosen).items()}
    pool = pool_of(chosen)
    with tempfile.TemporaryDirectory() as name:
        folder, weights = Path(name), chosen.weights or "builtin:phantom-encoder"
        if chosen.encoder == "swin":
            weights = swin(folder, NEAR)
        chosen.encoder = "onnx" if chosen.encoder == "onnx" else "medclip-vit"
        work = embedding_work(folder, archive(folder, chosen.images, chosen.each, chosen.side), weights, chosen)
        bound = Bound(work, chosen.decode_cores, chosen.encode_cores)
        dim = work.load().layout.dim
        alone = [{half: measured(bound, [half], chosen.seconds)[half] for half in HALVES}]
        beside = measured(bound, list(HALVES), chosen.seconds)
        watch = Watch()
        with cluster(How(cpus=chosen.ray_cpus)):
            rate = whole(bound, dim, pool, watch)
        alone.append({half: measured(bound, [half], chosen.seconds)[half] for half in HALVES})
    found = figures(alone, beside, rate) | memory(watch.samples, chosen.flat_from)
    show(found, alone, console)
    if chosen.json:
        result = {"created": datetime.now(UTC).isoformat(timespec="seconds"), "settings": settings, **found}
        result |= {"alone": alone, "samples": watch.samples}
        chosen.json.write_text(json.dumps({**result, "machine": machine(), "packages": packages()}, indent=1))


if __name__ == "__main__":
    main()
