import math

import numpy as np
import pytest

from medsae_ray.core.browser.data import NameQuestions, Question, SampleImage
from medsae_ray.core.browser.evidence import evidence, unasked
from medsae_ray.core.naming.plan import TRIVIAL, Concept

IMAGES = [
    SampleImage("a", "bin4", 9.0),
    SampleImage("b", "bin0", 1.0),
    SampleImage("c", "hard", 0.0),
    SampleImage("d", "equal", 0.0),
]


def asked(*p_of: tuple[str, list[float]]) -> NameQuestions:
    return NameQuestions(IMAGES, [Question(Concept(f"name {i}"), kind, p, 0.2) for i, (kind, p) in enumerate(p_of)])


def test_errors_come_first_and_a_missing_answer_is_the_largest() -> None:
    found = evidence(asked(("own", [0.9, 0.2, 0.7, math.nan])))
    assert [(a.image_id, a.wrong) for a in found.errors] == [("d", "no answer"), ("b", "missed"), ("c", "false alarm")]
    assert found.wrong == 3 and found.images == 4
    assert [role.name for role in found.by_role] == [
        "strongest fifth", "weakest fifth", "inactive, as strong", "inactive, look-alike"]  # fmt: skip


def test_each_question_has_its_mean_by_role_and_its_auroc() -> None:
    own, other = evidence(asked(("own", [0.9, 0.8, 0.1, 0.3]), ("other", [0.1, 0.2, 0.7, math.nan]))).questions
    assert own.auroc == 1 and own.mean_of == pytest.approx([0.9, 0.8, 0.3, 0.1]) and not own.beats
    assert other.auroc == 0 and math.isnan(other.mean_of[2]) and other.blank_p == 0.2
    assert other.beats, "a control that points the wrong way is as good"


def test_a_control_below_the_name_does_not_beat_it() -> None:
    rows = evidence(asked(("own", [0.9, 0.8, 0.1, 0.3]), ("control", [0.6, 0.2, 0.4, 0.3]))).questions
    assert rows[1].auroc == 0.5 and not rows[1].beats
    trivial = NameQuestions(IMAGES, [*asked(("own", [1, 1, 0, 0])).questions, Question(TRIVIAL, "trivial", np.ones(4))])
    assert not evidence(trivial).questions[1].beats


def test_without_questions_images_stand_by_strength() -> None:
    found = unasked([SampleImage("a", "bin4", 2.0), SampleImage("b", "bin4", 3.0), SampleImage("c", "bin0", 1.0)])
    assert [[a.image_id for a in role.answers] for role in found] == [["b", "a"], ["c"]]
    assert all(answer.wrong is None for role in found for answer in role.answers)
