import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from medsae_ray.core.naming import prompts
from medsae_ray.core.phantom.vlm import tokenizer
from medsae_ray.core.phantom.vlm.concepts import CONCEPTS


@pytest.fixture(scope="module")
def built() -> PreTrainedTokenizerFast:
    return tokenizer.build()


def chat(parts: list[prompts.Content]) -> list[dict[str, object]]:
    content = [{"type": "text", "text": part} if isinstance(part, str) else {"type": "image"} for part in parts]
    return [{"role": "user", "content": content}]


@pytest.mark.parametrize("word", ["yes", "no", *(c.name for c in CONCEPTS), *(c.short for c in CONCEPTS)])
def test_an_answer_or_a_concept_is_one_token(built: PreTrainedTokenizerFast, word: str) -> None:
    assert len(built(word, add_special_tokens=False)["input_ids"]) == 1


@settings(max_examples=50, deadline=None)
@given(st.text(st.characters(codec="utf-8"), max_size=40))
def test_any_text_comes_back_from_its_tokens(text: str) -> None:
    built = _once()
    assert built.decode(built(text, add_special_tokens=False)["input_ids"], clean_up_tokenization_spaces=False) == text


def _once(kept: list[PreTrainedTokenizerFast] = []) -> PreTrainedTokenizerFast:  # noqa: B006
    if not kept:
        kept.append(tokenizer.build())
    return kept[0]


def test_the_image_comes_before_the_question_and_the_answer_after_the_model_turn(
    built: PreTrainedTokenizerFast,
) -> None:
    message = chat(prompts.detection_message(b"", "Edema"))
    text = built.apply_chat_template(message, add_generation_prompt=True, tokenize=False)
    places = [text.index(part) for part in (prompts.DETECTION, "<start_of_image>", prompts.question("Edema"))]
    assert places == sorted(places)
    assert text.startswith("<bos><start_of_turn>user\n") and text.endswith("<end_of_turn>\n<start_of_turn>model\n")


def test_several_images_are_numbered_and_one_is_not(built: PreTrainedTokenizerFast) -> None:
    several = built.apply_chat_template(chat(prompts.naming_message([b""] * 2, [b""])), tokenize=False)
    assert "Group A:1<start_of_image>2<start_of_image>Group B:3<start_of_image>" in several
    many = built.apply_chat_template(chat([b""] * 12), tokenize=False)
    assert "9<start_of_image>a<start_of_image>b<start_of_image>c<start_of_image>" in many
    assert "1<start_of_image>" not in built.apply_chat_template(chat([b"", "x"]), tokenize=False)


def test_a_naming_prompt_leaves_room_for_its_answer(built: PreTrainedTokenizerFast) -> None:
    message = chat(prompts.naming_message([b""] * 8, [b""] * 4))
    text = built.apply_chat_template(message, add_generation_prompt=True, tokenize=False)
    assert len(built(text)["input_ids"]) + 12 * 51 < 1024
