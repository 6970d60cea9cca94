"""Nearest rows by fingerprint: SAIL's own numbers, a plain search beside ours, and what has no answer."""

import json
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import sparse

from medsae_ray.metrics import neighbours
from tests.support.shared import SHARED

SAIL = SHARED / "data" / "sail"
Z = np.array([[2.0, 1, 0, 1], [4, 2, 0, 1], [1, 2, 0, 1], [0, 0, 3, 1], [2, 0.9, 0, 1]], dtype=np.float32)
GROUPS = ["a", "b", "c", "d", "a"]


def plainly(z: np.ndarray, row: int, k: int, group: np.ndarray, n: int) -> list[float]:
    """The similarities by their definition, image by image."""
    allowed = np.flatnonzero(~(z > 0).all(0))
    chosen = sorted(allowed, key=lambda f: (-z[row, f], f))[:k]
    best: dict[Any, float] = {}
    for other in range(len(z)):
        a, b = z[row, chosen].astype(float), z[other, chosen].astype(float)
        norms = np.linalg.norm(a) * np.linalg.norm(b)
        value = 1 / (1 + abs(a[0] - b[0])) if k == 1 else (a @ b / norms if norms else 0.0)
        if group[other] != group[row]:
            best[group[other]] = max(best.get(group[other], -np.inf), value)
    return sorted(best.values(), reverse=True)[:n]


@pytest.mark.skipif(not SAIL.is_dir(), reason="the shared folder data/sail is not beside the project")
def test_sails_own_neighbours() -> None:
    codes = pq.read_table(SAIL / "codes_top5.parquet")
    row, feature, value = (codes[name].to_numpy() for name in ("row", "feature", "activation"))
    z = sparse.csr_array((value, (row, feature)), shape=(995, 8192))
    slices = pq.read_table(SAIL / "slices.parquet")
    volumes = slices["image_id"].to_pylist()
    expected = json.loads((SAIL / "expected.json").read_text())["biomedparse"]["retrieval"]
    assert expected
    for query, known in expected.items():
        found, similarity = neighbours(z, int(query), len(known["features"]), volumes)
        np.testing.assert_allclose(similarity, known["similarity"], atol=1e-5)
        assert len({volumes[r] for r in found} | {volumes[int(query)]}) == 1 + len(found)
        dense = neighbours(z.toarray(), int(query), len(known["features"]), volumes)
        np.testing.assert_array_equal(dense.rows, found)


@pytest.mark.skipif(not SAIL.is_dir(), reason="the shared folder data/sail is not beside the project")
def test_labels_agree_more_often_than_by_chance_and_about_as_often_as_sail_found() -> None:
    """SAIL's figures are of its whole codes, of which these are the five strongest of each slice."""
    codes, slices = (pq.read_table(SAIL / f"{name}.parquet") for name in ("codes_top5", "slices"))
    row, feature, value = (codes[name].to_numpy() for name in ("row", "feature", "activation"))
    z = sparse.csr_array((value, (row, feature)), shape=(995, 8192))
    groups = slices["image_id"].to_pylist()
    known = json.loads((SAIL / "expected.json").read_text())["retrieval_labels"]
    found = [neighbours(z, query, 5, groups).rows for query in range(0, 995, 5)]
    for label in ("plane", "modality", "sex"):
        values = slices[label].to_numpy(zero_copy_only=False)
        agreed = np.mean([(values[rows] == values[5 * i]).mean() for i, rows in enumerate(found)])
        assert agreed == pytest.approx(known["biomedparse/sparse"][label], abs=0.05), label
        assert known["chance"][label] - 0.05 < agreed


activations = st.integers(2, 24).flatmap(
    lambda rows: st.tuples(
        arrays(np.float32, (rows, 6), elements=st.sampled_from([0, 0, 0, 0.25, 0.5, 1, 1.5, 3])),
        arrays(np.int64, rows, elements=st.integers(0, 6)),
        st.integers(0, rows - 1),
        st.integers(1, 5),
        st.integers(1, 5),
    )
)


@settings(deadline=None)
@given(activations)
def test_they_are_those_of_a_plain_search(made: tuple[np.ndarray, np.ndarray, int, int, int]) -> None:
    z, group, row, k, n = made
    found = neighbours(sparse.csr_array(z), row, k, group, n)
    active = ((z[row] > 0) & ~(z > 0).all(0)).sum()
    if not active or (group == group[row]).all():
        assert found.reason and not len(found.rows) and not len(found.cosines)
        return
    assert (found.reason is None) == (active >= k)
    k = min(k, active)
    np.testing.assert_allclose(found.cosines, plainly(z, row, k, group, n), atol=1e-9)
    assert len(set(group[found.rows])) == len(found.rows) and group[row] not in group[found.rows]


def test_a_feature_that_is_active_on_every_row_is_in_no_fingerprint() -> None:
    rows, cosines = neighbours(Z, 0, 2, GROUPS, 3)
    assert rows.tolist() == [1, 2, 3]
    np.testing.assert_allclose(cosines, [1, 0.8, 0], atol=1e-9)
    more = neighbours(Z, 0, 3, GROUPS, 3)
    assert "has 2 active features" in str(more.reason) and "k is 2 and not 3" in str(more.reason)
    assert more.rows.tolist() == [1, 2, 3]


def test_one_feature_is_compared_by_its_difference() -> None:
    rows, similarities = neighbours(Z, 0, 1, GROUPS, 3)
    assert rows.tolist() == [2, 1, 3]
    np.testing.assert_allclose(similarities, [1 / 2, 1 / 3, 1 / 3], atol=1e-9)


def test_what_has_no_answer_says_why() -> None:
    assert neighbours(Z, 0, 1, ["one"] * 5).reason == "all rows are of one group"
    assert "no active feature" in str(neighbours(np.zeros((3, 4)), 0, 1, [0, 1, 2]).reason)
    assert "no active feature" in str(neighbours(Z[:1], 0, 1, ["a"]).reason)
    assert neighbours(Z, 0, 2, GROUPS).reason is None


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"row": 5}, "row is 5; it must be a whole number from 0 to 4"),
        ({"row": -1}, "row is -1"),
        ({"k": 0}, "k is 0; it must be a whole number of 1 or more"),
        ({"k": 2.0}, "k is 2.0"),
        ({"n": True}, "n is True"),
        ({"group_N": ["a"]}, "z has 5 rows and group_N 1 entries"),
        ({"z_NF": np.full((5, 4), np.nan)}, "z holds NaN or Inf"),
        ({"z_NF": np.zeros(5)}, "a matrix of real numbers"),
        ({"z_NF": np.full((5, 4), "x")}, "a matrix of real numbers"),
    ],
)
def test_wrong_arguments_are_refused(changed: dict[str, Any], said: str) -> None:
    asked: dict[str, Any] = {"z_NF": Z, "row": 0, "k": 2, "group_N": GROUPS}
    with pytest.raises(ValueError, match=said.replace("[", r"\[")):
        neighbours(**asked | changed)
