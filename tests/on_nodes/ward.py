"""What the cases share: a recipe, what a run left on the store, and losses at chosen moments."""

import io
import json
import shutil
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml

from tests.on_nodes.nodes import ROOT, Cluster, Job, wait_for
from tests.support.outage import Door, client_of

BUCKET = "archive"
CUT_S = 10
"""The most seconds between an object's write by the store and its answer, on a busy machine."""


def write_recipe(path: Path, patients: int, epochs: int, naming: bool = False) -> None:
    """The packaged phantoms, few of them, in small shards."""
    data = yaml.safe_load((ROOT / "medsae_ray" / "recipes" / "phantom.yaml").read_text())
    data["what"]["dataset"]["patients"] = patients
    data["what"]["shard_rows"] = 16
    data["what"]["features"] = {"permutations": 3000}  # seconds of a task, in which its node can be lost
    data["what"]["sae"] |= {"epochs": epochs, "batch_size": 32}
    data["how"]["embed"] = {"actors": 2, "threads": 1, "batch_size": 8}
    data["how"]["train"] = {"workers": 2, "checkpoint_epochs": max(1, epochs // 20)}
    if naming:
        data["what"]["naming"]["detection"] = {"positives": 10, "negatives": 10, "pool": 100}
        data["how"]["vlm"]["cpus"] = 2.0  # more than the head has, which is not lost
    else:
        del data["what"]["naming"], data["how"]["vlm"]
    path.write_text(yaml.safe_dump(data))


def upload_to(folder: Path) -> Path:
    """What --working-dir sends: the package and the entry points."""
    for part in ("medsae_ray", "jobs"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


class Bucket:
    """What runs left on the store. Every version of an object is kept, so that what is written twice shows."""

    def __init__(self, door: Door) -> None:
        self.client = client_of(f"http://127.0.0.1:{door.behind}")  # past the door

    def versions(self, run: str) -> Counter[str]:
        """Object -> how often it was written; deleted ones too. Not to be asked all the time: moto keeps in memory what
        it lists here."""
        pages = self.client.get_paginator("list_object_versions").paginate(Bucket=BUCKET, Prefix=f"{run}/")
        return Counter(v["Key"].removeprefix(f"{run}/") for page in pages for v in page.get("Versions", ()))

    def files(self, run: str, stage: str) -> list[str]:
        """The objects that are there now."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{run}/{stage}-")
        return [found["Key"] for page in pages for found in page.get("Contents", ())]

    def parts(self, run: str, stage: str) -> int:
        return sum("/part-" in key for key in self.files(run, stage))

    def has(self, run: str, stage: str, what: str) -> bool:
        return any(what in key for key in self.files(run, stage))

    def checksums(self, run: str) -> dict[str, dict[str, str]]:
        """Artifact -> file -> SHA-256, as committed. The log of training holds seconds."""
        found: dict[str, Any] = {}
        for key in self.versions(run):
            if key.endswith("/record.json"):
                record = json.loads(self.client.get_object(Bucket=BUCKET, Key=f"{run}/{key}")["Body"].read())
                files = {f["name"]: f["sha256"] for f in record["files"] if not f["name"].startswith("log-")}
                found[record["name"]] = files
        return found

    def written_twice(self, run: str, cuts: Sequence[float] = ()) -> list[str]:
        """Parts and records that were written more than once. An object that was being written when connections were
        `cut` may have been kept by the store, whose answer was lost: it is rightly written again."""
        pages = self.client.get_paginator("list_object_versions").paginate(Bucket=BUCKET, Prefix=f"{run}/")
        written = defaultdict[str, list[float]](list)
        for version in (found for page in pages for found in page.get("Versions", ())):
            written[version["Key"].removeprefix(f"{run}/")].append(version["LastModified"].timestamp())
        return [
            key
            for key, times in written.items()
            if len(times) > 1
            and ("/part-" in key or "record" in key)
            and not any(-CUT_S <= min(times) - cut <= 1 for cut in cuts)
        ]

    def answered_twice(self, run: str) -> int:
        """Rows of the ledgers whose question another row answers."""
        addresses: Counter[str] = Counter()
        for key in self.versions(run):
            if key.startswith("ledger/"):
                data = self.client.get_object(Bucket=BUCKET, Key=f"{run}/{key}")["Body"].read()
                addresses.update(pq.read_table(io.BytesIO(data))["address"].to_pylist())
        return addresses.total() - len(addresses)


class Ward:
    """A cluster, its store, and what was done to it when."""

    def __init__(self, cluster: Cluster, bucket: Bucket, door: Door, upload: Path) -> None:
        self.cluster, self.bucket, self.door, self.upload = cluster, bucket, door, upload
        self.done: list[str] = []
        self.start = time.monotonic()

    def submit(self, recipe: Path, run: str, *command: str) -> Job:
        """A job of the whole recipe, unless `command` says which part of it."""
        self.start, self.done = time.monotonic(), []
        command = command or ("jobs/pipeline.py",)
        return self.cluster.submit(self.upload, *command, str(recipe), "--root", f"s3://{BUCKET}/{run}")

    def say(self, what: str) -> None:
        self.done.append(f"{time.monotonic() - self.start:.0f} s: {what}")
        print(self.done[-1], flush=True)

    def lose_a_node(self, job: Job, title: str, when: Callable[[], object], stage: str, back: bool = True) -> str:
        """Lose a worker node with such a process once `when` is true; 5 s later it comes `back`, empty."""
        wait_for(lambda: job.over() or (when() and self.cluster.with_process(title)), f"{title} in {stage}")
        assert not job.over(), job.log()[-4000:]
        name = next(iter(self.cluster.with_process(title)))
        self.cluster.lose(name)
        self.say(f"{name} lost in {stage}")
        if back:
            self.cluster.back_after(5, name)
        return name
