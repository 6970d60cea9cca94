"""Why a name has its verdict: every question that was asked about it, and every image with the model's answer.

Legend: n images of a test.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from medsae_ray.core.browser.data import NameQuestions, Question, SampleImage
from medsae_ray.core.naming.scores import YES, control, folded, score
from medsae_ray.core.report.name_tests import ROLES
from medsae_ray.core.report.text import known

KINDS = {
    "own": "this name",
    "other": "name of another feature",
    "control": "label or listed term",
    "trivial": "true of every image",
}
ERRORS = 12
"""The errors that are shown first."""


class QuestionRow(NamedTuple):
    """A question with its answers: the mean p(yes) of each role, in the order of `ROLES`."""

    name: str
    definition: str | None
    kind: str
    auroc: float
    low: float
    high: float
    mean_of: Sequence[float]
    blank_p: float
    beats: bool
    """True of a control that is as good as the name, either way."""


class Answer(NamedTuple):
    """An image of the test with the answer about the feature's own name."""

    image_id: str
    role: str
    value: float
    p_yes: float | None
    """NaN without an answer, None if nothing was asked."""
    error: float
    """The distance of the answer from the truth, 0 to 1; 1 without an answer."""

    @property
    def active(self) -> bool:
        """True if the feature is active on it."""
        return self.value > 0

    @property
    def wrong(self) -> str | None:
        """The kind of error; None if the answer is right, or nothing was asked."""
        if self.p_yes is None:
            return None
        if not known(self.p_yes):
            return "no answer"
        if (self.p_yes >= YES) == self.active:
            return None
        return "missed" if self.active else "false alarm"


class RoleAnswers(NamedTuple):
    """The images of one role, the largest errors first."""

    name: str
    answers: Sequence[Answer]


class Evidence(NamedTuple):
    """All questions about one name, and the answers about itself."""

    roles: Sequence[str]
    questions: Sequence[QuestionRow]
    errors: Sequence[Answer]
    """The largest errors."""
    wrong: int
    """The number of wrong answers."""
    by_role: Sequence[RoleAnswers]

    @property
    def images(self) -> int:
        """The number of images."""
        return sum(len(role.answers) for role in self.by_role)


def evidence(asked: NameQuestions) -> Evidence:
    """Return the evidence of a name's test."""
    y_n = np.array([float(image.value > 0) for image in asked.images])
    roles = [role for role in ROLES if any(image.role == role for image in asked.images)]
    role_n = np.array([image.role for image in asked.images])
    own = score(asked.questions[0].p_n, y_n).area.auc
    rows = [_row(question, y_n, [role_n == role for role in roles], own) for question in asked.questions]
    answers = [_answer(image, p) for image, p in zip(asked.images, asked.questions[0].p_n, strict=True)]
    ordered = sorted(answers, key=lambda answer: (-answer.error, answer.image_id))
    wrong = [answer for answer in ordered if answer.wrong]
    by_role = [RoleAnswers(ROLES[role], [a for a in ordered if a.role == role]) for role in roles]
    return Evidence([ROLES[role] for role in roles], rows, wrong[:ERRORS], len(wrong), by_role)


def unasked(images: Sequence[SampleImage]) -> list[RoleAnswers]:
    """Return images by role where no question was asked, the strongest activation first."""
    answers = [Answer(image.image_id, image.role, image.value, None, 0.0) for image in images]
    ordered = sorted(answers, key=lambda answer: (-answer.value, answer.image_id))
    return [RoleAnswers(ROLES[role], found) for role in ROLES if (found := [a for a in ordered if a.role == role])]


def _row(question: Question, y_n: np.ndarray, of_role: Sequence[np.ndarray], own: float) -> QuestionRow:
    p_n = np.array(question.p_n, dtype=np.float64)
    area = (score if question.kind == "own" else control)(p_n, y_n).area
    return QuestionRow(
        name=question.concept.name,
        definition=question.concept.definition,
        kind=KINDS[question.kind],
        auroc=area.auc,
        low=area.low,
        high=area.high,
        mean_of=[_mean(p_n[chosen_n]) for chosen_n in of_role],
        blank_p=question.blank_p,
        beats=question.kind != "own" and bool(folded(area.auc) >= own),
    )


def _mean(p_n: np.ndarray) -> float:
    answered = p_n[~np.isnan(p_n)]
    return float(answered.mean()) if len(answered) else math.nan


def _answer(image: SampleImage, p_yes: float) -> Answer:
    truth = 1.0 if image.value > 0 else 0.0
    return Answer(image.image_id, image.role, image.value, p_yes, abs(truth - p_yes) if known(p_yes) else 1.0)


def verdict_line(score_row: dict[str, Any], verdict: str | None) -> str:
    """Return the reason of a verdict as the end of a sentence."""
    if verdict == "verified":
        return "it predicts the feature's activity better than each of its controls"
    return str(score_row.get("reason") or "")
