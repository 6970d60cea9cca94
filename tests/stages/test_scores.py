"""One name with its controls: on all of its images, and against the look-alikes alone."""

from typing import Any

import numpy as np
import pytest

from medsae_ray.core.analysis.auroc import Auroc
from medsae_ray.core.naming.pictures import BLANK
from medsae_ray.core.naming.plan import TRIVIAL, Concept
from medsae_ray.core.naming.scores import Ceiling, ceilings
from medsae_ray.stages import scores
from medsae_ray.stages.scores import NONE, Bench

ROLES = ["bin0"] * 10 + ["bin4"] * 10 + ["equal"] * 8 + ["hard"] * 6 + ["matched"] * 6
OWN, OTHER = Concept("effusion"), Concept("edema", "haze")


def bench(p_of: dict[Concept, list[float]]) -> Bench:
    rows: list[dict[str, Any]] = [
        {"image_id": f"i{n}", "role": role, "value": float(role.startswith("bin"))} for n, role in enumerate(ROLES)
    ]
    found = {
        (row["image_id"], concept): (p, 1.0) for concept, ps in p_of.items() for row, p in zip(rows, ps, strict=True)
    }
    labels = {row["image_id"]: np.zeros(0) for row in rows}
    return Bench({0: rows}, found | {(BLANK, OWN): NONE}, labels, {}, [], {}, seed=0, nulls=1)


def area(positive: list[float], negative: list[float]) -> float:
    return float(np.mean([(p > n) + (p == n) / 2 for p in positive for n in negative]))


def test_look_alikes_are_scored_apart_from_random_and_matched_negatives() -> None:
    rng = np.random.default_rng(0)
    own, other = rng.random(40).tolist(), rng.random(40).tolist()
    trial = scores.tested(bench({OWN: own, OTHER: other, TRIVIAL: [0.9] * 40}), 0, {0: OWN, 1: OTHER}, turned=False)
    assert trial.score.area.auc == pytest.approx(area(own[:20], own[20:]))
    assert trial.hard == pytest.approx(area(own[:20], own[28:34]))
    assert trial.nulls_hard == pytest.approx((area(other[:20], other[28:34]),))


def test_a_failed_answer_counts_against_a_name_and_not_for_or_against_a_control() -> None:
    p = [0.8] * 20 + [0.1] * 8 + [0.2] * 6 + [0.1] * 6
    lost = [*p[:28], *[float("nan")] * 3, *p[31:]]
    trial = scores.tested(bench({OWN: lost, OTHER: lost, TRIVIAL: [0.9] * 40}), 0, {0: OWN, 1: OTHER}, turned=False)
    assert trial.hard == pytest.approx(0.5) and trial.nulls_hard == pytest.approx((1.0,))


def test_a_name_of_absence_is_scored_by_the_answers_about_the_label_turned() -> None:
    own = [0.2] * 19 + [float("nan")] + [0.9] * 20
    trial = scores.tested(bench({OWN: own, OTHER: own, TRIVIAL: [0.9] * 40}), 0, {0: OWN, 1: OTHER}, turned=True)
    assert trial.name == "no effusion" and trial.score.area.auc == pytest.approx(0.95) and trial.score.failed == 1


def ceiling(auc: float, seen: bool | None) -> Ceiling:
    return Ceiling(Auroc(auc, auc - 0.05, auc + 0.05, 50, 50), seen)


@pytest.mark.parametrize(
    ("ceilings", "name", "controls", "said"),
    [
        ({"edema": ceiling(0.9, True), "viral": ceiling(0.56, False)}, "edema", 8, None),
        ({"edema": ceiling(0.9, True), "viral": ceiling(0.56, False)}, "PORTABLE marker", 8, None),
        (
            {"edema": ceiling(0.9, True), "viral": ceiling(0.56, False)},
            "viral pneumonia",
            8,
            "'viral' from its absence",
        ),
        ({"edema": ceiling(0.3, False), "viral": ceiling(0.56, False)}, "PORTABLE marker", 8, "cannot see this data"),
        ({"edema": ceiling(0.9, True)}, "edema", 4, "only 4 controls"),
        ({}, "edema", 8, None),
        ({"edema": ceiling(float("nan"), None)}, "edema", 8, None),
    ],
)
def test_nothing_is_said_of_a_name_that_the_model_cannot_see(ceilings, name, controls, said) -> None:
    doubt = Bench({}, {}, {}, {}, list(ceilings), ceilings, seed=0, nulls=3).doubt(name, controls)
    assert doubt is None if said is None else said in str(doubt)


def test_what_a_model_sees_is_corrected_for_the_number_of_labels() -> None:
    """Of 40 labels that the model does not see one or two have an interval above 0.5; none is taken for seen."""
    rng = np.random.default_rng(0)
    labels = [f"l{n}" for n in range(40)]
    truth = {label: rng.integers(0, 2, 200).astype(float) for label in labels}
    found = ceilings({label: rng.random(200) for label in labels}, truth)
    assert any(one.area.low > 0.5 for one in found.values()) and scores.sight(found) == "blind"
    assert scores.sight(found | ceilings({"x": truth["l0"]}, {"x": truth["l0"]})) == "seen"
    assert scores.sight(ceilings({"x": [0.1, 0.2]}, {"x": [1, 1]})) == scores.sight({}) == "unknown"
