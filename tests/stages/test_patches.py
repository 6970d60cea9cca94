"""The packaged recipe over patches, small: an image is one row everywhere but in training, where every patch is one."""

import json
import runpy
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from rich.console import Console

import medsae_ray
from medsae_ray.config import Recipe, Train, load_recipe
from medsae_ray.core.analysis.patch_maps import patch_values
from medsae_ray.core.artifacts.artifact import Artifact, open_artifact
from medsae_ray.core.artifacts.columns import column
from medsae_ray.core.artifacts.layout import Layout, token_matrix
from medsae_ray.core.artifacts.store import Store
from medsae_ray.core.sae.activations import load_artifact_sae
from medsae_ray.core.sae.metrics import reconstruction
from medsae_ray.finished import open_run
from medsae_ray.outputs.report import report_data
from medsae_ray.pipeline import STAGES, run_recipe
from medsae_ray.runtime.run import Run
from medsae_ray.service.image_encoder import ImageEncoder
from medsae_ray.stages.sae import training_rows
from medsae_ray.stages.sae_table import split_table
from medsae_ray.stages.samples import matrices

PATIENTS, SAE = 24, {"width": 24, "epochs": 3, "batch_size": 64}
HEAT_MAPS = Path(medsae_ray.__file__).parents[1] / "benchmarks" / "heat_maps.py"


def recipe(engine: str) -> Recipe:
    whole = load_recipe("phantom-patches")
    dataset, sae = whole.what.dataset, whole.what.sae.model_copy(update=SAE)
    assert dataset is not None
    what = whole.what.model_copy(update={"dataset": replace(dataset, patients=PATIENTS), "sae": sae, "shard_rows": 16})
    how = whole.how.model_copy(update={"engine": engine, "embed": whole.how.embed.model_copy(update={"threads": 1})})
    return whole.model_copy(update={"what": what, "how": how})


class Made(NamedTuple):
    root: Path
    summary: dict[str, Any]
    manifest: Artifact
    embeddings: Artifact
    sae: Artifact
    activations: Artifact
    features: Artifact
    x_NTD: np.ndarray
    """The tokens of all images."""
    z_NTM: np.ndarray


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    root = tmp_path_factory.mktemp("loop")
    summary = run_recipe(recipe("loop"), str(root))
    of = {stage["name"]: open_artifact(f"{root}/{stage['artifact']}") for stage in summary["stages"]}
    x_NTD = np.concatenate([token_matrix(of["embeddings"].part(part.shard))[0] for part in of["embeddings"].parts])
    sae = medsae_ray.load_sae(of["sae"].store.uri)
    z_NTM = np.stack([sae.encode(x_TD) for x_TD in x_NTD])
    names = ("manifest", "embeddings", "sae", "activations", "features")
    return Made(root, summary, *(of[name] for name in names), x_NTD, z_NTM)


def splits(made: Made) -> np.ndarray:
    return column(made.manifest.table(), "split").astype(str)


def test_an_image_is_one_row_that_holds_all_of_its_patches(made: Made) -> None:
    assert Layout.of(made.embeddings.schema) == Layout(128, (7, 7))
    rows = {stage["name"]: (stage["rows"], stage["not_ok"]) for stage in made.summary["stages"]}
    assert rows["images"] == rows["embeddings"] == rows["activations"] == (len(made.x_NTD), 0)
    path = next((made.root / made.manifest.store.uri).parent.glob("images-*/*-s1.png"))
    encoder = medsae_ray.load_encoder("medclip-vit", "builtin:phantom-encoder", threads=1)
    tokens = encoder.embed_tokens(encoder.preprocess(Image.open(path))[None]).x[0]
    row = made.manifest.table()["image_id"].to_pylist().index(path.stem)
    np.testing.assert_allclose(made.x_NTD[row], tokens, rtol=1e-4, atol=1e-4)


def test_ray_writes_the_same_bytes(made: Made, ray_cluster: None, tmp_path: Path) -> None:
    for artifact in made.root.glob("[im]*-*"):  # films and manifest: no patches yet
        shutil.copytree(artifact, tmp_path / artifact.name)
    summary = run_recipe(recipe("ray"), str(tmp_path))
    assert [s["artifact"] for s in summary["stages"]] == [s["artifact"] for s in made.summary["stages"]]
    for artifact in (made.embeddings, made.sae, made.activations, made.features):
        here, there = ({f.name: f.sha256 for f in a.record.files if not f.name.startswith("log")}
                       for a in (artifact, open_artifact(f"{tmp_path}/{artifact.name}")))  # fmt: skip
        assert here == there and here


@pytest.mark.parametrize("split", ["sae", "naming"])
def test_every_patch_of_a_splits_images_is_a_row_of_training(made: Made, split: str, tmp_path: Path) -> None:
    wanted = made.x_NTD[splits(made) == split].reshape(-1, 128)
    on_disk = Train(memory_gb=0, scratch=str(tmp_path))
    for how in (Train(), on_disk):
        with split_table(made.embeddings, made.manifest, split, how) as table:
            assert (table.file is None) == (how is not on_disk)
            np.testing.assert_array_equal(table.x_ND.numpy(), wanted)
    # 4 bytes x 128 x rows is what decides, and not images.
    with split_table(made.embeddings, made.manifest, split, Train(memory_gb=len(wanted) * 400e-9)) as table:
        assert table.file is not None
    assert split != "sae" or training_rows(made.embeddings, made.manifest) == len(wanted)


