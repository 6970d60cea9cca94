import torch

from medsae_ray.core.sae.architectures import build
from tests.core.sae.planted import matryoshka_config, normalisation, per_level_config, topk_config

H_BM = torch.randn(6, 48, generator=torch.Generator().manual_seed(2))


def test_a_shared_code_is_that_of_batch_topk_cut_at_every_level():
    shared, plain = (build(make(), normalisation()) for make in (matryoshka_config, topk_config))
    wanted_BM = plain.select(H_BM)
    levels_LBM = shared.select(H_BM).unflatten(0, (3, 6))
    assert torch.equal(levels_LBM.sum(0), wanted_BM)
    for level, (low, high) in zip(levels_LBM, ((0, 16), (16, 32), (32, 48)), strict=True):
        assert torch.equal(level[:, low:high], wanted_BM[:, low:high])
    assert shared.threshold == plain.threshold


def test_levels_of_their_own_keep_their_own_k():
    sae = build(per_level_config(ks=[2, 3, 4]), normalisation())
    levels_LBM = sae.select(H_BM).unflatten(0, (3, 6))
    assert [int((level > 0).sum()) for level in levels_LBM] == [12, 18, 24]
    assert not levels_LBM[0][:, 16:].any() and not levels_LBM[1][:, 32:].any()
    kept = levels_LBM[2]
    assert sae.threshold == kept[kept > 0].min()


def test_one_level_is_batch_topk():
    x_BD = torch.randn(20, 32, generator=torch.Generator().manual_seed(0))
    found = [
        build(make(**other), normalisation())(x_BD, torch.tensor([3, 4]))
        for make, other in (
            (topk_config, {}),
            (matryoshka_config, {"levels": [48]}),
            (per_level_config, {"levels": [48], "ks": [3]}),
        )
    ]
    for other in found[1:]:
        for mine, wanted in zip(other, found[0], strict=True):
            torch.testing.assert_close(mine, wanted)
