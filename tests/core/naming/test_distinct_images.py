"""The images that SAIL's way shows: one of each patient, strong and unlike, whatever the shards."""

from functools import reduce
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from medsae_ray.core.naming.distinct_images import (
    SHOWN,
    STRONGEST,
    Seen,
    StoredCodes,
    StoredCodesWork,
    StrongestWork,
    diverse,
    strongest_rows,
)
from tests.core.made import Cohort, activations_table, artifact, cohort


def brute(z: np.ndarray, count: int) -> list[int]:
    """Greedy max-min by 1 - cosine, from the definition."""
    norm = np.linalg.norm(z, axis=1)
    unit = z / np.where(norm > 0, norm, 1)[:, None]
    chosen = [0]
    while len(chosen) < min(count, len(z)):
        left = [row for row in range(len(z)) if row not in chosen]
        near = [min(round(float(1 - unit[row] @ unit[one]), 12) for one in chosen) for row in left]
        chosen.append(left[int(np.argmax(near))])
    return chosen


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 25), st.integers(1, 8))
def test_diverse_images_are_those_of_the_definition(seed: int, rows: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    z = rng.integers(1, 6, (rows, 7)) * (rng.random((rows, 7)) < 0.4).astype(float)
    z[rng.integers(rows)] = z[0]  # equal codes, as two copies of a film have
    found = diverse(sparse.csr_array(z.astype(np.float32)), count)
    assert found.tolist() == brute(z, count) and len(set(found.tolist())) == min(rows, count)


def test_the_strongest_is_first_and_its_double_last() -> None:
    z = sparse.csr_array(np.array([[3.0, 0], [3, 0], [0, 1], [1, 1]]))
    assert diverse(z, 4).tolist() == [0, 2, 3, 1] and diverse(z, 1).tolist() == [0]
    assert diverse(sparse.csr_array((0, 2)), 5).tolist() == []


def work(root: Path, made: Cohort, shard_rows: int) -> StrongestWork:
    shards = np.split(np.arange(len(made.ok_N)), range(shard_rows, len(made.ok_N), shard_rows))
    activations = artifact(root, "activations", [activations_table(made, rows) for rows in shards])
    shard_N = np.arange(len(made.ok_N)) // shard_rows
    patient_N = np.unique(made.patient_N, return_inverse=True)[1]
    naming_N = (patient_N % 2 == 0) & made.ok_N
    return StrongestWork(activations, made.z_NM.shape[1], shard_N, patient_N, naming_N, ~naming_N & made.ok_N)


def seen(of: StrongestWork) -> Seen:
    return reduce(Seen.merge, (of.compute(shards) for shards in of.groups()), of.nothing())


def test_naming_and_judging_images_are_of_other_patients_and_do_not_depend_on_shards(tmp_path: Path) -> None:
    made = cohort(images=240)
    one, other = (work(tmp_path / str(rows), made, rows) for rows in (7, 240))
    found, whole = seen(one), seen(other)
    assert np.array_equal(found.naming.rows(), whole.naming.rows()) and found.images == whole.images
    assert np.array_equal(found.judging.rows(), whole.judging.rows())
    assert np.array_equal(found.active_F, whole.active_F)
    for feature in range(5):
        naming, judging = (strongest_rows(s.rows(), feature) for s in (found.naming, found.judging))
        patients = [set(one.patient_N[rows].tolist()) for rows in (naming, judging)]
        assert not patients[0] & patients[1]
        assert [len(own) for own in patients] == [len(naming), len(judging)]
        best = sorted(made.z_NM[naming, feature], reverse=True)
        assert best == made.z_NM[naming, feature].tolist() and min(best) > 0
        mine = one.naming_N & (made.z_NM[:, feature] > 0)
        assert len(naming) == min(STRONGEST, len(set(one.patient_N[mine].tolist())))
        assert found.active_F[feature] == mine.sum()
    assert not strongest_rows(found.naming.rows(), 5).size, "a dead feature has no image"


def test_codes_are_read_once_and_chosen_from(tmp_path: Path) -> None:
    made = cohort(images=200)
    of = work(tmp_path, made, 16)
    rows = strongest_rows(seen(of).naming.rows(), 0)
    wanted_N = np.isin(np.arange(200), rows)
    reading = StoredCodesWork(of.activations, of.width, of.shard_N, wanted_N)
    codes = StoredCodes.join((reading.compute(shards) for shards in reading.groups()), of.width)
    assert np.allclose(codes.of(rows).toarray(), made.z_NM[rows])
    chosen = codes.distinct(rows)
    assert len(chosen) == SHOWN and chosen[0] == rows[0]
    assert chosen.tolist() == rows[brute(made.z_NM[rows].astype(np.float64), SHOWN)].tolist()
    assert StoredCodes.join([], 4).distinct(np.zeros(0, np.int64)).tolist() == []
