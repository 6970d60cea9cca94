import multiprocessing
import os
import signal
from multiprocessing.synchronize import Event
from pathlib import Path

import numpy as np
import pytest
import torch

from medsae_ray.config import Train, parse_recipe
from medsae_ray.core.artifacts.artifact import Artifact, open_artifact
from medsae_ray.errors import DatasetError, MedsaeError
from medsae_ray.pipeline import run_stage
from medsae_ray.stages import sae_table as tables
from medsae_ray.stages.sae_table import split_table
from tests.support.small import onnx_encoder, recipe_data, table_dataset

Made = tuple[Artifact, Artifact]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Embeddings, some of which could not be made, among them all of the second shard, and their manifest."""
    folder = tmp_path_factory.mktemp("data")
    table = table_dataset(folder, 60)
    for number in {*range(0, 60, 7), *range(8, 16)}:
        (folder / f"i{number:04d}.png").write_bytes(b"broken")
    recipe = parse_recipe(recipe_data(table, onnx_encoder(folder / "e.onnx"), engine="loop"))
    embeddings = run_stage(recipe, str(folder / "root"), "embeddings")
    return embeddings, open_artifact(f"{folder}/root/{embeddings.record.parents['manifest']}")


def on_disk(folder: Path) -> Train:
    return Train(memory_gb=0, scratch=str(folder))


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in tables.scratch(on_disk(folder)).iterdir() if path.name != "lock")


@pytest.mark.parametrize("split", ["sae", "naming", "detection"])
def test_a_file_holds_what_memory_holds(made: Made, split: str, tmp_path: Path) -> None:
    with split_table(*made, split, Train()) as held, split_table(*made, split, on_disk(tmp_path)) as lying:
        assert held.file is None and lying.file is not None
        assert torch.equal(held.x_ND, lying.x_ND) and len(held.x_ND) > 0
    assert made[0].parts[1].not_ok == {"not_an_image": 8}
    readable = sum(part.rows - sum(part.not_ok.values()) for part in made[0].parts)
    assert len(held.x_ND) < readable < 60


def test_the_last_to_leave_deletes_the_file(made: Made, tmp_path: Path) -> None:
    with split_table(*made, "sae", on_disk(tmp_path)) as first:
        (name,) = files(tmp_path)
        with split_table(*made, "sae", on_disk(tmp_path)) as second:
            assert first.file is not None and second.file is not None
            assert os.path.sameopenfile(first.file.fileno(), second.file.fileno())
        with split_table(*made, "naming", on_disk(tmp_path)):
            assert len(files(tmp_path)) == 2
        assert files(tmp_path) == [name]
    assert files(tmp_path) == []


def hold(made: Made, how: Train, ready: Event) -> None:
    with split_table(*made, "sae", how):
        ready.set()
        signal.pause()


def test_a_killed_worker_leaves_its_file_to_the_next_and_to_nobody_else(made: Made, tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    ready = spawn.Event()
    worker = spawn.Process(target=hold, args=(made, on_disk(tmp_path), ready))
    worker.start()
    assert ready.wait(120)
    (path,) = (tables.scratch(on_disk(tmp_path)) / name for name in files(tmp_path))
    node = path.stat().st_ino
    with split_table(*made, "naming", on_disk(tmp_path)):
        assert path.exists()  # in use, so a new table does not push it out
    worker.kill()
    worker.join()
    assert path.stat().st_ino == node
    with split_table(*made, "sae", on_disk(tmp_path)):
        assert path.stat().st_ino == node  # taken as it is
        torn = path.with_name(".other.npy.0.tmp")
        torn.touch()
        left = path.with_name("left-by-a-killed-run.npy")
        left.touch()
        with split_table(*made, "naming", on_disk(tmp_path)):
            assert not torn.exists() and not left.exists() and path.exists()


@pytest.mark.parametrize("memory_gb", [0, 1])
def test_a_split_without_readable_images_is_refused_and_leaves_no_file(
    made: Made, memory_gb: int, tmp_path: Path
) -> None:
    how = Train(memory_gb=memory_gb, scratch=str(tmp_path))
    with pytest.raises(DatasetError, match="'nobody' has no readable image"), split_table(*made, "nobody", how):
        pass
    assert files(tmp_path) == []


def test_a_disk_without_room_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(MedsaeError, match=r"GB left.*takes 1000000000\.0 GB; set how\.train\.scratch"):
        tables._check_room(tmp_path, 10**18)


def test_a_sample_is_spread_over_the_rows_of_a_split(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    with split_table(*made, "sae", Train()) as held:
        whole = held.x_ND.numpy()
    sample = tables.sample_rows(*made, "sae", 1000)
    assert np.array_equal(sample, whole)
    few = tables.sample_rows(*made, "sae", 7)
    assert 4 <= len(few) <= 7 and all((row == whole).all(axis=1).any() for row in few)
    monkeypatch.setattr(tables, "_PARTS", 3)
    assert 0 < len(tables.sample_rows(*made, "sae", 1000)) < len(whole)
