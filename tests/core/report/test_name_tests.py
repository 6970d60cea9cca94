import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medsae_ray.core.naming.scores import score
from medsae_ray.core.report import name_tests
from medsae_ray.core.report.data import Answers
from medsae_ray.core.report.name_tests import read_evidence, roc_points
from tests.core.report.named import naming, reply

answer = st.one_of(st.just(math.nan), st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.floats(0, 1))


@given(st.lists(st.tuples(answer, st.integers(0, 1)), max_size=40))
def test_the_area_under_the_curve_is_the_auroc_of_the_score(pairs):
    p_yes, y = [p for p, _ in pairs], [label for _, label in pairs]
    points = roc_points(Answers(p_yes, y, ["equal"] * len(y)))
    if not 0 < sum(y) < len(y):
        assert points == []
        return
    x, hits = np.array(points).T
    assert points[0] == (0, 0) and points[-1] == (1, 1)
    assert np.trapezoid(hits, x) == pytest.approx(score(p_yes, y).area.auc)


def test_roles_stand_in_order_of_activation_and_unknown_ones_last():
    roles = name_tests.roles(Answers([0.1, 0.2, 0.3, 0.4], [0, 1, 1, 0], ["odd", "bin0", "bin4", "hard"]))
    assert [role.name for role in roles] == ["strongest fifth", "weakest fifth", "inactive, look-alike", "odd"]
    assert [role.active for role in roles] == [True, True, False, False]


def test_a_reply_is_read_as_its_lists():
    found = read_evidence(reply(0))
    assert len(found.per_image) == 8 and found.absent_in_b == ["no blunted costophrenic angle"] and found.lists


@pytest.mark.parametrize(
    "text", ["", "[]", "null", "r = 0.4", "{", "[" * 100_000, '{"per_image": 3, "shared_in_a": [1]}']
)
def test_what_is_no_reply_has_no_lists(text):
    assert not read_evidence(text).lists


def test_evidence_can_always_be_written_down():
    """JSON may hold half of a surrogate pair, which no encoding takes, and characters that turn text around."""
    found = read_evidence(json.dumps({"per_image": ["a \ud800 b", "c \u202e d"], "shared_in_a": ["\x00"]}))
    assert found.per_image == ["a b", "c d"]
    assert all(line.encode() is not None for line in (*found.per_image, *found.shared_in_a))


def test_long_evidence_is_cut():
    assert len(read_evidence("x" * 10_000).text) == name_tests.LONGEST_EVIDENCE


def test_each_feature_has_the_models_name_before_the_labels():
    tests = name_tests.tests_of(naming([0, 1, 2, 5]), {0, 5, 99})
    assert {feature: [t.row["source"] for t in found] for feature, found in tests.items()} == {
        0: ["vlm", "label"],
        5: ["vlm", "label"],
        99: [],
    }
    tested, abstained = tests[0][0], tests[5][0]
    assert tested.tested and tested.roc and tested.strip and tested.controls
    assert abstained.verdict == "abstained" and not abstained.tested and not abstained.roc
