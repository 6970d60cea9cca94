"""Lessons for the language model, drawn at random from a frozen tower's outputs.

Legend: N films, P image tokens of a film, D width of the tower, K concepts, Q questions, A and B images of two groups.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from transformers import Gemma3ForConditionalGeneration, PreTrainedTokenizerFast, SiglipVisionModel

from medsae_ray.core.naming.prompts import Content, detection_message, naming_message
from medsae_ray.core.phantom.vlm.concepts import CONCEPTS, CONTROL, NAMES
from medsae_ray.core.phantom.vlm.films import Films
from medsae_ray.core.phantom.vlm.lessons import IMAGE, answer_logits, pool, sheet, writing_loss
from medsae_ray.core.phantom.vlm.model import SIDE
from medsae_ray.core.phantom.vlm.tasks import DESCRIBE, description, naming_answer, planted, unrelated, written
from medsae_ray.core.phantom.vlm.tower import normalise

UNRELATED, BLANK = 0.3, 0.06
"""The share of groups drawn at random, most of which demand abstention; the share of questions about blank images."""
SHOWN_WEIGHT = 2.0
"""The weight of a concept that is present: most are rare, and "no" would be the safe answer."""


class Cards(NamedTuple):
    """The language model's view of films: t_NPD float16, the tower's pooled outputs; y_NK bool, their concepts."""

    t_NPD: Tensor
    y_NK: Tensor


@torch.inference_mode()
def cards(tower: SiglipVisionModel, films: Films) -> Cards:
    """Return the tower's outputs for films; after them uniform images of every sixth grey level, without a concept."""
    blank = torch.arange(0, 256, 6, dtype=torch.uint8)[:, None, None].expand(-1, SIDE, SIDE)
    x_NSS = torch.cat([films.x_NSS, blank])
    t_NPD = torch.cat([pool(tower(normalise(x)).last_hidden_state).half() for x in x_NSS.split(64)])
    y_NK = torch.cat([films.y_NK, torch.zeros(len(blank), films.y_NK.shape[1], dtype=torch.bool)])
    return Cards(t_NPD, y_NK)


class Teacher:
    """A source of lessons and their loss."""

    def __init__(self, model: Gemma3ForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, shown: Cards) -> None:
        self.model, self.tokenizer, self.cards = model, tokenizer, shown
        self.rng = np.random.default_rng(0)
        self.films = shown.y_NK.any(1).nonzero()[:, 0].numpy()  # all but the blank ones, which are last
        self.truth_NK = shown.y_NK.numpy()[: len(self.films)]
        self.p_K = self.truth_NK.mean(0)
        self.no_yes = torch.tensor([tokenizer.convert_tokens_to_ids(word) for word in ("no", "yes")])

    def lesson(self, step: int, share: float) -> Tensor:
        """Return the loss of one lesson: single images, then small groups, then large; `share` of all is done."""
        single = (self.questions, self.questions, self.descriptions, self.questions, self.stops)
        several = (self.small, self.questions, self.small, self.some, self.descriptions)
        many = (self.names, self.some, self.names, self.names, self.questions)
        return (single if share < 0.15 else several if share < 0.45 else many)[step % 5]()

    def questions(self, images: int = 16, asked: int = 14) -> Tensor:
        """Teach yes or no: the same questions about several images, half of them with the definition."""
        rows = torch.from_numpy(self.rng.integers(len(self.films), size=images))
        rows[self.rng.random(images) < BLANK] = int(self.rng.integers(len(self.films), len(self.cards.y_NK)))
        some = self.rng.permutation(len(CONCEPTS) + 1)[:asked]
        concepts = [(*CONCEPTS, CONTROL)[k] for k in some]
        page = sheet(self.tokenizer, [(c.name, c.definition if self.rng.random() < 0.5 else None) for c in concepts])
        y_NK = self.cards.y_NK[rows]
        shown_NQ = torch.cat([y_NK, y_NK.any(1, keepdim=True)], 1)[:, torch.from_numpy(some)].long()
        logits_NQV = answer_logits(self.model, page, self.cards.t_NPD[rows].float())
        loss = functional.cross_entropy(logits_NQV.flatten(0, 1), self.no_yes[shown_NQ].flatten(), reduction="none")
        weight = torch.tensor([1.0, SHOWN_WEIGHT])[shown_NQ].flatten()
        return (loss * weight).sum() / weight.sum()

    def stops(self, images: int = 8) -> Tensor:
        """Teach the end of the answer: one question an image."""
        concept = CONCEPTS[int(self.rng.integers(len(CONCEPTS)))]
        rows = torch.from_numpy(self.rng.choice(self.films, images))
        shown = self.cards.y_NK[rows][:, NAMES.index(concept.name)]
        return self._write(detection_message(IMAGE, concept.name), ["yes" if one else "no" for one in shown], rows)

    def descriptions(self, images: int = 16) -> Tensor:
        """Teach to describe single images."""
        rows = torch.from_numpy(self.rng.choice(self.films, images))
        return self._write([IMAGE, DESCRIBE], [description(self.truth_NK[row]) for row in rows], rows)

    def small(self) -> Tensor:
        """Teach groups so small that every image counts, which separates A from B."""
        return self.names(8, int(self.rng.integers(2, 5)), 1)

    def some(self) -> Tensor:
        """Teach groups of any usual size."""
        return self.names(4, int(self.rng.integers(4, 9)), int(self.rng.integers(2, 5)))

    def names(self, groups: int = 4, n_a: int = 8, n_b: int = 4) -> Tensor:
        """Teach several pairs of groups of the same sizes, some unrelated."""
        rows, answers = [], []
        for _ in range(groups):
            draw = unrelated if self.rng.random() < UNRELATED else planted
            drawn = draw(self.truth_NK, self.rng, n_a, n_b)
            rows.append(np.concatenate(drawn))
            answers.append(written(naming_answer(self.truth_NK[drawn.rows_A], self.truth_NK[drawn.rows_B], self.p_K)))
        return self._write(
            naming_message([IMAGE] * n_a, [IMAGE] * n_b), answers, torch.from_numpy(np.concatenate(rows))
        )

    def _write(self, parts: list[Content], answers: list[str], rows: Tensor) -> Tensor:
        return writing_loss(self.model, self.tokenizer, parts, answers, self.cards.t_NPD[rows].float())
