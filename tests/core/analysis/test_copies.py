import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from medsae_ray.core.analysis import copies as module
from medsae_ray.core.analysis.copies import copies, spread


def codes(images: int, features: int, rate: float = 0.1, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.random((images, features)) < rate) * rng.uniform(0.5, 2.0, (images, features))


def found(x_NF: np.ndarray) -> list[list[int]]:
    return copies(sparse.csr_array(x_NF.astype(np.float32)))


def test_unlike_features_have_no_copies():
    assert found(codes(300, 40)) == []


def test_scaled_and_noisy_copies_form_one_group_whose_first_is_active_most_often():
    x_NF = codes(400, 12)
    noise = np.random.default_rng(1).uniform(0.95, 1.05, (400, 2))
    x_NF[:, [7, 3]] = x_NF[:, [5, 5]] * [3.0, 0.2] * noise
    x_NF[np.flatnonzero(x_NF[:, 3] == 0)[0], 3] = 0.01
    assert found(x_NF) == [[3, 5, 7]]


def test_opposites_and_features_that_never_change_are_no_copies():
    x_NF = np.zeros((50, 5))
    x_NF[:25, 0], x_NF[25:, 1], x_NF[:, 2], x_NF[:, 3] = 1.0, 1.0, 4.0, 4.0
    assert found(x_NF) == []


def test_a_chain_of_likenesses_is_not_one_group():
    rng = np.random.default_rng(0)
    steps = rng.normal(size=(5000, 8))
    chain = np.stack([steps[:, i : i + 4].sum(1) for i in range(5)], axis=1) + 20
    r_FF = np.corrcoef(chain.T)
    assert copies(sparse.csr_array(chain), alike=0.7) == [[0, 1], [2, 3]] and r_FF[0, 4] < 0.1


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), features=st.integers(1, 30), images=st.integers(2, 40))
def test_every_member_copies_its_first_and_no_two_firsts_copy_each_other(seed, features, images):
    rng = np.random.default_rng(seed)
    base = codes(images, max(1, features // 3), 0.4, seed)
    x_NF = base[:, rng.integers(0, base.shape[1], features)] * rng.uniform(0.5, 2, features)
    x_NF = (x_NF * rng.uniform(0.7, 1.3, x_NF.shape)).astype(np.float32).astype(np.float64)
    groups = found(x_NF)
    members = [feature for group in groups for feature in group]
    assert len(set(members)) == len(members)
    with np.errstate(invalid="ignore"):
        r_FF = np.nan_to_num(np.corrcoef(x_NF.T).reshape(features, features))
    for group in groups:
        assert (r_FF[group[0], group[1:]] > 0.9 - 1e-6).all()
    alone = sorted(set(range(features)) - {feature for group in groups for feature in group[1:]})
    apart = r_FF[np.ix_(alone, alone)] - np.eye(len(alone)) * 2
    assert not (apart > 0.9 + 1e-6).any()


def test_blocks_change_nothing(monkeypatch):
    x_NF = codes(200, 30)
    x_NF[:, 20:] = x_NF[:, :10] * 2
    whole = found(x_NF)
    assert len(whole) == 10
    monkeypatch.setattr(module, "_ENTRIES", 70)
    assert found(x_NF) == whole


def test_a_wide_dictionary_takes_seconds():
    started = time.perf_counter()
    rng = np.random.default_rng(0)
    columns = rng.integers(0, 4096, (5000, 32))
    columns = np.concatenate([columns, columns + 4096], axis=1)
    values = np.tile(rng.random((5000, 32)), 2)
    x_NF = sparse.csr_array(
        (values.ravel(), columns.ravel(), np.arange(0, columns.size + 1, columns.shape[1])), shape=(5000, 8192)
    )
    groups = copies(x_NF)
    assert len(groups) == 4096 and all(len(group) == 2 for group in groups)
    assert time.perf_counter() - started < 60


@pytest.mark.parametrize(("images", "most", "wanted"), [(4, 10, [0, 1, 2, 3]), (9, 3, [0, 4, 8])])
def test_images_are_spread_evenly(images, most, wanted):
    assert spread(images, most).tolist() == wanted
