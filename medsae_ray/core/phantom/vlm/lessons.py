"""Token sequences to learn from: many questions about one image at once, and names for two groups.

All questions about an image share a prefix (instruction and image). Laid one after another behind it, each numbered
from the prefix's end and blind to the others, they cost one pass and give the same as each alone.

Legend: N images, L tokens, P image tokens, D width of the tower, G images of a group, V entries of the vocabulary.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from transformers import Gemma3ForConditionalGeneration, PreTrainedTokenizerFast

from medsae_ray.core.naming.prompts import Content, detection_message
from medsae_ray.core.phantom.vlm.model import POOLED, WINDOW

IMAGE = b""
"""The placeholder of any image in a message."""
VERDICT, VERDICT_WEIGHT = "shared_in_a", 3
"""The key from which a naming answer is about all images: fewer words than the list of images, but of more weight."""


class Sheet(NamedTuple):
    """The questions about one image: ids_L; positions_L; seen_LL, True where a row attends; asks_Q, answers' starts."""

    ids_L: Tensor
    positions_L: Tensor
    seen_LL: Tensor
    asks_Q: Tensor


def prompt_ids(tokenizer: PreTrainedTokenizerFast, parts: list[Content]) -> list[int]:
    """Return a message's tokens up to the answer, every image as its image tokens (as Gemma3Processor does)."""
    content = [{"type": "text", "text": part} if isinstance(part, str) else {"type": "image"} for part in parts]
    chat: Any = [{"role": "user", "content": content}]
    text = str(tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False))
    image = "\n\n<start_of_image>" + "<image_soft_token>" * POOLED**2 + "<end_of_image>\n\n"
    ids: list[int] = tokenizer(text.replace("<start_of_image>", image), add_special_tokens=False)["input_ids"]
    return ids


def sheet(tokenizer: PreTrainedTokenizerFast, asked: list[tuple[str, str | None]]) -> Sheet:
    """Lay out questions (name, definition or None) about one image."""
    prompts = [prompt_ids(tokenizer, detection_message(IMAGE, *one)) for one in asked]
    shared = prompts[0].index(tokenizer.get_vocab()["<end_of_image>"]) + 2
    tails = [ids[shared:] for ids in prompts]
    owner = torch.tensor([-1] * shared + [q for q, tail in enumerate(tails) for _ in tail])
    order = torch.arange(len(owner))
    seen_LL = (order[None] <= order[:, None]) & ((owner[None] == -1) | (owner[None] == owner[:, None]))
    positions = [*range(shared), *(shared + k for tail in tails for k in range(len(tail)))]
    ends = torch.tensor([len(tail) for tail in tails]).cumsum(0) + shared - 1
    ids = prompts[0][:shared] + [token for tail in tails for token in tail]
    return Sheet(torch.tensor(ids), torch.tensor(positions), seen_LL, ends)


def pool(tokens_NTD: Tensor) -> Tensor:
    """Return means over squares of patches, as in Gemma 3's projector: [N, P, D]."""
    grid = int(tokens_NTD.shape[1] ** 0.5)
    maps = tokens_NTD.transpose(1, 2).unflatten(2, (grid, grid))
    return functional.avg_pool2d(maps, grid // POOLED).flatten(2).transpose(1, 2)


def image_tokens(model: Gemma3ForConditionalGeneration, pooled_NPD: Tensor) -> Tensor:
    """Project pooled outputs of the tower by Gemma 3's projector."""
    projector = model.model.multi_modal_projector
    tokens: Tensor = projector.mm_soft_emb_norm(pooled_NPD) @ projector.mm_input_projection_weight
    return tokens


def embed(model: Gemma3ForConditionalGeneration, ids_NL: Tensor, pooled_NPD: Tensor) -> Tensor:
    """Return embeddings of tokens, the image tokens filled in row by row."""
    text = model.model.language_model.embed_tokens(ids_NL)
    soft = ids_NL == model.config.image_token_id
    embedded: Tensor = text.masked_scatter(soft[..., None], image_tokens(model, pooled_NPD))
    return embedded


def answer_logits(model: Gemma3ForConditionalGeneration, page: Sheet, pooled_NPD: Tensor) -> Tensor:
    """Return logits [N, Q, V] of the first token of every answer."""
    ids_NL = page.ids_L.expand(len(pooled_NPD), -1)
    near_LL = page.positions_L[:, None] - page.positions_L[None] < WINDOW
    hidden = model.model.language_model(
        inputs_embeds=embed(model, ids_NL, pooled_NPD),
        position_ids=page.positions_L[None],
        attention_mask={
            "full_attention": page.seen_LL[None, None],
            "sliding_attention": (page.seen_LL & near_LL)[None, None],
        },
        use_cache=False,
    ).last_hidden_state
    logits: Tensor = model.lm_head(hidden[:, page.asks_Q])
    return logits


def writing_loss(
    model: Gemma3ForConditionalGeneration,
    tokenizer: PreTrainedTokenizerFast,
    parts: list[Content],
    answers: list[str],
    pooled_NPD: Tensor,
) -> Tensor:
    """Return the cross-entropy of answers to messages that differ in their images alone, in the order of answers."""
    prompt = prompt_ids(tokenizer, parts)
    tails = [tokenizer(text, add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id] for text in answers]
    longest = max(len(tail) for tail in tails)
    ids_NL = torch.tensor([prompt + tail + [tokenizer.pad_token_id] * (longest - len(tail)) for tail in tails])
    hidden = model.model.language_model(inputs_embeds=embed(model, ids_NL, pooled_NPD), use_cache=False)
    logits = model.lm_head(hidden.last_hidden_state[:, len(prompt) - 1 : -1])
    goal_NL = ids_NL[:, len(prompt) :]
    loss = functional.cross_entropy(logits.transpose(1, 2), goal_NL, reduction="none")
    verdict = (goal_NL == tokenizer.get_vocab()[VERDICT]).cumsum(1)
    weight = (1 + (VERDICT_WEIGHT - 1) * verdict) * (goal_NL != tokenizer.pad_token_id)
    mean: Tensor = (loss * weight).sum() / weight.sum()
    return mean
