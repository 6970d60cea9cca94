"""The same run on an object store: a real S3 protocol server in a process of its own."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from medsae_ray.config import parse_recipe
from medsae_ray.core.artifacts.artifact import open_artifact, verify
from medsae_ray.core.artifacts.store import Store
from medsae_ray.core.images.archives import fetch, walk
from medsae_ray.core.images.cache import Cached
from medsae_ray.errors import ImageError
from medsae_ray.pipeline import run_recipe
from medsae_ray.runtime.status import statuses
from tests.support.outage import SETTINGS, store
from tests.support.small import onnx_encoder, recipe_data, table_dataset


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """URI of an empty bucket."""
    with store() as door, pytest.MonkeyPatch.context() as patch:
        for key, value in {**SETTINGS, "AWS_ENDPOINT_URL": door.url}.items():
            patch.setenv(key, value)
        yield "s3://archive/runs"


def test_files_are_written_whole_listed_and_read(s3: str) -> None:
    store = Store(s3).child("files")
    store.write("a/part", b"1" * 6_000_000)
    assert store.read("a/part") == b"1" * 6_000_000 and store.names("a") == ["part"] and store.folders() == ["a"]
    assert store.write_new("record", b"first") and not store.write_new("record", b"second")
    assert store.read("record") == b"first"
    with pytest.raises(FileNotFoundError):
        store.read("nothing")


def test_images_of_the_object_store_are_kept_until_they_change(
    s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, read, asked = Store(s3).child("kept"), Store.read, []

    def counted(self: Store, name: str) -> bytes:
        asked.append(name)
        return read(self, name)

    store.write("a.png", b"first")
    monkeypatch.setattr(Store, "read", counted)
    images = Cached(store, str(tmp_path / "cache"), 10**6)
    assert [fetch(images, "a.png") for _ in range(3)] == [b"first"] * 3 and asked == ["a.png"]
    store.write("a.png", b"another")
    assert [fetch(images, f"{store.uri}/a.png") for _ in range(2)] == [b"another"] * 2 and len(asked) == 2
    with pytest.raises(ImageError, match="missing"):
        fetch(images, "none.png")


ODD = ["a b.png", "c#1.png", "c#2.png", "100%.png", "d%20e.png", "f?.png", "g+h&i=j.png", "Bögen.png", "k#frame=x.png"]


def test_objects_have_names_of_any_character(s3: str) -> None:
    for root in (Store(f"{s3}/exp#1 ü?"), Store(f"{s3}/exp#2 ü?")):
        for name in ODD:
            root.write(name, f"{root.uri}/{name}".encode())
    for root in (Store(f"{s3}/exp#1 ü?"), Store(f"{s3}/exp#2 ü?")):
        assert root.names() == sorted(ODD) and [found.name for found in walk(root, "", Counter())] == sorted(ODD)
        for name in ODD:
            uri = f"{root.uri}/{name}"
            assert (
                fetch(Store("/nowhere"), uri)
                == fetch(root, name)
                == Store(uri).opened[0].open_input_file(uri.removeprefix("s3://")).read()
                == uri.encode()
            )
    assert "exp#1 ü?" in Store(s3).folders() and "exp#2 ü?" in Store(s3).folders()


def test_a_run_below_an_odd_root_reads_images_of_odd_names(s3: str, tmp_path: Path) -> None:
    table, weights = table_dataset(tmp_path, 60), onnx_encoder(tmp_path / "e.onnx")
    archive = Store(s3).child("odd images #1")
    text = table.read_text()
    for place, file in enumerate(sorted(table.parent.glob("*.png"))):
        name = ODD[place % len(ODD)].replace(".png", f"-{place}.png")
        archive.write(name, file.read_bytes())
        text = text.replace(file.name, f"{archive.uri}/{name}")
    (tmp_path / "odd #1.csv").write_text(text)
    data = recipe_data(tmp_path / "odd #1.csv", weights, engine="loop")
    summary = run_recipe(parse_recipe(data), f"{s3}/root #1?")
    assert {s["name"]: s["not_ok"] for s in summary["stages"]}["embeddings"] == 0
    assert Store(f"{s3}/root #1?").exists("report.html") and not Store(f"{s3}/root ").exists("report.html")


@pytest.mark.parametrize("engine", ["loop", "ray"])
def test_a_whole_run_lives_on_the_object_store(s3: str, tmp_path: Path, engine: str) -> None:
    table, weights = table_dataset(tmp_path, 60), onnx_encoder(tmp_path / "e.onnx")
    archive = Store(s3).child(f"images-{engine}")
    for file in [*table.parent.glob("*.png"), table, weights]:
        archive.write(file.name, file.read_bytes())
    data = recipe_data(table, weights, engine=engine, cache={"folder": str(tmp_path / "cache"), "gb": 0.001})
    data["how"]["paths"] = {"table": f"{archive.uri}/labels.csv", "weights": f"{archive.uri}/e.onnx"}
    (tmp_path / "recipe.yaml").write_text(json.dumps(data))
    root = f"{s3}/{engine}"
    # A process of its own, and so a cluster of its own that knows the server's address.
    medsae = [sys.executable, "-m", "medsae_ray.cli", "run", str(tmp_path / "recipe.yaml"), "--root", root]
    done = subprocess.run(medsae, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for stage in json.loads(Store(root).read("summary.json"))["stages"]:
        assert verify(open_artifact(f"{root}/{stage['artifact']}")) == []
    assert Store(root).exists("report.html") and f"report: {root}/report.html" in done.stdout.splitlines()
    (told,) = statuses(Store(root))
    assert told["state"] == "done" and json.loads(Store(root).read("status.json"))["run"] == told["run"]
    kept = [path.read_bytes()[32:] for path in (tmp_path / "cache").iterdir() if path.name != "used"]
    assert sorted(kept) == sorted(path.read_bytes() for path in table.parent.glob("*.png"))


def test_several_datasets_have_their_images_on_the_object_store(s3: str, tmp_path: Path) -> None:
    """One in the folder of its table, one below `images` of its own, and one on the disk."""
    archive, data = Store(s3).child("several"), recipe_data(tmp_path / "x.csv", onnx_encoder(tmp_path / "e.onnx"))
    paths: dict[str, dict[str, str]] = {}
    for seed, name in enumerate(("near", "far", "local")):
        table = table_dataset(tmp_path / name, 30, seed)
        if name != "local":
            for file in table.parent.iterdir():
                archive.write(f"{name}/{file.name}", file.read_bytes())
        paths[name] = {"table": str(table)}
    paths["near"] = {"table": f"{archive.uri}/near/labels.csv"}
    paths["far"]["images"] = f"{archive.uri}/far"
    one = data["what"].pop("dataset")
    data["what"]["datasets"] = [one | {"name": name} for name in paths]
    data["what"]["labels"] = {label: dict.fromkeys(paths, label) for label in one["labels"]}
    data["how"] |= {"engine": "loop", "paths": {"weights": str(tmp_path / "e.onnx"), "datasets": paths}}
    summary = run_recipe(parse_recipe(data), f"{s3}/loop-several")
    rows = {stage["name"]: (stage["rows"], stage["not_ok"]) for stage in summary["stages"]}
    assert rows["embeddings"] == rows["fingerprints"] == (90, 0) and summary["duplicates"]["pairs"].keys()
    assert Store(s3).exists("loop-several/report.html")
