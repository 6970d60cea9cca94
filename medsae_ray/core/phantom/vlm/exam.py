"""An examination of the model on films that it has not seen: detection, naming, abstention.

Legend: N films, P image tokens, D width of the tower, K concepts, G groups, L tokens.
"""

import json
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import Gemma3ForConditionalGeneration, PreTrainedTokenizerFast

from medsae_ray.core.analysis.auroc import auroc
from medsae_ray.core.naming.prompts import Content, naming_message
from medsae_ray.core.phantom.vlm.concepts import CONCEPTS, NAMES
from medsae_ray.core.phantom.vlm.lessons import IMAGE, answer_logits, embed, prompt_ids, sheet
from medsae_ray.core.phantom.vlm.tasks import SHARED, SPARED, FilmGroups, naming_answer, planted, unrelated
from medsae_ray.core.phantom.vlm.teacher import Cards


class ExamMarks(NamedTuple):
    """The marks over groups: shares of valid JSON, and of best and of true names where A shares a concept.

    A true name is shared by 60 % of A or more and shown by 25 % of B or fewer. `abstained` is the share of abstentions
    where A shares none beyond chance.
    """

    valid: float
    best: float
    true: float
    abstained: float
    groups: int


@torch.inference_mode()
def detection(
    model: Gemma3ForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, held: Cards, defined: bool = False
) -> dict[str, float]:
    """Return AUROC of P(yes) against P(no) for each concept, asked by its name, or by name and definition."""
    page = sheet(tokenizer, [(c.name, c.definition if defined else None) for c in CONCEPTS])
    no, yes = (tokenizer.convert_tokens_to_ids(word) for word in ("no", "yes"))
    shown = held.y_NK.any(1)
    y_NK = held.y_NK[shown].float().numpy()
    logits = torch.cat([answer_logits(model, page, part.float()) for part in held.t_NPD[shown].split(32)])
    score_NK = (logits[..., yes] - logits[..., no]).numpy()
    return {name: auroc(score_NK[:, k], y_NK[:, k]).auc for k, name in enumerate(NAMES)}


@torch.inference_mode()
def write(
    model: Gemma3ForConditionalGeneration,
    tokenizer: PreTrainedTokenizerFast,
    parts: list[Content],
    pooled_NPD: Tensor,
    answers: int,
    longest: int = 320,
) -> list[str]:
    """Write by greedy unconstrained decoding, for several messages that differ in their images alone."""
    ids = torch.tensor(prompt_ids(tokenizer, parts)).expand(answers, -1)
    language = model.model.language_model
    out = language(inputs_embeds=embed(model, ids, pooled_NPD), use_cache=True)
    texts_GL, done = [], torch.zeros(answers, dtype=torch.bool)
    for _ in range(longest):
        token = model.lm_head(out.last_hidden_state[:, -1]).argmax(-1)
        texts_GL.append(token)
        done |= token == tokenizer.eos_token_id
        if done.all():
            break
        out = language(input_ids=token[:, None], past_key_values=out.past_key_values, use_cache=True)
    ids_GL = torch.stack(texts_GL, 1).tolist()
    return [str(tokenizer.decode(row)).split(tokenizer.eos_token)[0] for row in ids_GL]


def naming(
    model: Gemma3ForConditionalGeneration,
    tokenizer: PreTrainedTokenizerFast,
    held: Cards,
    p_K: NDArray[np.float64],
    groups: int = 96,
    least: float = 0.75,
) -> ExamMarks:
    """Examine naming: half of the groups share the name (at least `least` of A, so 6 of 8), half are unrelated."""
    rng = np.random.default_rng(1)
    truth_NK = held.y_NK[held.y_NK.any(1)].numpy()
    asked: list[FilmGroups] = []
    right: list[str] = []
    while len(asked) < groups:
        drawn = (planted if len(asked) % 2 else unrelated)(truth_NK, rng)
        answer = naming_answer(truth_NK[drawn.rows_A], truth_NK[drawn.rows_B], p_K)
        share = truth_NK[drawn.rows_A].mean(0)[NAMES.index(str(answer["name"]))] if answer["name"] else 0.0
        if share >= least if len(asked) % 2 else answer["abstain"]:
            asked.append(drawn)
            right.append(str(answer["name"]))
    given = [_name(text) for text in _answers(model, tokenizer, held, asked)]
    sharing = [k for k in range(groups) if right[k]]
    return ExamMarks(
        valid=float(np.mean([one is not None for one in given])),
        best=float(np.mean([given[k] == right[k] for k in sharing])),
        true=float(np.mean([_holds(given[k], asked[k], truth_NK) for k in sharing])),
        abstained=float(np.mean([given[k] == "" for k in range(groups) if not right[k]])),
        groups=groups,
    )


def _holds(name: str | None, drawn: FilmGroups, truth_NK: NDArray[np.bool_]) -> bool:
    """Return True if most of A and few of B show the name's concept."""
    if name not in NAMES:
        return False
    shown_N = truth_NK[:, NAMES.index(name)]
    return bool(shown_N[drawn.rows_A].mean() >= SHARED and shown_N[drawn.rows_B].mean() <= SPARED)


def _answers(
    model: Gemma3ForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, held: Cards, asked: list[FilmGroups]
) -> list[str]:
    parts, texts = naming_message([IMAGE] * 8, [IMAGE] * 4), []
    for start in range(0, len(asked), 16):
        some = asked[start : start + 16]
        rows = torch.from_numpy(np.concatenate([np.concatenate(one) for one in some]))
        texts += write(model, tokenizer, parts, held.t_NPD[rows].float(), len(some))
    return texts


def _name(text: str) -> str | None:
    """Return the name in an answer, "" for an abstention, None if it is not JSON with a name."""
    try:
        return str(json.loads(text)["name"])
    except (ValueError, KeyError, TypeError):
        return None
