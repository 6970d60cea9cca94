from dataclasses import replace
from functools import reduce
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medsae_ray.core.analysis.partial_sums import GroupSums, Labels, one_readable
from medsae_ray.core.artifacts.columns import activation_matrix, readable
from medsae_ray.core.artifacts.work import GROUP
from tests.core.made import activations_table, cohort, feature_work, known_labels, merged, representatives

MADE = cohort()
N = len(MADE.ok_N)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> GroupSums:
    """Everything in one shard."""
    return merged(feature_work(tmp_path_factory.mktemp("whole"), MADE, shard_rows=N))


def test_the_sets_are_what_they_are_said_to_be() -> None:
    manifest = MADE.manifest(40)
    labels = Labels.of(manifest, "ignore", "ignore", MADE.ok_N)
    one_N = representatives(manifest, MADE.ok_N)
    for row, image in enumerate(manifest.to_pylist()):
        split, one, ok = image["split"], bool(one_N[row]), bool(MADE.ok_N[row])
        assert labels.training_N[row] == (split == "sae")
        assert labels.discovery_N[row] == (ok and split in ("sae", "naming"))
        assert labels.discovery_one_N[row] == (ok and one and split in ("sae", "naming"))
        assert labels.heldout_N[row] == (ok and one and split in ("naming", "detection"))
        assert labels.test_N[row] == (ok and one and split == "detection")
        assert (labels.image_N[row], labels.patient_N[row]) == (image["image_id"], image["patient_id"])
    np.testing.assert_array_equal(labels.y_NL, known_labels(manifest))


def test_no_patient_serves_discovery_and_test_and_none_comes_twice() -> None:
    labels = Labels.of(MADE.manifest(40), "ignore", "ignore", MADE.ok_N)
    assert not set(labels.patient_N[labels.discovery_N]) & set(labels.patient_N[labels.test_N])
    for rows in (labels.heldout_N, labels.test_N, labels.discovery_one_N):
        assert 20 < rows.sum() == len(set(labels.patient_N[rows]))


def test_the_n_of_an_interval_counts_patients_with_a_known_label_and_a_readable_image() -> None:
    manifest = MADE.manifest(40)
    rows = [row for row, ok in zip(manifest.to_pylist(), MADE.ok_N, strict=True) if ok and row["split"] != "detection"]
    expected = [len({row["patient_id"] for row in rows if row[y] in (0, 1)}) for y in ("y_l0", "y_l1", "y_l2")]
    assert Labels.of(manifest, "ignore", "ignore", MADE.ok_N).discovery_patients().tolist() == expected
    everything = np.ones(manifest.num_rows, dtype=bool)
    assert (Labels.of(manifest, "ignore", "ignore", everything).discovery_patients() >= expected).all()


@pytest.mark.parametrize("shard_rows", [7, 300])
def test_readable_images_are_found_in_manifest_order(shard_rows: int, tmp_path: Path) -> None:
    np.testing.assert_array_equal(readable(feature_work(tmp_path, MADE, shard_rows).embeddings), MADE.ok_N)


def test_groups_hold_every_shard_once_and_in_order(tmp_path: Path) -> None:
    groups = feature_work(tmp_path, MADE, shard_rows=7).groups()
    assert [len(group) for group in groups] == [GROUP, GROUP, 43 - 2 * GROUP]
    assert [shard for group in groups for shard in group] == list(range(43))


def assert_same_sums(a: GroupSums, b: GroupSums) -> None:
    np.testing.assert_allclose(a.quality, b.quality, rtol=1e-12)
    for one, two in ((a.sae, b.sae), (a.raw, b.raw)):
        for exact in (one.overlap, two.overlap):
            assert all(part.dtype == np.int64 for part in exact)
        for mine, others in zip(one.overlap, two.overlap, strict=True):
            np.testing.assert_array_equal(mine, others)
        for name in ("discovery", "heldout", "null"):
            mine, others = (vars(getattr(sums, name)) for sums in (one, two))
            for key in mine:
                np.testing.assert_allclose(mine[key], others[key], rtol=1e-12, atol=1e-12, err_msg=f"{name}.{key}")
        assert one.units.top.per_unit() == two.units.top.per_unit()
        np.testing.assert_array_equal(one.units.histogram_FB, two.units.histogram_FB)
        np.testing.assert_allclose(one.units.sum_F, two.units.sum_F, rtol=1e-12, atol=1e-12)


@settings(max_examples=8, deadline=None)
@given(shard_rows=st.integers(7, N), seed=st.integers(0, 99))
def test_any_sharding_and_order_of_groups_gives_the_same_sums(
    whole: GroupSums, tmp_path_factory: pytest.TempPathFactory, shard_rows: int, seed: int
) -> None:
    work = feature_work(tmp_path_factory.mktemp("shards"), MADE, shard_rows)
    shards = [part.shard for part in work.embeddings.parts]
    cuts = np.sort(np.random.default_rng(seed).integers(0, len(shards) + 1, 3))
    groups = [part.tolist() for part in np.split(np.array(shards), cuts) if len(part)]
    np.random.default_rng(seed).shuffle(groups)
    assert_same_sums(reduce(GroupSums.merge, map(work.compute, groups)), whole)


