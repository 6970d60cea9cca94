"""Entropy of a unit's correlations over the labels, and its null for unrelated labels and units.

MedSAE (arXiv 2510.26411) reports the entropy of neurons over concepts (lower = more monosemantic) and states neither
formula nor base. Here: p_l = |r_l| / sum |r|, H = -sum p_l log p_l, in nats, also divided by its maximum ln K.
Noise alone gives an H just under ln K, hence the null: the same H with the rows of labels shuffled. A shuffle moves
whole rows, so labels that come together stay together. It assumes rows that can be exchanged: one image per patient,
and never across datasets, whose images and prevalences differ for other reasons than labels.

Legend: N images, F units, L labels, K shuffles, n rows of a shard.
"""

import hashlib
import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from medsae_ray.core.analysis.comoments import Comoments
from medsae_ray.core.analysis.values import Floats, Ints, UnitValues
from medsae_ray.errors import ArtifactError


class LabelEntropy(NamedTuple):
    """The values per unit; NaN where no correlation is defined or all are 0, and with fewer than two labels."""

    h_F: Floats
    """The entropy in units of log(base)."""
    normalised_F: Floats
    """The entropy over its maximum log K, K = number of labels with a defined r; NaN if K is 1."""


class EntropyNull(NamedTuple):
    """The mean entropy over units when labels are shuffled; `sd` is over shuffles (NaN of one)."""

    mean: float
    sd: float
    draws_K: Floats


def label_entropy(r_FL: Floats, base: float = math.e) -> LabelEntropy:
    """Return the entropy of |r_FL| over labels; an undefined r (NaN) is left out."""
    defined_F = (~np.isnan(r_FL)).sum(axis=1)
    a_FL = np.nan_to_num(np.abs(r_FL), nan=0.0)
    total_F = a_FL.sum(axis=1)
    p_FL = a_FL / np.where(total_F > 0, total_F, np.nan)[:, None]
    nats_F = -(p_FL * np.log(np.where(p_FL > 0, p_FL, 1.0))).sum(axis=1) + 0.0
    nats_F = nats_F if r_FL.shape[1] > 1 else np.full(len(r_FL), np.nan)
    return LabelEntropy(nats_F / math.log(base), nats_F / np.log(np.where(defined_F > 1, defined_F, np.nan)))


def mean_entropy(h_F: Floats) -> float:
    """Return the mean over the units whose entropy is defined; NaN if there are none."""
    alive_F = ~np.isnan(h_F)
    return float(h_F[alive_F].mean()) if alive_F.any() else math.nan


def shuffles(dataset_N: np.ndarray, seed: int, n: int) -> Ints:
    """Return [n, N] permutations of rows that keep every row in its dataset (`dataset_N` has their names).

    The k-th permutation of a dataset depends on `seed`, k and, among several, on its name: not on their order.
    """
    orders_KN = np.tile(np.arange(len(dataset_N)), (n, 1))
    names, code_N = np.unique(dataset_N.astype(str), return_inverse=True)
    for code, name in enumerate(names):
        rows = np.flatnonzero(code_N == code)
        key = [int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big")] if len(names) > 1 else []
        for k in range(n):
            orders_KN[k, rows] = rows[np.random.Generator(np.random.PCG64([seed, k, *key])).permutation(len(rows))]
    return orders_KN


def one_dataset(rows: int) -> np.ndarray:
    """Return names for `shuffles` of so many rows of one dataset."""
    return np.full(rows, "")


def null_comoments(x_nF: UnitValues, rows_n: Ints, y_NL: Floats, shuffles_KN: Ints) -> Comoments:
    """Return the co-moments of one shard with shuffled labels; the label axis runs over K x L, shuffle by shuffle.

    `rows_n` are the shard's rows of `y_NL`, the labels of all shards. Shards merge as `Comoments` do, and any sharding
    gives the same answer as one shard of all rows.
    """
    if shuffles_KN.shape[1:] != (len(y_NL),) or len(rows_n) != x_nF.shape[0]:
        raise ArtifactError(
            f"{x_nF.shape[0]} unit rows, {len(rows_n)} row numbers, {len(y_NL)} labelled rows and shuffles of shape "
            f"{shuffles_KN.shape} do not match"
        )
    y_nKL = y_NL[shuffles_KN[:, rows_n].T]
    return Comoments.of(x_nF, y_nKL.reshape(len(rows_n), len(shuffles_KN) * y_NL.shape[1]))


def each_shuffle(null: Comoments, n_labels: int) -> Iterator[Comoments]:
    """Yield the co-moments of each shuffle from the merged `null_comoments`, whose correlations together are large."""
    for start in range(0, len(null.count_L), n_labels):
        yield null.of_labels(slice(start, start + n_labels))


def null_draws(null: Comoments, n_labels: int, base: float = math.e) -> Floats:
    """Return the mean entropy over units under each shuffle, from the merged `null_comoments`; none without labels."""
    if not n_labels:
        return np.empty(0)
    return np.array([mean_entropy(label_entropy(one.pearson(), base).h_F) for one in each_shuffle(null, n_labels)])


def summarise_null(draws_K: Floats) -> EntropyNull:
    """Return mean and sample standard deviation of the draws; NaN without draws."""
    sd = float(np.std(draws_K, ddof=1)) if len(draws_K) > 1 else math.nan
    return EntropyNull(float(np.mean(draws_K)) if len(draws_K) else math.nan, sd, draws_K)
