import dataclasses
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pytest

from medsae_ray.config import Pool
from medsae_ray.core.artifacts import schema
from medsae_ray.core.artifacts.artifact import Draft, open_artifact
from medsae_ray.core.artifacts.store import Store
from medsae_ray.core.encoders.embedding import EmbedWork
from medsae_ray.errors import ShardError
from medsae_ray.pipeline import run_stage
from medsae_ray.runtime.shards import Compute, Prepare, map_shards
from medsae_ray.runtime.tries import Tries
from tests.support.faults import Killer, Raiser
from tests.support.noted import SCHEMA, Meeting, Noted, SlowWriter, spans
from tests.support.small import DIM, onnx_encoder, recipe_data, table_dataset
from tests.support.usual import reading

POOL = Pool(retries=2, cpus=0.5)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> EmbedWork:
    from medsae_ray.config import parse_recipe

    folder = tmp_path_factory.mktemp("data")
    table, weights = table_dataset(folder, 60), onnx_encoder(folder / "e.onnx")
    recipe = parse_recipe(recipe_data(table, weights, engine="loop"))
    manifest = run_stage(recipe, str(folder / "root"), "manifest")
    return EmbedWork(manifest, Store(str(folder)), recipe.what.encoder, str(weights), reading(max_pixels=10**6))


def draft(root: Path) -> Draft:
    return Draft(Store(str(root)), "embeddings", 1, {}, {})


def parts(root: Path, work: object, engine: str, pool: Pool = POOL) -> dict[str, bytes]:
    """File name -> bytes after mapping `work` over all shards."""
    made = draft(root)
    writer = made.writer(schema.embeddings(DIM))
    receipts = list(map_shards(work, writer, sorted(work.rows), pool, engine))
    assert {r.shard: r.rows for r in receipts} == work.rows
    return {name: made.store.read(name) for name in made.store.names()}


def test_ray_and_a_plain_loop_write_the_same_bytes(ray_cluster: None, work: EmbedWork, tmp_path: Path) -> None:
    loop = parts(tmp_path / "loop", work, "loop")
    assert len(loop) == 8
    assert loop == parts(tmp_path / "ray", work, "ray")
    assert loop == parts(tmp_path / "two", work, "ray", Pool(actors=2, cpus=0.5))


@pytest.mark.parametrize("half", ["prepare", "compute"])
def test_a_killed_worker_changes_no_byte(ray_cluster: None, work: EmbedWork, tmp_path: Path, half: str) -> None:
    once = tmp_path / "struck"
    killed = parts(tmp_path / "killed", Killer(work, 3, half, once), "ray")
    assert once.exists() and killed == parts(tmp_path / "loop", work, "loop")


def test_a_part_whose_receipt_was_lost_on_its_way_is_not_computed_again(
    ray_cluster: None, work: EmbedWork, tmp_path: Path
) -> None:
    """A node may be lost between a part's end and its news: Ray asks for the shard again."""
    writer = draft(tmp_path / "root").writer(schema.embeddings(DIM))
    tries = Tries(2)
    prepared = Prepare(work, tries)(pa.table({"shard": [3]}))
    first = Compute(work, writer, tries)(prepared)
    again = Compute(Raiser(work, 3, "compute"), writer, tries)(prepared)
    assert again.equals(first) and again.num_rows == 1


@pytest.mark.parametrize("half", ["prepare", "compute"])
def test_a_shard_that_always_kills_its_worker_ends_the_run_and_is_named(
    ray_cluster: None, work: EmbedWork, tmp_path: Path, half: str
) -> None:
    with pytest.raises(ShardError, match=r"shard 5: its worker died 3 times \(allowed retries: 2\)"):
        parts(tmp_path, Killer(work, 5, half), "ray")


@pytest.mark.parametrize("engine", ["ray", "loop"])
@pytest.mark.parametrize("half", ["prepare", "compute"])
def test_an_error_in_a_shard_names_the_shard(
    ray_cluster: None, work: EmbedWork, tmp_path: Path, half: str, engine: str
) -> None:
    with pytest.raises(ShardError, match="shard 2: ValueError: a fault of its own"):
        parts(tmp_path, Raiser(work, 2, half), engine)


def test_only_missing_parts_are_computed(work: EmbedWork, tmp_path: Path) -> None:
    made = draft(tmp_path)
    writer = made.writer(schema.embeddings(DIM))
    list(map_shards(work, writer, [0, 1, 2], POOL, "loop"))
    assert sorted(set(work.rows) - set(writer.finished(work.rows))) == [3, 4, 5, 6, 7]


def test_a_worker_that_loses_a_row_is_refused(work: EmbedWork, tmp_path: Path) -> None:
    short = dataclasses.replace(work)
    object.__setattr__(short, "rows", {**work.rows, 1: 9})
    with pytest.raises(ShardError, match="shard 1 has 9 rows, 8 were computed"):
        parts(tmp_path, short, "loop")


def test_the_manifest_of_the_fixture_is_an_artifact(work: EmbedWork) -> None:
    assert open_artifact(work.manifest.store.uri).record.metrics["audit"]["patients_in_two_splits"] == 0


def test_the_model_waits_neither_for_reading_nor_for_writing(ray_cluster: None, tmp_path: Path) -> None:
    log, made = tmp_path / "log", draft(tmp_path)
    writer = SlowWriter(made.store, made.fingerprint, SCHEMA, log, 0.5)
    list(map_shards(Noted(log, 8, 0.1, 0.5), writer, list(range(8)), POOL, "ray"))
    prepared, computed, written = (spans(log, what) for what in ("prepare", "compute", "write"))
    assert all(end <= start for (_, end), (start, _) in pairwise(computed))  # one shard at a time has the model
    assert sum(start < end for (_, end), (start, _) in zip(written, computed[1:], strict=False)) > 4
    assert sum(end < computed[3][0] for _, end in prepared) > 5


def test_reader_cpus_say_how_many_shards_are_read_at_once(ray_cluster: None, tmp_path: Path) -> None:
    most = {}
    for cpus, kind in ((0.5, Meeting), (2.0, Noted)):
        log, made = tmp_path / str(cpus), draft(tmp_path / f"run-{cpus}")
        pool = Pool(cpus=0.5, reader_cpus=cpus)
        list(map_shards(kind(log, 8, 0.4, 0.01), made.writer(SCHEMA), list(range(8)), pool, "ray"))
        read = spans(log, "prepare")
        most[cpus] = max(sum(start <= at < end for start, end in read) for at, _ in read)
    assert most[2.0] == 1 < most[0.5]
