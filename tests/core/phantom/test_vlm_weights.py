"""The shipped model: it is small, loads by itself, and says what is planted in people that it was not trained on."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoProcessor, Gemma3ForConditionalGeneration

from medsae_ray.core.analysis.auroc import auroc
from medsae_ray.core.naming.prompts import Content, detection_message
from medsae_ray.core.phantom import patient
from medsae_ray.core.phantom.render import render
from medsae_ray.core.phantom.vlm import model, tokenizer

STUDIES = [study for number in range(60) for study in patient(11, number)[:1]]
Loaded = tuple[Gemma3ForConditionalGeneration, AutoProcessor]


@pytest.fixture(scope="module")
def shipped() -> Loaded:
    folder = model.path()
    loaded = Gemma3ForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    return loaded, AutoProcessor.from_pretrained(folder)


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    return [Image.fromarray(render(study)).convert("RGB") for study in STUDIES]


@torch.inference_mode()
def first_words(shipped: Loaded, pictures: list[Image.Image], parts: list[Content]) -> torch.Tensor:
    """Probabilities [N, V] of the first token of the answers to one message about each picture."""
    loaded, processor = shipped
    content = [{"type": "text", "text": p} if isinstance(p, str) else {"type": "image"} for p in parts]
    text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    images = [[picture] for picture in pictures]
    inputs = processor(text=[text] * len(images), images=images, return_tensors="pt", add_special_tokens=False)
    inputs.pop("token_type_ids")  # trained, and served by vLLM, with images that are read from left to right
    return loaded(**inputs, logits_to_keep=1).logits[:, -1].softmax(-1)


def p_yes(shipped: Loaded, pictures: list[Image.Image], name: str) -> np.ndarray:
    p_NV = first_words(shipped, pictures, detection_message(b"", name))
    no, yes = (shipped[1].tokenizer.convert_tokens_to_ids(word) for word in ("no", "yes"))
    return (p_NV[:, yes] / (p_NV[:, yes] + p_NV[:, no])).numpy()


def test_the_shipped_files_are_small_and_what_the_code_builds(shipped: Loaded) -> None:
    assert sum(file.stat().st_size for file in model.path().iterdir()) < 12e6
    assert shipped[1].tokenizer.get_vocab() == tokenizer.build().get_vocab()
    assert shipped[1].chat_template == tokenizer.CHAT_TEMPLATE


@pytest.mark.parametrize("name", ["Cardiomegaly", "Edema", "Pleural Effusion"])
def test_the_model_sees_what_is_planted(shipped: Loaded, pictures: list[Image.Image], name: str) -> None:
    planted = np.array([study.truth[name] for study in STUDIES])
    assert planted.sum() >= 4
    assert auroc(p_yes(shipped, pictures, name), planted).auc >= 0.8


def test_the_answer_is_yes_or_no(shipped: Loaded, pictures: list[Image.Image]) -> None:
    p_NV = first_words(shipped, pictures[:8], detection_message(b"", "Fracture"))
    ids = shipped[1].tokenizer.convert_tokens_to_ids(["yes", "no"])
    assert p_NV[:, ids].sum(1).min() > 0.99


def test_every_film_is_a_chest_radiograph_and_shows_more_than_a_blank_one(
    shipped: Loaded, pictures: list[Image.Image]
) -> None:
    blank = [Image.new("RGB", (224, 224), (grey,) * 3) for grey in (0, 100, 200)]
    assert p_yes(shipped, pictures[:20], "chest radiograph").min() > 0.5
    assert p_yes(shipped, blank, "Edema").max() < 0.5


def test_pictures_are_read_from_their_bytes_at_any_size(shipped: Loaded, pictures: list[Image.Image]) -> None:
    stream = io.BytesIO()
    pictures[0].resize((448, 448)).save(stream, "PNG")
    large = Image.open(io.BytesIO(stream.getvalue()))
    p = p_yes(shipped, [pictures[0], large], "AP projection")
    assert abs(p[0] - p[1]) < 0.2
