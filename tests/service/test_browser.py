import json
from dataclasses import replace
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from medsae_ray.cli import main
from medsae_ray.core.browser.folder import MARK
from medsae_ray.core.browser.site import Site
from medsae_ray.finished import open_site
from medsae_ray.service.app import make_app
from medsae_ray.service.desk import Desk
from medsae_ray.service.middleware import digest
from tests.service.conftest import LIMITS, Small
from tests.support.small import recipe_data

TOKEN = "a-token-of-this-test"


@pytest.fixture(scope="module")
def folder(small: Small, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pages of the small run, written by the command."""
    place = tmp_path_factory.mktemp("browser")
    data = recipe_data(small.images / "labels.csv", small.images.parent / "e.onnx", engine="loop")
    data["what"]["likeness"] = small.recipe.what.likeness.model_dump(mode="json")
    (place / "small.yaml").write_text(json.dumps(data))
    assert main(["browse", str(place / "small.yaml"), "--root", small.root, "--to", str(place / "pages")]) == 0
    return place / "pages"


def test_the_service_gives_the_bytes_of_the_folder(folder: Path, client: TestClient) -> None:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MARK)
    assert len(files) > 100
    for path in files:
        answer = client.get(f"/{path.relative_to(folder)}")
        assert answer.status_code == 200 and answer.content == path.read_bytes(), path
        assert answer.headers["content-security-policy"].startswith("default-src 'self'")
        assert answer.headers["referrer-policy"] == "same-origin" and answer.headers["cache-control"] == "no-store"
    assert client.get("/").content == (folder / "index.html").read_bytes()


def test_other_paths_are_refused_as_before(client: TestClient) -> None:
    for path in ("/nothing", "/feature/999.html", "/v1/nothing", "/../e.onnx", "/%2e%2e/e.onnx", "/image/999999.png",
                 "/page-9.html", "/data/..%2f..%2fe.onnx"):  # fmt: skip
        answer = client.get(path)
        assert answer.status_code == 404 and answer.json()["error"]["code"] == "not_found", path
    assert client.post("/feature/1.html").status_code == 405
    assert client.head("/").status_code == 200 and not client.head("/").content
    assert (
        client.get("/v1/health/live").json() == {"live": True} and client.get("/v1/features/2").json()["feature"] == 2
    )


def test_the_pages_ask_for_the_token(desk: Desk) -> None:
    with TestClient(make_app(desk, digest(TOKEN)), "http://pages.example") as client:
        assert client.get("/").status_code == client.get("/thumb/1.jpg").status_code == 401
        assert client.get("/", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200


def test_a_service_without_images_gives_none(small: Small) -> None:
    desk = Desk(replace(small.run, images="none"), None, LIMITS)
    with TestClient(make_app(desk, None), "http://localhost") as client:
        assert client.get("/feature/1.html").status_code == 200
        for path in ("/thumb/1.jpg", "/image/1.png", "/image/1.html", "/shade/1.png"):
            assert client.get(path).status_code == 404, path


def test_numbers_of_images_stay_and_hide_the_order_of_the_table(small: Small) -> None:
    one, two = (open_site(small.recipe, small.root).data.images for _ in range(2))
    numbers = one.number_N.tolist()
    assert numbers == two.number_N.tolist() and sorted(numbers) == list(range(len(numbers))) != numbers


def test_a_run_that_is_not_finished_is_refused(
    small: Small, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = recipe_data(small.images / "labels.csv", small.images.parent / "e.onnx", engine="loop")
    (tmp_path / "small.yaml").write_text(json.dumps(data))
    command = ["browse", str(tmp_path / "small.yaml"), "--root", str(tmp_path / "root"), "--to", str(tmp_path / "to")]
    assert main(command) == 1
    assert "has no finished manifest" in capsys.readouterr().err and not (tmp_path / "to").exists()


def test_the_rare_is_hidden_in_the_small_run(small: Small) -> None:
    site: Site = open_site(small.recipe, small.root)
    assert site.data.images.metadata["view"] == ["PA"] * 60
    assert "<dd>PA</dd>" in site.file("image/3.html").decode()
