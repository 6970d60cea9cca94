"""Models by id: fetched by the real client from a hub on this machine; and what is said where that fails."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from medsae_ray.core.encoders import encoder_preprocess, load_encoder
from medsae_ray.core.encoders.checkpoint import content_hash
from medsae_ray.core.encoders.hub import is_id, model_folder, pinned, snapshot
from medsae_ray.core.naming.engine import model_identity
from medsae_ray.errors import EncoderError
from tests.core.encoders.small_hub import COMMIT, hub, point
from tests.core.encoders.small_models import SIDE, saved


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    saved(tmp_path / "model", "vit")
    (tmp_path / "model" / "README.md").write_text("not fetched")
    return tmp_path / "model"


@pytest.fixture
def asked(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    snapshot.cache_clear()
    with hub(folder, tmp_path / "cache", monkeypatch) as paths:
        yield paths
    snapshot.cache_clear()


def test_a_model_by_id_is_the_model_in_the_folder(asked: list[str], folder: Path) -> None:
    images = [np.random.default_rng(0).integers(0, 256, (50, 40, 3), dtype=np.uint8)]
    by_id, local = (load_encoder("huggingface", weights) for weights in ("owner/open@v1", str(folder)))
    np.testing.assert_array_equal(by_id.encode(images), local.encode(images))
    assert content_hash(model_folder("owner/open@v1")) == content_hash(model_folder(str(folder)))
    fetched = {path.rsplit("/", 1)[1] for path in asked if "/resolve/" in path}
    assert fetched == {"config.json", "preprocessor_config.json", "model.safetensors"}


def test_the_preprocessing_needs_no_weights(asked: list[str]) -> None:
    assert encoder_preprocess("huggingface", "owner/open").size == SIDE
    assert not any("safetensors" in path for path in asked)


def test_an_id_is_pinned_to_its_commit_and_a_folder_stays(asked: list[str], folder: Path) -> None:
    assert pinned("owner/open") == pinned("owner/open@v1") == f"owner/open@{COMMIT}"
    assert pinned("owner/gated") == f"owner/gated@{COMMIT}" and model_identity("owner/gated") == pinned("owner/gated")
    assert pinned(str(folder)) == str(folder)


def test_torch_weights_are_fetched_where_there_are_no_safetensors(asked: list[str], folder: Path) -> None:
    import torch
    from safetensors.torch import load_file

    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    assert (model_folder("owner/open") / "pytorch_model.bin").is_file()
    assert load_encoder("huggingface", "owner/open").dim == 32


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ("owner/gated", r"is gated\. Accept its licence at https://huggingface\.co/owner/gated, then set HF_TOKEN"),
        ("owner/absent", "Hugging Face has no model owner/absent that this account may see"),
        ("owner/open@v9", "owner/open has no branch, tag or commit v9"),
    ],
)
def test_what_the_hub_refuses_is_said_with_what_to_do(asked: list[str], weights: str, message: str) -> None:
    with pytest.raises(EncoderError, match=message):
        load_encoder("huggingface", weights)


@pytest.mark.parametrize("place", ["http", "file"])
@pytest.mark.parametrize(
    ("status", "advice"),
    [
        (401, "The token is not valid: set HF_TOKEN"),
        (403, r"accept the licence at https://huggingface\.co/owner/\w+-403; a fine-grained token needs"),
        (429, "wait some minutes"),
        (418, "Try again later"),
        (503, "Try again later"),
    ],
)
def test_the_hubs_own_words_are_repeated_and_are_no_lack_of_a_network(
    asked: list[str], monkeypatch: pytest.MonkeyPatch, place: str, status: int, advice: str
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # the client's own pauses
    with pytest.raises(EncoderError, match=f"HTTP {status} .it says: These are my words.*{advice}") as error:
        load_encoder("huggingface", f"owner/{place}-{status}")
    assert "reached" not in str(error.value) and "\n" not in str(error.value)


def test_a_page_in_the_place_of_the_hub_is_told(asked: list[str]) -> None:
    with pytest.raises(EncoderError, match=r"no answer of Hugging Face.*Check HF_ENDPOINT"):
        load_encoder("huggingface", "owner/portal")


def test_a_repository_without_the_checkpoint_is_named(asked: list[str]) -> None:
    with pytest.raises(EncoderError, match=r"owner/open: the model has no biomedparse_v1\.pt"):
        load_encoder("biomedparse", "owner/open", size=32)


def test_an_id_without_a_network_is_a_readable_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot.cache_clear()
    point("http://127.0.0.1:9", tmp_path, monkeypatch)  # the discard port: nobody listens
    with pytest.raises(EncoderError, match=r"cannot be reached.*hf download owner/open"):
        load_encoder("huggingface", "owner/open")
    with pytest.raises(EncoderError, match=r"cannot be reached.*hf download facebook/dinov3-vitl16"):
        load_encoder("dinov3")


def test_what_is_fetched_is_found_again_without_a_network(
    asked: list[str], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model_folder("owner/open")
    snapshot.cache_clear()
    point("http://127.0.0.1:9", tmp_path / "cache", monkeypatch)
    assert content_hash(model_folder("owner/open")) == content_hash(folder)
    assert pinned("owner/open") == f"owner/open@{COMMIT}"


def test_paths_and_other_weights_are_no_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_id("facebook/dinov3-vitl16-pretrain-lvd1689m@main")
    for weights in ("/a/b", "./a/b", "../b", "a", "a/b/c", "https://a/b", "builtin:phantom-encoder"):
        assert not is_id(weights)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a" / "b").mkdir(parents=True)
    assert not is_id("a/b")
