import json
from itertools import combinations
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from medsae_ray.core.monosemanticity.coherence import mean_of_all_pairs
from medsae_ray.core.monosemanticity.strongest import Strongest
from medsae_ray.errors import ArtifactError
from medsae_ray.metrics import coherence_specificity
from tests.support.shared import SHARED

SAIL = SHARED / "data" / "sail"


def index_of(one: np.ndarray, other: np.ndarray) -> float | None:
    """The Jaccard index of two rows of labels, None if no label is known of both."""
    both = [(a, b) for a, b in zip(one, other, strict=True) if not (np.isnan(a) or np.isnan(b))]
    either = sum(a == 1 or b == 1 for a, b in both)
    return (sum(a == b == 1 for a, b in both) / either if either else 1.0) if both else None


def looped(z_N: np.ndarray, y_NL: np.ndarray, group_N: np.ndarray, top: int) -> tuple[float, float]:
    """C and S of one feature, pair by pair; the index of a pair rounded to float32 as SAIL does."""
    rows: list[int] = []
    for row in sorted(range(len(z_N)), key=lambda row: (-z_N[row], row)):
        if z_N[row] > 0 and not np.isnan(y_NL[row]).all() and group_N[row] not in group_N[rows] and len(rows) < top:
            rows.append(row)
    judged_N = z_N[~np.isnan(y_NL).all(axis=1)]
    labels = int((~np.isnan(y_NL)).any(axis=0).sum())
    if len(rows) < top or len(set(judged_N)) < 2 or labels < 2:
        return np.nan, np.nan
    found = [index_of(y_NL[a], y_NL[b]) for a, b in combinations(rows, 2)]
    index = [float(np.float32(value)) for value in found if value is not None]
    count_L = np.nansum(y_NL[rows], axis=0)
    share_L = count_L[count_L > 0] / max(count_L.sum(), 1)
    s = 1 + float((share_L * np.log(share_L)).sum()) / np.log(labels) if count_L.sum() else 0.0
    return float(np.mean(index)) if index else np.nan, s


