"""An uploaded image is read as the batch run reads it, whatever kind of file it is and whatever the recipe says."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from medsae_ray import open_artifact
from medsae_ray.config import parse_recipe
from medsae_ray.core.artifacts.store import Store
from medsae_ray.core.images.reader import ImageRules
from medsae_ray.finished import open_run
from medsae_ray.pipeline import run_recipe
from medsae_ray.service.app import make_app
from medsae_ray.service.desk import Desk
from medsae_ray.service.uploads import Budget, Uploads
from tests.service.conftest import LIMITS
from tests.support.medical import dicom
from tests.support.small import onnx_encoder, recipe_data

KINDS = {"png": "image/png", "jpg": "image/jpeg", "dcm": "application/dicom"}
SIDE = 200


class Mixed(NamedTuple):
    """A finished run over every kind of file, with the service that answers for it."""

    images: Path
    desk: Desk
    embeddings: dict[str, list[float]]
    activations: dict[str, dict[int, float]]


def write(path: Path, kind: int, rng: np.random.Generator) -> Path:
    """Deep files have no pixel at either end of their depth, so that depth and range, window and range are not the
    same."""
    grey = rng.integers(3000, 9000, (SIDE // 8, SIDE // 8)).astype(np.uint16).repeat(8, 0).repeat(8, 1)
    grey += rng.integers(0, 2000, grey.shape).astype(np.uint16)
    name = path.with_suffix((".png", ".png", ".jpg", ".dcm", ".dcm")[kind])
    if kind < 3:
        Image.fromarray(grey if kind == 1 else (grey // 64).astype(np.uint8)).save(name)
    else:
        shown = {"WindowCenter": 5000, "WindowWidth": 3000}
        turned = {"PhotometricInterpretation": "MONOCHROME1"} if kind == 4 else {}
        name.write_bytes(dicom(grey, **shown, **turned))
    return name


def table(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    files = [write(folder / f"i{number:03d}", number % 5, rng).name for number in range(40)]
    lines = [f"{name},p{number},{number % 2},{number // 2 % 2},PA" for number, name in enumerate(files)]
    path = folder / "labels.csv"
    path.write_text("\n".join(["path,patient,bright,left,view", *lines]))
    return path


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Mixed:
    folder = tmp_path_factory.mktemp("mixed")
    data = recipe_data(table(folder), onnx_encoder(folder / "e.onnx"), engine="loop")
    data["what"]["images"] = {"reduce_jpeg": True, "window": "minmax", "high_bit": "minmax"}
    data["what"]["sae"]["epochs"] = 2
    recipe, root = parse_recipe(data), str(folder / "root")
    run_recipe(recipe, root)
    artifacts = {name.partition("-")[0]: f"{root}/{name}" for name in Store(root).folders()}
    made = {stage: open_artifact(artifacts[stage]).table() for stage in ("manifest", "embeddings", "activations")}
    uri_of = dict(zip(*(made["manifest"][c].to_pylist() for c in ("image_id", "uri")), strict=True))
    x = {uri_of[row["image_id"]]: row["x"] for row in made["embeddings"].to_pylist()}
    z = {uri_of[row["image_id"]]: active(row) for row in made["activations"].to_pylist()}
    return Mixed(folder, Desk(open_run(recipe, root), None, LIMITS), x, z)


def active(row: dict[str, list[float]]) -> dict[int, float]:
    return dict(zip(map(int, row["feature"]), row["value"], strict=True))


def test_the_endpoint_embeds_each_kind_of_file_as_the_batch_run_does(mixed: Mixed) -> None:
    seen = set()
    for uri, x in mixed.embeddings.items():
        image = mixed.desk.to_encode.image((mixed.images / uri).read_bytes(), "image")
        assert np.abs(mixed.desk.encoder.embed(image)[0] - x).max() <= 1e-5, uri
        seen.add(uri.partition(".")[2])
    assert len(mixed.embeddings) == 40 and seen == set(KINDS)


def test_the_endpoint_answers_for_each_kind_of_file_what_the_batch_run_stored(mixed: Mixed) -> None:
    with TestClient(make_app(mixed.desk, None), "http://localhost") as client:
        for uri, stored in mixed.activations.items():
            body = (mixed.images / uri).read_bytes()
            headers = {"content-type": KINDS[uri.partition(".")[2]]}
            answer = client.post("/v1/encode?named=false&top=200", content=body, headers=headers).json()
            found = {row["feature"]: row["activation"] for row in answer["features"]}
            assert found == pytest.approx(stored, abs=1e-5), uri


def test_what_of_the_recipe_is_not_the_default_changes_the_numbers(mixed: Mixed) -> None:
    """Or the tests above would hold for a service that knows nothing of it."""
    plain = Uploads.of(ImageRules(), LIMITS, Budget(LIMITS.pixels), mixed.desk.encoder.side)
    for uri in ("i001.png", "i002.jpg", "i003.dcm", "i004.dcm"):
        image = plain.image((mixed.images / uri).read_bytes(), "image")
        assert np.abs(mixed.desk.encoder.embed(image)[0] - mixed.embeddings[uri]).max() > 1e-3, uri


def test_an_image_without_room_in_memory_is_too_large(mixed: Mixed, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr("medsae_ray.core.images.reader.read_image", full)
    with TestClient(make_app(mixed.desk, None), "http://localhost") as client:
        answer = client.post("/v1/encode", files={"image": (mixed.images / "i000.png").read_bytes()})
    assert answer.status_code == 413 and answer.json()["error"]["code"] == "image_too_large"
