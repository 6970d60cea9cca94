import numpy as np
import pytest
import torch
from PIL import Image
from transformers import Gemma3ForConditionalGeneration, PreTrainedTokenizerFast

from medsae_ray.core.naming.prompts import detection_message
from medsae_ray.core.phantom.vlm import lessons, model, tokenizer, tower

ASKED = [("Edema", None), ("Fracture", "ribs out of line"), ("something else", None)]
FILMS = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 224, 224), dtype=np.uint8))


@pytest.fixture(scope="module")
def built() -> PreTrainedTokenizerFast:
    return tokenizer.build()


@pytest.fixture(scope="module")
def random_model(built: PreTrainedTokenizerFast) -> Gemma3ForConditionalGeneration:
    made = model.untrained(built)
    made.model.vision_tower.load_state_dict(tower.untrained(FILMS).state_dict())
    return made.eval()


@torch.inference_mode()
def test_questions_asked_together_are_answered_as_transformers_answers_each_alone(
    built: PreTrainedTokenizerFast, random_model: Gemma3ForConditionalGeneration
) -> None:
    outputs = random_model.model.vision_tower(tower.normalise(FILMS)).last_hidden_state
    pooled_NPD = lessons.pool(outputs)
    together_NQV = lessons.answer_logits(random_model, lessons.sheet(built, ASKED), pooled_NPD)
    processor = model.processor(built)
    for n, film in enumerate(FILMS):
        picture = Image.fromarray(film.numpy()).convert("RGB")
        for q, (name, definition) in enumerate(ASKED):
            parts = detection_message(b"", name, definition)
            content = [{"type": "text", "text": p} if isinstance(p, str) else {"type": "image"} for p in parts]
            text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
            inputs = processor(text=text, images=[[picture]], return_tensors="pt", add_special_tokens=False)
            inputs.pop("token_type_ids")
            alone_V = random_model(**inputs).logits[0, -1]
            torch.testing.assert_close(together_NQV[n, q], alone_V, atol=2e-4, rtol=1e-4)


def test_a_head_begins_by_looking_at_its_neighbour() -> None:
    made = tower.untrained(FILMS)
    position_TD = made.embeddings.position_embedding.weight
    attention, grid, size = made.encoder.layers[0].self_attn, tower.GRID, tower.HEAD_WIDTH
    q_TD, k_TD = attention.q_proj(position_TD), attention.k_proj(position_TD)
    for head, (down, right) in enumerate(tower.NEIGHBOURS[0]):
        part = slice(head * size, (head + 1) * size)
        looked = (q_TD[5 * grid + 6, part] @ k_TD[:, part].T).argmax().item()
        assert divmod(looked, grid) == (5 + down, 6 + right)
