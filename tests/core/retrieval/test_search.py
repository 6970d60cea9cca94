"""The search is exact: in any blocks, in any order, and merged in any tree."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from medsae_ray.core.retrieval.dense import cosines, search_dense, search_whole
from medsae_ray.core.retrieval.fingerprints import Fingerprints, discriminating, rarity
from medsae_ray.core.retrieval.nearest import Nearest
from medsae_ray.core.retrieval.search import Rows, search

SIZES = (1, 2, 3, 5)
PLACES = 4


def made(seed: int, rows: int = 60) -> tuple[sparse.csr_array, np.ndarray, np.ndarray]:
    """Activations with many ties, embeddings, and patients with several images."""
    rng = np.random.default_rng(seed)
    z = np.where(rng.random((rows, 12)) < 0.3, rng.choice([0.5, 1.0, 2.0], (rows, 12)), 0)
    return sparse.csr_array(z.astype(np.float32)), rng.normal(size=(rows, 7)), rng.integers(0, 15, rows)


def same(a: Nearest, b: Nearest) -> None:
    for left, right in zip(a, b, strict=True):
        np.testing.assert_array_equal(left, right)


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10**6), st.lists(st.integers(0, 5), min_size=60, max_size=60), st.permutations(range(6)),
       st.booleans())  # fmt: skip
def test_any_blocks_in_any_order_give_the_same(seed: int, block_of: list[int], order: list[int], silent: bool) -> None:
    z, x, group = made(seed)
    weight = rarity(np.bincount(z.indices, minlength=12), 60)
    queries = np.arange(0, 60, 7)
    prints = Fingerprints.strongest(z[queries], weight, group[queries], SIZES)
    dense = Fingerprints.largest(x[queries], group[queries], SIZES)

    def searched(rows: np.ndarray, nearest: list[Nearest]) -> list[Nearest]:
        block = Rows(rows, group[rows])
        search(prints, z[rows], weight, block, nearest[0], silent)
        search_dense(dense, x[rows], block, nearest[1])
        search_whole(np.round(cosines(x[queries], x[rows]), 12), group[queries], block, nearest[2])
        return nearest

    def nothing() -> list[Nearest]:
        lists = (len(queries) * len(SIZES), len(queries) * len(SIZES), len(queries))
        return [Nearest.empty(count, PLACES) for count in lists]

    whole = searched(np.arange(60), nothing())
    blocks = [np.flatnonzero(np.array(block_of) == block) for block in order]
    total, in_turn = nothing(), nothing()
    for rows in blocks:
        total = [one.merge(other) for one, other in zip(searched(rows, nothing()), total, strict=True)]
        in_turn = searched(rows, in_turn)
    for a, b, c in zip(whole, total, in_turn, strict=True):
        same(a, b)
        same(a, c)


def test_a_dense_fingerprint_is_the_cosine_on_the_largest_dimensions() -> None:
    _, x, group = made(1)
    prints = Fingerprints.largest(x[:1], group[:1], (1, 3))
    nearest = Nearest.empty(2, 60)
    search_dense(prints, x, Rows(np.arange(60), group), nearest)
    largest = np.argsort(-np.abs(x[0]))[:3]
    for place, row in enumerate(nearest.row_LP[1][nearest.row_LP[1] >= 0]):
        a, b = x[0, largest], x[row, largest]
        assert abs(nearest.similarity_LP[1, place] - a @ b / np.linalg.norm(a) / np.linalg.norm(b)) < 1e-8
    one = nearest.row_LP[0][nearest.row_LP[0] >= 0]
    known = 1 / (1 + np.abs(x[one, largest[0]] - x[0, largest[0]]))
    np.testing.assert_allclose(nearest.similarity_LP[0, : len(one)], known, atol=1e-8)


def test_without_silent_images_only_those_with_a_shared_feature_are_found() -> None:
    z = sparse.csr_array(np.array([[1.0, 2, 0], [0, 0, 1], [1, 0, 0], [0, 0, 0]]))
    prints = Fingerprints.strongest(z[[0]], discriminating(np.array([2, 1, 1]), 4), np.array([0]), [1, 2])
    nearest = Nearest.empty(2, 3)
    search(prints, z, np.ones(3), Rows(np.arange(4), np.arange(4)), nearest, silent=False)
    assert nearest.row_LP.tolist() == [[-1, -1, -1], [2, -1, -1]]


def test_rarity_weighs_a_feature_of_every_image_with_nothing() -> None:
    np.testing.assert_allclose(rarity(np.array([8, 4, 1, 0]), 8), np.log([1, 2, 8, 8]))
    z = sparse.csr_array(np.array([[9.0, 1, 1, 0]]))
    prints = Fingerprints.strongest(z, rarity(np.array([8, 4, 1, 0]), 8), np.array([-1]), [1, 2, 3])
    assert prints.coordinate_QK.tolist() == [[2, 1, -1]] and prints.has_QS.tolist() == [[True, True, False]]
