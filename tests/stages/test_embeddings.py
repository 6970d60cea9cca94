"""Stage `embeddings` with a model from a folder or by id: what its artifact is named after, and what it holds."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medsae_ray.config import parse_recipe
from medsae_ray.core.artifacts.artifact import Artifact
from medsae_ray.core.artifacts.layout import Layout
from medsae_ray.core.artifacts.store import Store
from medsae_ray.core.encoders import load_encoder
from medsae_ray.core.encoders.embedding import EmbedWork
from medsae_ray.core.encoders.hub import snapshot
from medsae_ray.errors import EncoderError
from medsae_ray.outputs.report import encoder_name
from medsae_ray.pipeline import run_stage
from tests.core.encoders import small_onnx
from tests.core.encoders.small_hub import hub
from tests.core.encoders.small_models import saved, vision
from tests.support.small import recipe_data, table_dataset


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(table, model folder)."""
    folder = tmp_path_factory.mktemp("data")
    return table_dataset(folder, 12), saved(folder / "model", "dinov3-vit")


@pytest.fixture
def online(data: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    snapshot.cache_clear()
    with hub(data[1], tmp_path / "cache", monkeypatch):
        yield
    snapshot.cache_clear()


def embedded(table: Path, weights: str, root: Path, **encoder: Any) -> Artifact:
    """The embeddings artifact."""
    recipe = recipe_data(table, Path("x"), engine="loop")
    recipe["how"]["paths"]["weights"] = weights
    recipe["what"]["encoder"] = {"kind": "huggingface"} | encoder
    return run_stage(parse_recipe(recipe), str(root), "embeddings")


def test_a_folder_and_the_same_model_by_id_are_one_artifact(
    data: tuple[Path, Path], online: None, tmp_path: Path
) -> None:
    table, folder = data
    made = embedded(table, str(folder), tmp_path / "runs")
    moved = shutil.copytree(folder, tmp_path / "elsewhere")
    assert embedded(table, str(moved), tmp_path / "runs").name == made.name
    assert embedded(table, "owner/open@v1", tmp_path / "runs").name == made.name
    x_ND = np.array(made.table()["x"].to_pylist(), np.float32)
    images = [table.parent / f"i{number:04d}.png" for number in range(12)]
    np.testing.assert_array_equal(x_ND, load_encoder("huggingface", str(folder)).encode(images, batch_size=64))


def test_other_weights_and_other_options_are_other_artifacts(data: tuple[Path, Path], tmp_path: Path) -> None:
    table, folder = data
    other = shutil.copytree(folder, tmp_path / "other")
    vision("dinov3-vit").half().save_pretrained(other)  # type: ignore[operator]
    names = [
        embedded(table, str(folder), tmp_path / "runs"),
        embedded(table, str(other), tmp_path / "runs"),
        embedded(table, str(folder), tmp_path / "runs", pool="mean"),
        embedded(table, str(folder), tmp_path / "runs", mean=[0.5, 0.5, 0.5]),
        embedded(table, str(folder), tmp_path / "runs", kind="dinov3", size=32),
    ]
    assert len({made.name for made in names}) == len(names)


def exported(table: Path, weights: Path, root: Path, **encoder: Any) -> Artifact:
    """The embeddings artifact of an ONNX model."""
    recipe = recipe_data(table, weights, engine="loop")
    recipe["what"]["encoder"] = {"kind": "onnx", "size": 8} | encoder
    return run_stage(parse_recipe(recipe), str(root), "embeddings")


def test_weights_exchanged_beside_the_same_graph_are_another_artifact(data: tuple[Path, Path], tmp_path: Path) -> None:
    table, root = data[0], tmp_path / "runs"
    paths = [small_onnx.beside(tmp_path / str(seed), seed) for seed in (1, 2)]
    first, other = (exported(table, path, root, output_name="embedding") for path in paths)
    assert first.name != other.name
    for path, made in zip(paths, (first, other), strict=True):
        x_ND = np.array(made.table()["x"].to_pylist(), np.float32)
        images = [table.parent / f"i{number:04d}.png" for number in range(12)]
        encoder = load_encoder("onnx", str(path), size=8, output_name="embedding", threads=1)
        np.testing.assert_allclose(x_ND, encoder.encode(images), rtol=1e-5, atol=1e-6)


def test_the_encoder_is_loaded_by_whom_it_computes_for(
    data: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load, loaded = EmbedWork.load, []
    monkeypatch.setattr(EmbedWork, "load", lambda work: loaded.append(work.device) or load(work))
    made = embedded(data[0], str(data[1]), tmp_path / "runs")
    assert loaded == ["cpu"] and Layout.of(made.schema).dim == load_encoder("huggingface", str(data[1])).dim


def test_the_driver_reads_no_part_to_learn_its_layout(
    data: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, whole = Store.read, list[str]()

    def noted(store: Store, name: str) -> bytes:
        whole.append(f"{store.uri}/{name}")
        return read(store, name)

    monkeypatch.setattr(Store, "read", noted)
    embedded(data[0], str(data[1]), tmp_path / "runs")
    assert whole and not [name for name in whole if "embeddings-" in name and "part-" in name]


@pytest.mark.ray
def test_weights_that_do_not_fit_are_refused_by_the_worker_in_the_encoders_words(
    data: tuple[Path, Path], tmp_path: Path
) -> None:
    (tmp_path / "m.bin").write_bytes(b"no model")
    recipe = recipe_data(data[0], tmp_path / "m.bin", engine="ray")
    recipe["what"]["encoder"] = {"kind": "medclip-vit"}
    with pytest.raises(EncoderError, match=r"m\.bin: not a readable checkpoint"):
        run_stage(parse_recipe(recipe), str(tmp_path / "runs"), "embeddings")


def test_an_output_that_looks_like_classes_is_in_the_record(data: tuple[Path, Path], tmp_path: Path) -> None:
    path = small_onnx.classifier(tmp_path / "m.onnx")
    assert "it is what Softmax gives" in exported(data[0], path, tmp_path / "runs").record.metrics["class_scores"]
    assert exported(data[0], path, tmp_path / "runs", output_name="embedding").record.metrics == {"notes": {}}


def test_a_layout_that_is_not_given_is_in_no_name(data: tuple[Path, Path], tmp_path: Path) -> None:
    path = small_onnx.classifier(tmp_path / "m.onnx")
    plain = exported(data[0], path, tmp_path / "runs")
    assert "layout" not in plain.record.what["encoder"]
    assert exported(data[0], path, tmp_path / "runs", layout="channels_first").name != plain.name


@pytest.mark.parametrize(
    ("encoder", "weights", "name"),
    [
        ({"kind": "huggingface"}, "owner/name@v1", "huggingface, owner/name@v1"),
        ({"kind": "dinov3"}, None, "dinov3, facebook/dinov3-vitl16-pretrain-lvd1689m"),
        ({"kind": "biomedparse"}, "/disk/biomedparse_v1.pt", "biomedparse, biomedparse_v1.pt"),
        ({"kind": "onnx", "size": 16}, "/disk/e.onnx", "onnx"),
    ],
)
def test_a_report_names_the_model(encoder: dict[str, Any], weights: str | None, name: str) -> None:
    recipe = recipe_data(Path("t.csv"), Path("x"))
    recipe["what"]["encoder"], recipe["how"]["paths"]["weights"] = encoder, weights
    assert encoder_name(parse_recipe(recipe)) == name
