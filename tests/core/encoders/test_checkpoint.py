"""Where weights come from: files, directories, archives, downloads; and what is refused."""

import hashlib
import io
import json
import zipfile
from email.message import Message
from pathlib import Path

import pytest
import torch

from medsae_ray.core.encoders import checkpoint
from medsae_ray.core.encoders.checkpoint import content_hash, read_metadata, read_state, resolve, vision_part
from medsae_ray.core.encoders.hub import model_folder
from medsae_ray.errors import EncoderError


class Response(io.BytesIO):
    """What urlopen gives: a body and its headers."""

    def __init__(self, body: bytes, length: int) -> None:
        super().__init__(body)
        self.headers = Message()
        self.headers["Content-Length"] = str(length)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "medsae_ray"


def serve(monkeypatch: pytest.MonkeyPatch, body: bytes, length: int) -> list[str]:
    asked: list[str] = []

    def urlopen(url: str, timeout: float) -> Response:
        asked.append(url)
        return Response(body, length)

    monkeypatch.setattr(checkpoint.urllib.request, "urlopen", urlopen)
    return asked


def test_a_download_is_made_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = serve(monkeypatch, b"weights", 7)
    paths = {resolve("https://example.org/a/model.zip?dl=1") for _ in range(2)}
    assert len(asked) == 1 and len(paths) == 1
    path = paths.pop()
    assert path.read_bytes() == b"weights" and path.suffix == ".zip" and list(cache.iterdir()) == [path]


def test_a_download_that_stops_early_leaves_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serve(monkeypatch, b"weigh", 7)
    with pytest.raises(EncoderError, match="5 of 7 bytes"):
        resolve("https://example.org/model.zip")
    assert list(cache.iterdir()) == []


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