def test_an_images_activations_are_maxima_and_its_errors_sums_over_patches(made: Made) -> None:
    sae = load_artifact_sae(made.sae)
    for row, x_TD, z_TM in zip(made.activations.table().to_pylist(), made.x_NTD, made.z_NTM, strict=True):
        most_M = z_TM.max(0)
        assert row["feature"] == np.flatnonzero(most_M).tolist()
        assert row["value"] == pytest.approx(most_M[most_M > 0].tolist(), rel=1e-4, abs=1e-4)
        sums = reconstruction(sae, torch.tensor(x_TD))
        assert row["sq_error"] == pytest.approx(sums.sq_error, rel=1e-4)
        assert row["sq_norm"] == pytest.approx(sums.sq_norm, rel=1e-4)
        assert row["patch_active"] == np.count_nonzero(z_TM) == sums.nnz


def test_fit_and_sparsity_are_those_of_patches_of_new_patients(made: Made) -> None:
    held = splits(made) != "sae"
    sums = reconstruction(load_artifact_sae(made.sae), torch.tensor(made.x_NTD[held]).flatten(0, 1))
    assert made.summary["sae"]["l0"] == pytest.approx(sums.l0, rel=1e-6)
    assert made.summary["sae"]["fvu"] == pytest.approx(sums.fvu, rel=1e-4)
    assert sums.l0 < 6 < np.count_nonzero(made.z_NTM.max(1)[held]) / held.sum()


def test_a_raw_dimension_is_the_mean_over_patches(made: Made) -> None:
    raw = [row for row in made.features.table().to_pylist() if row["space"] == "raw"]
    np.testing.assert_allclose([row["max"] for row in raw], made.x_NTD.mean(1).max(0), rtol=1e-4, atol=1e-5)
    every = np.ones(len(made.x_NTD), bool)
    e_ND, z_NM = matrices(made.embeddings, made.activations, every, SAE["width"])
    np.testing.assert_allclose(e_ND, made.x_NTD.mean(1), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(z_NM.toarray(), made.z_NTM.max(1), rtol=1e-4, atol=1e-4)


def test_the_map_of_a_top_image_peaks_at_its_activation(made: Made) -> None:
    table = made.manifest.table(["image_id", "shard"])
    shard_of = dict(zip(table["image_id"].to_pylist(), table["shard"].to_pylist(), strict=True))
    rows = [row for row in made.features.table().to_pylist() if row["space"] == "sae" and row["n_active"]]
    wanted = [(row["feature"], image) for row in rows for image in row["top_images"]]
    values = [value for row in rows for value in row["top_values"]]
    maps = patch_values(made.embeddings, load_artifact_sae(made.sae), shard_of, wanted)
    assert set(maps) == set(wanted) and len(wanted) > 50
    assert [maps[pair].max() for pair in wanted] == pytest.approx(values, rel=1e-4)
    feature, image = wanted[7]
    row = table["image_id"].to_pylist().index(image)
    np.testing.assert_allclose(maps[feature, image].ravel(), made.z_NTM[row, :, feature], rtol=1e-4, atol=1e-4)


def test_the_report_shows_where_and_says_what_is_over_patches(made: Made) -> None:
    page = (made.root / "report.html").read_text()
    cards = page.count("<article")
    assert cards > 5 and page.count('class="heat"') == page.count('class="heated"') > 4 * cards
    assert "7 \N{MULTIPLICATION SIGN} 7 patches" in page and "features per patch" in page and len(page) < 2_500_000
    with Run(recipe("loop"), Store(str(made.root)), STAGES, Console(quiet=True)) as run:
        patches = report_data(run).patches
    assert patches is not None and patches.grid == (7, 7)


def test_the_service_encodes_an_image_as_the_run_did(made: Made) -> None:
    encoder = ImageEncoder(open_run(recipe("loop"), str(made.root)))
    for row in made.activations.table().slice(0, 3).to_pylist():
        (path,) = made.root.glob(f"images-*/{row['image_id']}.png")
        active = encoder.active(Image.open(path))
        assert active.feature == row["feature"] and active.value == pytest.approx(row["value"], rel=1e-3)


def test_the_parts_of_a_patch_run_say_so_in_parquet(made: Made) -> None:
    (path, *_) = sorted((made.root / made.embeddings.name).glob("part-*.parquet"))
    assert pq.read_schema(path).field("x").metadata == {b"medsae.grid": b"7x7"}


def test_the_pointing_game_measures_every_finding(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    size = ["--dataset", json.dumps({"patients": PATIENTS}), "--shard-rows", "16", "--sae", json.dumps(SAE)]
    monkeypatch.setattr(sys, "argv", [str(HEAT_MAPS), "--root", str(made.root), "--json", f"{tmp_path}/out", *size])
    runpy.run_path(str(HEAT_MAPS), run_name="__main__")
    assert "(already there)" in capsys.readouterr().err
    rows = json.loads((tmp_path / "out").read_text())
    assert len(rows) > 5 and all(0 < row["exact"]["cell"] <= row["near"]["cell"] <= 1 for row in rows)
    assert all(row["exact"]["feature"] <= row["near"]["feature"] <= row["active"] for row in rows)


def test_a_peak_is_a_hit_in_the_place_or_next_to_it() -> None:
    game = runpy.run_path(str(HEAT_MAPS))
    place = np.zeros((4, 5), bool)
    place[0, 0] = place[2, 3] = True
    near = game["dilated"](place)
    assert near.tolist() == [[1, 1, 0, 0, 0], [1, 1, 1, 1, 1], [0, 0, 1, 1, 1], [0, 0, 1, 1, 1]]
    maps = np.zeros((3, 20))
    maps[0, 13], maps[1, 4] = 2.0, 1.0  # in the place, outside of it, and nowhere
    assert game["hits"](maps, np.tile(place.ravel(), (3, 1))).tolist() == [True, False, False]
