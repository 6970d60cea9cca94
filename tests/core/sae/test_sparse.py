import numpy as np
import pyarrow as pa
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medsae_ray.core.sae.sparse import sparse_rows


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 1000), n=st.integers(0, 12), m=st.integers(1, 12), density=st.floats(0, 1))
def test_lists_hold_every_active_feature_in_ascending_order(seed, n, m, density):
    generator = torch.Generator().manual_seed(seed)
    z_NM = torch.rand(n, m, generator=generator) * (torch.rand(n, m, generator=generator) < density)
    rows = sparse_rows(z_NM)
    assert (rows.offsets.dtype, rows.indices.dtype, rows.values.dtype) == (np.int32, np.int32, np.float32)
    features = pa.ListArray.from_arrays(rows.offsets, rows.indices).to_pylist()
    values = pa.ListArray.from_arrays(rows.offsets, rows.values).to_pylist()
    for z_M, mine, strengths in zip(z_NM, features, values, strict=True):
        assert mine == [j for j in range(m) if z_M[j] != 0]
        assert strengths == z_M[mine].tolist()
