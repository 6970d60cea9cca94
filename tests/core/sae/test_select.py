"""The fast selections against sorting everything."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from medsae_ray.core.sae.distributed import Ranks
from medsae_ray.core.sae.select import Largest, flat_top, largest, row_top, smallest_kept, support_above
from medsae_ray.core.sae.sparse_support import Everything, Pairs


def values(seed: int, rows: int, width: int, shift: float, coarse: bool) -> Tensor:
    """Normal deviates about `shift`, one row much larger than the others; `coarse` makes ties."""
    h_BM = torch.randn(rows, width, generator=torch.Generator().manual_seed(seed)) + shift
    h_BM[0] *= 5
    return (2 * h_BM).round() / 2 if coarse else h_BM


SHAPES = {"seed": st.integers(0, 9999), "rows": st.integers(1, 12), "width": st.sampled_from([5, 16, 48, 256, 272])}


@settings(max_examples=80, deadline=None)
@given(**SHAPES, share=st.floats(0, 1), shift=st.floats(-3, 3), coarse=st.booleans())
def test_rows_keep_their_largest(seed, rows, width, share, shift, coarse):
    h_BM, k = values(seed, rows, width, shift, coarse), 1 + int(share * (width - 1))
    found_BK, columns_BK = row_top(h_BM, k)
    assert torch.equal(found_BK.sort(1).values, h_BM.topk(k, 1).values.flip(1))
    assert torch.equal(h_BM.gather(1, columns_BK), found_BK)
    assert all(len(set(row.tolist())) == k for row in columns_BK)


@settings(max_examples=120, deadline=None)
@given(**SHAPES, share=st.floats(0, 1), shift=st.floats(-3, 3), coarse=st.booleans(), positive=st.booleans())
@pytest.mark.parametrize("select", [largest, lambda h_BM, n, _: flat_top(h_BM, n)])
def test_a_batch_keeps_its_largest(select, seed, rows, width, share, shift, coarse, positive):
    h_BM = values(seed, rows, width, shift, coarse)
    n = 1 + int(share * (h_BM.numel() - 1))
    found: Largest = select(h_BM, n, positive)
    assert torch.equal(h_BM[found.rows_A, found.columns_A], found.values_A)
    assert (found.rows_A.diff() >= 0).all()
    floor = smallest_kept(found.values_A, n, Ranks(), positive)
    top = h_BM.flatten().topk(n).values
    top = top[top > 0] if positive else top
    assert floor == (top.min() if len(top) else torch.inf)
    if select is largest:
        assert (found.values_A >= floor).sum() == (h_BM >= floor).sum()


def test_few_entries_become_a_list_and_many_do_not():
    h_BM = torch.full((4, 64), -1.0)
    h_BM[2, 5] = 3.0
    listed = support_above(h_BM, 0)
    assert isinstance(listed, Pairs)
    assert (listed.rows_A.tolist(), listed.columns_A.tolist(), listed.h_A.tolist()) == ([2], [5], [3.0])
    assert support_above(h_BM, -2) == Everything(4)
