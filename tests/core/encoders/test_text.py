"""MedCLIP's text half against its formulas in float64, next to an image half in one checkpoint."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from medsae_ray.core.encoders import load_encoder
from medsae_ray.core.encoders.medclip import SwinGeometry, build_vit, save_vit
from medsae_ray.core.encoders.text import BertGeometry, build_text, load_text_encoder
from medsae_ray.errors import EncoderError
from tests.core.encoders.small_models import stirred
from tests.support.released import text_state

WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "pleural",
    "effusion",
    "small",
    "left",
    "no",
    "##s",
    "pneumothorax",
]
SMALL = BertGeometry(vocab_size=12, hidden_size=16, layers=4, heads=2, intermediate_size=24, projection=12)
IMAGE = SwinGeometry(image_size=32, embed_dim=8, depths=(2, 2), num_heads=(1, 2), window_size=4, projection=12)
TEXTS = ["small left pleural effusion", "no pneumothorax", "effusions", "no pleural effusions"]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> str:
    from transformers import BertTokenizer

    folder = tmp_path_factory.mktemp("words")
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both halves in one file, in the released layout, with what a release has beside them."""
    folder = tmp_path_factory.mktemp("medclip")
    torch.manual_seed(0)
    save_vit(stirred(build_vit(IMAGE)), IMAGE, folder / "image.safetensors")
    state, header = text_state(stirred(build_text(SMALL)), SMALL)
    state |= {f"vision_model.{key}": value for key, value in load_file(folder / "image.safetensors").items()}
    state |= {"logit_scale": torch.tensor(2.6), "text_model.model.pooler.dense.weight": torch.zeros(16, 16)}
    state |= {"text_model.model.embeddings.position_ids": torch.arange(512)[None]}
    import json

    from medsae_ray.core.encoders.checkpoint import read_metadata

    swin = read_metadata(folder / "image.safetensors", "swin")
    save_file(state, folder / "medclip.safetensors", metadata=header | {"swin": json.dumps(swin)})
    return folder / "medclip.safetensors"


def reference(checkpoint: Path, tokenizer: str, text: str) -> np.ndarray:
    """The reference code's arithmetic for one text, where nothing is padded."""
    from transformers import AutoTokenizer

    tower = build_text(SMALL).double().eval()
    state = load_file(checkpoint)
    tower.load_state_dict({key: state[f"text_model.{key}"].double() for key in tower.state_dict()})
    ids = AutoTokenizer.from_pretrained(tokenizer)([text], return_tensors="pt")["input_ids"]
    with torch.no_grad():
        layers = tower.model(ids, output_hidden_states=True).hidden_states
        pooled = torch.stack([layers[1], layers[2], layers[-1]]).permute(1, 0, 2, 3).mean(2).mean(1)
        x_1D = pooled @ state["text_model.projection_head.weight"].double().T
        return (x_1D / x_1D.norm(dim=-1, keepdim=True))[0].numpy()


def test_a_text_is_embedded_as_the_reference_does_it_alone(checkpoint: Path, tokenizer: str) -> None:
    encoder = load_text_encoder("medclip-vit", str(checkpoint), tokenizer=tokenizer)
    x_ND = encoder.encode(TEXTS)
    assert encoder.dim == 12 and x_ND.dtype == np.float32
    wanted = np.stack([reference(checkpoint, tokenizer, text) for text in TEXTS])
    np.testing.assert_allclose(x_ND, wanted, rtol=1e-5, atol=1e-6)
    assert np.abs(wanted - wanted[0]).max(1)[1:].min() > 1e-2


def test_a_text_does_not_depend_on_its_batch(checkpoint: Path, tokenizer: str) -> None:
    encoder = load_text_encoder("medclip-vit", str(checkpoint), tokenizer=tokenizer)
    together = encoder.encode(TEXTS)
    np.testing.assert_allclose(encoder.encode(TEXTS, batch_size=1), together, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(encoder.encode(TEXTS[::-1])[::-1], together, rtol=1e-5, atol=1e-6)
    assert encoder.encode([]).shape == (0, 12)
    assert np.isfinite(encoder.encode(["no " * 200])).all()


def test_one_file_makes_both_halves(checkpoint: Path, tokenizer: str) -> None:
    image = load_encoder("medclip-vit", str(checkpoint))
    assert image.dim == load_text_encoder("medclip-vit", str(checkpoint), tokenizer=tokenizer).dim


def test_what_does_not_fit_is_described(checkpoint: Path, tokenizer: str, tmp_path: Path) -> None:
    state, header = text_state(build_text(SMALL), SMALL)
    state["text_model.spare"] = state.pop("text_model.projection_head.weight")
    save_file(state, tmp_path / "wrong.safetensors", metadata=header)
    with pytest.raises(EncoderError, match=r"1 missing: projection_head\.weight; 1 unexpected: spare"):
        load_text_encoder("medclip-vit", str(tmp_path / "wrong.safetensors"), tokenizer=tokenizer)
    with pytest.raises(EncoderError, match="no text half"):
        load_text_encoder("medclip-vit", str(checkpoint.with_name("image.safetensors")), tokenizer=tokenizer)
    with pytest.raises(EncoderError, match="has no text half; those that have"):
        load_text_encoder("onnx", str(checkpoint), tokenizer=tokenizer)


def test_a_tokenizer_that_is_missing_or_of_another_model_is_refused(
    checkpoint: Path, tokenizer: str, tmp_path: Path
) -> None:
    with pytest.raises(EncoderError, match="cannot be loaded"):
        load_text_encoder("medclip-vit", str(checkpoint), tokenizer=str(tmp_path))
    from transformers import BertTokenizer

    (tmp_path / "vocab.txt").write_text("\n".join([*WORDS, "more"]))
    BertTokenizer(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path)
    with pytest.raises(EncoderError, match="has 13 words, the tower 12"):
        load_text_encoder("medclip-vit", str(checkpoint), tokenizer=str(tmp_path))


def test_the_default_geometry_is_that_of_the_release() -> None:
    with torch.device("meta"):
        shapes = {key: tuple(value.shape) for key, value in build_text(BertGeometry()).state_dict().items()}
    assert shapes["model.embeddings.word_embeddings.weight"] == (28996, 768)
    assert shapes["model.encoder.layer.11.intermediate.dense.weight"] == (3072, 768)
    assert shapes["projection_head.weight"] == (512, 768) and "projection_head.bias" not in shapes
