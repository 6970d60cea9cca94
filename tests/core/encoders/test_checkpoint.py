"""Where weights come from: files, directories, archives, downloads; and what is refused."""

import hashlib
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from medsae_ray.core.encoders import checkpoint
from medsae_ray.core.encoders.checkpoint import content_hash, read_metadata, read_state, resolve, vision_part
from medsae_ray.core.encoders.hub import model_folder
from medsae_ray.core.encoders.text import PUBLISHED
from medsae_ray.errors import EncoderError
from tests.support.web import Web, web


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(checkpoint, "_RETRIES", 1)
    return tmp_path / "home" / "medsae_ray"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Web]:
    with web(tmp_path) as found:
        yield found


def test_a_download_is_made_once(cache: Path, server: Web) -> None:
    url = server.put("/a/model.zip?dl=1", b"weights")
    paths = {resolve(url) for _ in range(2)}
    assert server.asked == ["/a/model.zip?dl=1"] and len(paths) == 1
    path = paths.pop()
    assert path.read_bytes() == b"weights" and path.suffix == ".zip" and list(cache.iterdir()) == [path]


def test_a_download_that_stops_early_is_tried_again_and_leaves_nothing(cache: Path, server: Web) -> None:
    url = server.put("/model.zip", b"weigh", 7)
    with pytest.raises(EncoderError, match=r"download failed .*5 bytes read, 2 more expected.*; give a local path"):
        resolve(url)
    assert list(cache.iterdir()) == [] and len(server.asked) == 2


def test_what_is_not_there_is_an_error(cache: Path, server: Web) -> None:
    with pytest.raises(EncoderError, match=r"download failed .404 .*; give a local path"):
        resolve(f"{server.url}/model.zip")


def test_a_download_is_held_against_its_checksum(cache: Path, server: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    url, right = server.put("/model.zip", b"weights"), hashlib.sha256(b"weights").hexdigest()
    for wrong in (f"{url}#sha256={'0' * 64}", url):
        monkeypatch.setitem(checkpoint.SHA256, url, "1" * 64)
        with pytest.raises(EncoderError, match=f"does not match the known hash: expected (0|1){{64}} but got {right}"):
            resolve(wrong)
        assert list(cache.iterdir()) == []
    path = resolve(f"{url}#sha256={right}")
    assert path.read_bytes() == b"weights" and list(cache.iterdir()) == [path]
    path.write_bytes(b"damaged")
    assert resolve(f"{url}#sha256={right}").read_bytes() == b"weights"
    with pytest.raises(EncoderError, match="64 hexadecimal digits"):
        resolve(f"{url}#sha256=12")


def test_the_published_weights_are_known_by_their_address() -> None:
    assert set(checkpoint.SHA256) <= set(PUBLISHED.values())
    assert all(len(known) == 64 for known in checkpoint.SHA256.values())


def test_only_https_is_downloaded() -> None:
    with pytest.raises(EncoderError, match="https"):
        resolve("http://example.org/model.zip")


def test_a_directory_means_the_checkpoint_inside(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match=r"pytorch_model\.bin"):
        resolve(str(tmp_path))
    (tmp_path / "pytorch_model.bin").touch()
    assert resolve(str(tmp_path)) == tmp_path / "pytorch_model.bin"


def test_a_missing_file_and_an_unknown_built_in_are_named(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="no such file"):
        resolve(str(tmp_path / "nothing.bin"))
    with pytest.raises(EncoderError, match="builtin:phantom-encoder"):
        resolve("builtin:phantom")


@pytest.mark.parametrize("name", ["x.bin", "x.safetensors", "x.zip"])
def test_a_file_of_noise_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"noise" * 50)
    with pytest.raises(EncoderError, match="not a readable checkpoint"):
        read_state(path)


def test_what_is_not_a_state_dict_is_refused(tmp_path: Path) -> None:
    torch.save({"epoch": 3}, tmp_path / "x.bin")
    with pytest.raises(EncoderError, match="state dict"):
        read_state(tmp_path / "x.bin")


def test_an_archive_must_hold_one_checkpoint(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("readme.txt", "nothing")
    with pytest.raises(EncoderError, match="0 files named"):
        read_state(tmp_path / "x.zip")


def test_text_tower_and_logit_scale_are_left_out_and_a_stranger_is_not() -> None:
    keys = ("vision_model.a", "text_model.b", "logit_scale", "stranger")
    assert set(vision_part({key: torch.zeros(1) for key in keys})) == {"a", "stranger"}
    assert set(vision_part({"a": torch.zeros(1)})) == {"a"}


def model(folder: Path, **files: str) -> str:
    """content_hash of a model folder with these files beside its weights."""
    folder.mkdir(parents=True)
    for name, text in ({"config.json": "{}", "model.safetensors": "w"} | files).items():
        (folder / name.replace("__", ".")).write_text(text)
    return content_hash(folder)


def test_a_folders_hash_is_of_the_content_that_makes_the_model(tmp_path: Path) -> None:
    first = model(tmp_path / "a")
    assert model(tmp_path / "deeper" / "b", README__md="text", pytorch_model__bin="the same again") == first
    for number, change in enumerate(
        ({"config.json": "{ }"}, {"model.safetensors": "v"}, {"preprocessor_config.json": "{}"})
    ):
        assert model(tmp_path / str(number), **change) != first
    parts = {"model-00001-of-00002.safetensors": "w", "model-00002-of-00002.safetensors": "x"}
    assert model(tmp_path / "parts", **parts) != first


def test_parts_that_an_index_names_are_of_the_model_whatever_they_are_called(tmp_path: Path) -> None:
    def made(name: str, part: str, **parts: str) -> Path:
        folder = tmp_path / name
        index = json.dumps({"metadata": {}, "weight_map": {"a": "model-1.safetensors", "b": part}})
        model(folder, **{"model.safetensors": "w", "model.safetensors.index.json": index} | parts)
        return folder

    folders = [
        made(content, "vision.safetensors", **{"model-1.safetensors": "a", "vision.safetensors": content})
        for content in "xy"
    ]
    assert content_hash(folders[0]) != content_hash(folders[1])
    with pytest.raises(EncoderError, match=r"index\.json names gone\.safetensors, which is not there"):
        made("missing", "gone.safetensors", **{"model-1.safetensors": "a"})
    with pytest.raises(EncoderError, match="only files beside it are read"):
        made("beyond", "../x/vision.safetensors", **{"model-1.safetensors": "a"})
    with pytest.raises(EncoderError, match="no index of parts"):
        model(tmp_path / "torn", **{"model.safetensors.index.json": "{"})


def test_an_adapter_beside_a_model_is_refused(tmp_path: Path) -> None:
    model(tmp_path / "a", **{"adapter_config.json": "{}"})
    with pytest.raises(EncoderError, match="its adapter would be left out"):
        model_folder(str(tmp_path / "a"))


def test_a_files_hash_is_its_sha256(tmp_path: Path) -> None:
    (tmp_path / "x.bin").write_bytes(b"weights")
    assert content_hash(tmp_path / "x.bin") == hashlib.sha256(b"weights").hexdigest()


def test_damaged_metadata_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(1)}, tmp_path / "x.safetensors", metadata={"swin": "{"})
    with pytest.raises(EncoderError, match="metadata"):
        read_metadata(tmp_path / "x.safetensors", "swin")
    assert read_metadata(tmp_path / "x.safetensors", "other") is None
