"""The inference threshold keeps k features per training row, however training went."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medsae_ray.core.sae import threshold
from medsae_ray.core.sae.distributed import Ranks
from medsae_ray.core.sae.fit import Ending, fit
from medsae_ray.core.sae.metrics import reconstruction
from tests.core.sae.planted import matryoshka_config, per_level_config, planted, sail_config, topk_config

SMALL = planted(rows=230)
CPU = torch.device("cpu")


def put(parts: list[torch.Tensor], n: int) -> tuple[float, int]:
    value, above = threshold.put_at(lambda: parts, n, Ranks(), CPU)
    return float(value), above


@settings(max_examples=200, deadline=None)
@given(
    values=st.lists(st.floats(-4, 4, width=32) | st.sampled_from([0.0, 0.5, 1e-40, 3.0]), min_size=1, max_size=60),
    n=st.integers(0, 70),
    cut=st.integers(0, 60),
)
def test_it_is_the_next_value_after_the_n_largest_positive_ones(values, n, cut):
    h = torch.tensor(values)
    positive = h[h > 0].sort(descending=True).values
    wanted = float(positive[n]) if len(positive) > n else 0.0
    assert put([h[:cut], h[cut:]], n) == (wanted, int((h > wanted).sum()))


def test_rows_are_all_or_as_many_as_are_asked_for_by_the_seed():
    assert threshold.sample(5, seed=0).tolist() == [0, 1, 2, 3, 4]
    drawn = threshold.sample(1000, seed=0, most=50)
    assert len(drawn.unique()) == 50 and torch.equal(drawn, drawn.sort().values)
    assert not torch.equal(drawn, threshold.sample(1000, seed=1, most=50))


KEPT = [
    topk_config(k=3, epochs=1, batch_size=230),
    topk_config(k=3, epochs=100, batch_size=230, lr=1e-4),
    topk_config(k=3, epochs=17, batch_size=230, lr=1e-2),
    topk_config(k=8, epochs=1200, batch_size=115, lr=3e-3),
    topk_config(k=8, epochs=10, batch_size=2),
    topk_config(k=1, epochs=1, batch_size=1, lr=1e-2),
    topk_config(k=3, epochs=60, patience=3, lr=0.3, batch_size=50),
    topk_config(k=4, width=512, epochs=5, batch_size=115),
    topk_config(k=4, epochs=10, init="random"),
    topk_config(k=4, epochs=10, normalisation="l2"),
    topk_config(k=4, epochs=10, whiten=1e-3),
    topk_config(k=4, epochs=3, precision="bfloat16"),
    matryoshka_config(k=4, epochs=3, batch_size=200),
    matryoshka_config(k=4, epochs=60, patience=3, lr=0.3, batch_size=50),
    per_level_config(ks=[2, 3, 6], epochs=3, batch_size=200),
]


@pytest.mark.parametrize("config", KEPT, ids=range(len(KEPT)))
def test_training_rows_have_k_active_features(config):
    endings: list[Ending] = []
    sae = fit(config, SMALL.train_ND, SMALL.heldout_ND, on_end=endings.append)
    k = config.k or config.ks[-1]
    assert reconstruction(sae, SMALL.train_ND).l0 == pytest.approx(k, rel=0.01)
    assert endings[0].train_l0 == pytest.approx(k, rel=0.01)
    heldout = reconstruction(sae, SMALL.heldout_ND)
    assert (endings[0].fvu, endings[0].l0) == pytest.approx((heldout.fvu, heldout.l0))


def test_rows_that_repeat_keep_k_as_nearly_as_they_can():
    rows = SMALL.train_ND[:10].repeat(23, 1)
    sae = fit(topk_config(k=3, epochs=5), rows, SMALL.heldout_ND)
    assert reconstruction(sae, rows).l0 == pytest.approx(3, rel=0.05)


def test_so_do_more_rows_than_are_looked_at():
    many = planted(rows=threshold.ROWS + 20_000, dim=8, atoms=8)
    config = topk_config(d_in=8, width=16, k=3, epochs=1, batch_size=4096, lr=3e-3)
    sae = fit(config, many.train_ND, many.heldout_ND)
    assert reconstruction(sae, many.train_ND).l0 == pytest.approx(3, rel=0.01)


def test_a_run_that_was_over_when_it_was_resumed_ends_the_same():
    config, states, endings = topk_config(epochs=4, patience=2, batch_size=230), [], []

    def run(resume=None):
        return fit(
            config,
            SMALL.train_ND,
            SMALL.heldout_ND,
            resume=resume,
            on_epoch=lambda log, state: states.append(state()),
            on_end=endings.append,
        )

    first, again = run(), run(states[-1])
    assert torch.equal(first.threshold, again.threshold) and endings[0] == endings[1]


def test_sails_threshold_stays_the_mean_of_its_batches():
    endings: list[Ending] = []
    config = sail_config(ks=[2, 3, 4], epochs=2, batch_size=115)
    sae = fit(config, SMALL.train_ND, SMALL.heldout_ND, on_end=endings.append)
    assert sae.batches == 4 and endings[0].train_l0 is None