@st.composite
def cases(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    seed, n, labels = draw(st.integers(0, 10**6)), draw(st.integers(0, 24)), draw(st.integers(0, 5))
    rng = np.random.default_rng(seed)
    z_NF = rng.integers(0, 5, (n, 4)) * (rng.random((n, 4)) < 0.8).astype(float)
    z_NF[:, 3] = draw(st.sampled_from([0.0, 2.0]))
    y_NL = rng.choice([0.0, 1.0, np.nan], (n, labels), p=[0.5, 0.3, 0.2])
    return z_NF, y_NL, rng.integers(0, max(1, n // 2), n), draw(st.integers(2, 4))


@settings(max_examples=60, deadline=None)
@given(cases(), st.sampled_from([np.asarray, sparse.csr_array, sparse.coo_matrix]))
def test_it_is_the_loop_over_pairs(case: tuple[np.ndarray, np.ndarray, np.ndarray, int], kind: Any) -> None:
    z_NF, y_NL, group_N, top = case
    c_F, s_F, null = coherence_specificity(kind(z_NF), y_NL, group_N, top)
    for f in range(4):
        c, s = looped(z_NF[:, f], y_NL, group_N, top)
        np.testing.assert_allclose([c_F[f], s_F[f]], [c, s], atol=1e-10)
    found = [index_of(a, b) for a, b in combinations(y_NL, 2)] if (~np.isnan(y_NL)).any(axis=0).sum() > 1 else []
    known = [value for value in found if value is not None]
    np.testing.assert_allclose(null, np.mean(known) if known else np.nan, atol=1e-10)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 5), st.booleans(), st.randoms())
def test_the_strongest_images_are_the_same_for_any_sharding_and_order(
    seed: int, shards: int, is_sparse: bool, random: object
) -> None:
    rng = np.random.default_rng(seed)
    x_NF, group_N = rng.integers(-1, 4, (30, 5)).astype(float), rng.integers(0, 12, 30)
    whole = Strongest.of(x_NF, np.arange(30), group_N, 4)
    parts = np.array_split(rng.permutation(30), shards)
    found = Strongest.zero(5, 4)
    for rows in parts:
        x_nF = sparse.csr_array(x_NF[rows]) if is_sparse else x_NF[rows]
        found = Strongest.of(x_nF, rows, group_N[rows], 4).merge(found)
    np.testing.assert_array_equal(found.rows(), whole.rows())
    np.testing.assert_array_equal(found.low_F, x_NF.min(axis=0))
    np.testing.assert_array_equal(found.above_low().rows(), whole.above_low().rows())


def test_few_labels_few_groups_and_silent_features_have_no_number() -> None:
    rng = np.random.default_rng(0)
    z_NF, y_NL = rng.random((40, 3)), (rng.random((40, 3)) < 0.4).astype(float)
    z_NF[:, 1], z_NF[:, 2] = 0, 7
    c_F, s_F, null = coherence_specificity(z_NF, y_NL, np.arange(40))
    assert np.isfinite([c_F[0], s_F[0], null]).all() and np.isnan([*c_F[1:], *s_F[1:]]).all()
    for labels in (y_NL[:, :0], y_NL[:, :1], np.full((40, 3), np.nan)):
        c_F, s_F, null = coherence_specificity(z_NF, labels, np.arange(40))
        assert np.isnan([*c_F, *s_F, null]).all()
    assert np.isnan(coherence_specificity(z_NF, y_NL, np.zeros(40)).c_F).all()
    assert np.isnan(coherence_specificity(z_NF[:1], y_NL[:1], np.zeros(1)).null)
    for wrong in ({"y_NL": y_NL + 1}, {"y_NL": y_NL[1:]}, {"group_N": np.arange(3)}, {"top": 1}):
        with pytest.raises(ArtifactError):
            coherence_specificity(**({"z_NF": z_NF, "y_NL": y_NL, "group_N": np.arange(40)} | wrong))


def test_images_without_labels_are_equal_and_narrow_labels_specific() -> None:
    y_NL = np.array([[0, 0, 0, 0]] * 4 + [[1, 0, 0, 0]] * 4 + [[1, 1, 1, 1]] * 4, dtype=float)
    z_NF = np.repeat(np.eye(3), 4, axis=0)
    c_F, s_F, null = coherence_specificity(z_NF, y_NL, np.arange(12), 4)
    np.testing.assert_allclose(c_F, 1)
    np.testing.assert_allclose(s_F, [0, 1, 0], atol=1e-12)
    assert null == pytest.approx((18 + 16 * 0.25) / 66) and null == mean_of_all_pairs(y_NL[::-1])


@pytest.mark.skipif(not SAIL.is_dir(), reason="SAIL's results are not beside the project")
def test_sails_own_scores_are_reproduced() -> None:
    table, codes = pq.read_table(SAIL / "slices.parquet"), pq.read_table(SAIL / "codes_top5.parquet")
    y_NL = np.unpackbits(np.array(table["organs"].to_pylist(), dtype=np.uint8), axis=1)[:, :121]
    z_NF = np.zeros((len(y_NL), 8192))
    z_NF[codes["row"].to_numpy(), codes["feature"].to_numpy()] = codes["activation"].to_numpy()
    volume_N = np.array(table["image_id"].to_pylist())
    wanted = json.loads((SAIL / "expected.json").read_text())["biomedparse"]
    c_F, s_F, null = coherence_specificity(z_NF, y_NL, volume_N)
    assert abs(null - wanted["null_all_pairs"]) < 1e-12
    assert set(np.flatnonzero(np.isfinite(c_F))) == set(map(int, wanted["monosemanticity"]))
    group_N = np.unique(volume_N, return_inverse=True)[1]
    row_FK = Strongest.of(sparse.csr_array(z_NF), np.arange(len(y_NL)), group_N, 10).rows()
    for feature, (rows, c, s, m) in wanted["monosemanticity"].items():
        f = int(feature)
        assert row_FK[f].tolist() == rows
        np.testing.assert_allclose([c_F[f], s_F[f], max(0, c_F[f] - null) * s_F[f]], [c, s, m], rtol=0, atol=1e-12)