def test_quality_is_over_all_readable_images_of_patients_that_did_not_train(whole: GroupSums) -> None:
    split = MADE.manifest(N)["split"].to_numpy(zero_copy_only=False)
    rows = np.flatnonzero(MADE.ok_N & (split != "sae"))
    active = np.count_nonzero(MADE.z_NM[rows])
    assert whole.quality == (pytest.approx((1.0 + rows).sum()), pytest.approx((5.0 + rows).sum()), len(rows), active)


def test_test_images_carry_their_manifest_rows(whole: GroupSums, tmp_path: Path) -> None:
    for sums in (whole, merged(feature_work(tmp_path, MADE, shard_rows=7))):
        for name, values in (("sae", MADE.z_NM), ("raw", MADE.x_ND)):
            for sample in getattr(sums, name).tests:
                x_nF = sample.x_nF if name == "raw" else sample.x_nF.toarray()
                np.testing.assert_array_equal(x_nF, values[sample.row_n])


def test_merged_sums_hold_no_view_of_a_result(whole: GroupSums) -> None:
    """Ray frees a result of another process when the last view of an array in it is gone."""
    for name in ("sae", "raw"):
        own, result = getattr(whole, name), getattr(whole, name)
        (first, second), (theirs,) = own.merge(result).tests, result.tests
        assert not np.shares_memory(second.row_n, theirs.row_n)
        values = (rows.x_nF if name == "raw" else rows.x_nF.data for rows in (second, theirs))
        assert not np.shares_memory(*values)
        np.testing.assert_array_equal(first.row_n, second.row_n)


def test_activations_become_a_matrix_with_empty_rows_for_images_that_are_not_ok() -> None:
    table = activations_table(MADE, np.arange(N))
    x_NF = activation_matrix(table, MADE.z_NM.shape[1])
    np.testing.assert_array_equal(x_NF.toarray(), MADE.z_NM * MADE.ok_N[:, None])
    assert activation_matrix(table.slice(0, 0), 5).shape == (0, 5)
    pieces = pa.concat_tables([table.slice(3, 40), table.slice(100, 7)])
    np.testing.assert_array_equal(
        activation_matrix(pieces, 6).toarray(), x_NF.toarray()[[*range(3, 43), *range(100, 107)]]
    )


def test_a_group_without_a_readable_image_adds_nothing(tmp_path: Path, whole: GroupSums) -> None:
    ok_N = MADE.ok_N.copy()
    ok_N[:112] = False
    work = feature_work(tmp_path, replace(MADE, ok_N=ok_N), shard_rows=7)
    first, second, third = map(work.compute, work.groups())
    assert first.quality == (0.0, 0.0, 0, 0) and first.sae.units.n_images == 0
    assert_same_sums(first.merge(second).merge(third), second.merge(third))


def test_a_patient_whose_index_image_is_unreadable_is_represented_by_another() -> None:
    columns = {"patient_id": ["a", "a", "b", "b", "c"], "index_image": [True, False, False, True, True]}
    ok_N = np.array([False, True, True, True, False])
    assert one_readable(pa.table(columns), ok_N).tolist() == [False, True, False, True, False]


def test_a_patient_counts_once_in_correlations_if_asked(tmp_path: Path) -> None:
    work = feature_work(tmp_path, MADE, 40)
    weighted = merged(replace(work, labels=replace(work.labels, by_patient=True)))
    labels = work.labels
    for label in range(MADE.y_NL.shape[1]):
        y_N = labels.y_NL[:, label]
        rows = np.flatnonzero(labels.discovery_N & ~np.isnan(y_N))
        patients, of_row, images = np.unique(
            labels.patient_N[rows].astype(str), return_inverse=True, return_counts=True
        )
        for unit in range(MADE.x_ND.shape[1]):
            pair = (MADE.x_ND[rows, unit].astype(np.float64), y_N[rows])
            cov = np.cov(*pair, aweights=1 / images[of_row], ddof=0)
            expected = cov[0, 1] / np.sqrt(cov[0, 0] * cov[1, 1])
            assert weighted.raw.discovery.pearson()[unit, label] == pytest.approx(expected, abs=1e-12)
        assert weighted.raw.discovery.weight_L[label] == pytest.approx(len(patients))
    assert not np.allclose(weighted.raw.discovery.c_FL, merged(work).raw.discovery.c_FL)
    np.testing.assert_array_equal(weighted.raw.heldout.c_FL, merged(work).raw.heldout.c_FL)
