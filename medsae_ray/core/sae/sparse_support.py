"""The entries of a batch's code that may be non-zero, and training's two products of them.

A dense code costs five products of B x D x M per step, of which four multiply mostly zeros once codes are sparse. Here
the entries are either all of them or a list of pairs (image, feature), and every step from h to the reconstruction, and
back, has the cost of that list. Both give the same numbers.

Legend: B images of a batch, D embedding dimension, M features, A entries, R rows that are decoded (B, or B for each
level of a Matryoshka SAE). An axis S is A for a list and B, M for all entries.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from medsae_ray.core.sae.matmul import Dtype, product


class AffineEncoder(NamedTuple):
    """The encoder h = (x - b_dec) W_enc + b_enc."""

    W_enc: Tensor
    """The weights [D, M]."""
    b_enc: Tensor | None
    """The bias [M]; None is 0."""
    b_dec: Tensor
    """The decoder's bias [D]."""


class Support(ABC):
    """A selection of entries of h [B, M]."""

    @property
    @abstractmethod
    def images(self) -> int:
        """The number of images, B."""

    @abstractmethod
    def pick(self, h_BM: Tensor, x_BD: Tensor, encoder: AffineEncoder, low: Dtype = None) -> Tensor:
        """Return h at the entries [S], with gradients for the encoder; `h_BM` is the encoder's product, without
        gradients, and must not be used afterwards."""

    @abstractmethod
    def decode(self, z_S: Tensor, W_MD: Tensor, low: Dtype = None) -> Tensor:
        """Return the sum over features of z times the feature's row of W [R, D]."""

    @abstractmethod
    def at(self, per_feature_M: Tensor) -> Tensor:
        """Spread a value per feature over the entries [S]."""

    @abstractmethod
    def fired(self, z_S: Tensor) -> Tensor:
        """Return True where a feature is not zero on some image [M]."""

    @abstractmethod
    def dense(self, z_S: Tensor) -> Tensor:
        """Return z [R, M], without gradients."""


@dataclass(frozen=True)
class Everything(Support):
    """A selection of all entries, in the shape [B, M]."""

    rows: int
    """The number of images, B."""

    @property
    def images(self) -> int:
        """The number of images, B."""
        return self.rows

    def pick(self, h_BM: Tensor, x_BD: Tensor, encoder: AffineEncoder, low: Dtype = None) -> Tensor:
        """Return `h_BM` itself, with gradients for the encoder."""
        return torch.as_tensor(_PickAll.apply(h_BM, x_BD, *encoder, low))

    def decode(self, z_S: Tensor, W_MD: Tensor, low: Dtype = None) -> Tensor:
        """Compute z W [B, D] as one matrix product."""
        return torch.as_tensor(_Product.apply(z_S, W_MD, low))

    def at(self, per_feature_M: Tensor) -> Tensor:
        """Return the values per feature [M]; broadcasting spreads them."""
        return per_feature_M

    def fired(self, z_S: Tensor) -> Tensor:
        """Return True where a feature is not zero on some image [M]."""
        return (z_S != 0).any(0)

    def dense(self, z_S: Tensor) -> Tensor:
        """Return z itself, without gradients [B, M]."""
        return z_S.detach()


@dataclass(frozen=True)
class Pairs(Support):
    """A list of entries, in the order of their rows."""

    rows_A: Tensor
    """The row that an entry is decoded into, ascending; its image is this modulo B."""
    columns_A: Tensor
    """The feature of the entry."""
    h_A: Tensor
    """The h of the entry."""
    shape: tuple[int, int]
    """The shape (B, M)."""
    levels: int = 1
    """The number of levels, R / B."""

    @property
    def images(self) -> int:
        """The number of images, B."""
        return self.shape[0]

    @property
    def count(self) -> int:
        """The number of decoded rows, R."""
        return self.images * self.levels

    def regrouped(self, level_A: Tensor, levels: int) -> "Pairs":
        """Return the same entries, each decoded into the row of its image and level."""
        level_A, order = level_A.sort(stable=True)
        rows_A = level_A * self.images + self.rows_A[order]
        return Pairs(rows_A, self.columns_A[order], self.h_A[order], self.shape, levels)

    @staticmethod
    def stacked(parts: "list[Pairs]") -> "Pairs":
        """Join the entries of every level; the shape is that of the last."""
        images, shape = parts[-1].images, parts[-1].shape
        rows_A = torch.cat([part.rows_A + level * images for level, part in enumerate(parts)])
        columns_A, h_A = torch.cat([part.columns_A for part in parts]), torch.cat([part.h_A for part in parts])
        return Pairs(rows_A, columns_A, h_A, shape, len(parts))

    @cached_property
    def starts(self) -> Tensor:
        """The start of each row's entries, and the end of the last's [R + 1]."""
        return _starts(self.rows_A, self.count)

    @cached_property
    def by_column(self) -> tuple[Tensor, Tensor]:
        """The entries in the order of their features [A], and the start of each feature's [M + 1]."""
        columns, order = self.columns_A.sort(stable=True)
        return order, _starts(columns, self.shape[1])

    def per_feature(self, values_A: Tensor) -> Tensor:
        """Sum over a feature's entries [M], in a deterministic order also on a GPU."""
        order, starts = self.by_column
        return torch.segment_reduce(values_A[order], "sum", offsets=starts, unsafe=True)

    def transposed(self, values_A: Tensor, y_RD: Tensor, rows_A: Tensor) -> Tensor:
        """Sum over a feature's entries of value times the entry's row of y [M, D]."""
        order, starts = self.by_column
        return _bag(rows_A[order], starts, values_A[order], y_RD)

    def pick(self, h_BM: Tensor, x_BD: Tensor, encoder: AffineEncoder, low: Dtype = None) -> Tensor:
        """Return h of the entries [A], with gradients for the encoder; `h_BM` is not read."""
        return torch.as_tensor(_PickPairs.apply(self.h_A, x_BD, *encoder, self))

    def decode(self, z_S: Tensor, W_MD: Tensor, low: Dtype = None) -> Tensor:
        """Sum the decoder rows of each row's entries, weighted by z [R, D]."""
        return torch.as_tensor(_Bag.apply(z_S, W_MD, self))

    def at(self, per_feature_M: Tensor) -> Tensor:
        """Return each entry's value of its feature [A]."""
        return per_feature_M[self.columns_A]

    def fired(self, z_S: Tensor) -> Tensor:
        """Return True where a feature is not zero on some image [M]."""
        hits = torch.zeros(self.shape[1], dtype=torch.int32, device=z_S.device)
        return hits.index_add_(0, self.columns_A, (z_S != 0).int()) > 0

    def dense(self, z_S: Tensor) -> Tensor:
        """Scatter z into zeros, without gradients [R, M]."""
        z_RM = torch.zeros(self.count, self.shape[1], dtype=z_S.dtype, device=z_S.device)
        z_RM[self.rows_A, self.columns_A] = z_S.detach()
        return z_RM


def _starts(sorted_A: Tensor, count: int) -> Tensor:
    edges = torch.arange(count + 1, device=sorted_A.device)
    return torch.searchsorted(sorted_A, edges)


def _bag(index_A: Tensor, starts: Tensor, weight_A: Tensor, table: Tensor) -> Tensor:
    """Return rows i of weighted sums of the table's rows that entries starts[i] to starts[i + 1] name."""
    return F.embedding_bag(index_A, table, starts, mode="sum", per_sample_weights=weight_A, include_last_offset=True)


class _PickAll(Function):
    @staticmethod
    def forward(
        ctx: Any, h_BM: Tensor, x_BD: Tensor, W_DM: Tensor, b_enc: Tensor | None, b_dec: Tensor, low: Dtype
    ) -> Tensor:
        ctx.mark_dirty(h_BM)
        ctx.save_for_backward(x_BD, W_DM, b_dec)
        ctx.low = low
        return h_BM

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g_BM: Tensor) -> tuple[Tensor | None, ...]:
        x_BD, W_DM, b_dec = ctx.saved_tensors
        g_M = g_BM.sum(0)
        # W_enc lies in memory feature by feature, and so does its gradient: see model.py.
        gradient_MD = product(g_BM.T, x_BD, ctx.low).addr_(g_M, b_dec, alpha=-1)
        return None, None, gradient_MD.T, g_M if ctx.needs_input_grad[3] else None, -(W_DM @ g_M), None


class _PickPairs(Function):
    @staticmethod
    def forward(
        ctx: Any, h_A: Tensor, x_BD: Tensor, W_DM: Tensor, b_enc: Tensor | None, b_dec: Tensor, pairs: Pairs
    ) -> Tensor:
        ctx.save_for_backward(x_BD, W_DM, b_dec)
        ctx.pairs = pairs
        return h_A.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g_A: Tensor) -> tuple[Tensor | None, ...]:
        x_BD, W_DM, b_dec = ctx.saved_tensors
        pairs: Pairs = ctx.pairs
        g_M = pairs.per_feature(g_A)
        images_A = pairs.rows_A % pairs.images if pairs.levels > 1 else pairs.rows_A
        gradient_MD = pairs.transposed(g_A, x_BD - b_dec, images_A)
        return None, None, gradient_MD.T, g_M if ctx.needs_input_grad[3] else None, -(W_DM @ g_M), None


class _Product(Function):
    @staticmethod
    def forward(ctx: Any, z_BM: Tensor, W_MD: Tensor, low: Dtype) -> Tensor:
        ctx.save_for_backward(z_BM, W_MD)
        ctx.low = low
        return product(z_BM, W_MD, low)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g_BD: Tensor) -> tuple[Tensor | None, ...]:
        z_BM, W_MD = ctx.saved_tensors
        to_z = product(g_BD, W_MD.T, ctx.low) if ctx.needs_input_grad[0] else None
        return to_z, product(z_BM.T, g_BD, ctx.low) if ctx.needs_input_grad[1] else None, None


class _Bag(Function):
    @staticmethod
    def forward(ctx: Any, z_A: Tensor, W_MD: Tensor, pairs: Pairs) -> Tensor:
        ctx.save_for_backward(z_A, W_MD)
        ctx.pairs = pairs
        return _bag(pairs.columns_A, pairs.starts, z_A, W_MD)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g_RD: Tensor) -> tuple[Tensor | None, ...]:
        z_A, W_MD = ctx.saved_tensors
        pairs: Pairs = ctx.pairs
        g_RD = g_RD.contiguous()
        to_z = _inner(g_RD, W_MD, pairs) if ctx.needs_input_grad[0] else None
        return to_z, pairs.transposed(z_A, g_RD, pairs.rows_A) if ctx.needs_input_grad[1] else None, None


def _inner(g_RD: Tensor, W_MD: Tensor, pairs: Pairs) -> Tensor:
    """Return each entry's inner product of g's row and W's row of the feature [A], without copies of those rows."""
    inner_A: Tensor = torch.ops.aten._embedding_bag_per_sample_weights_backward(
        g_RD, W_MD, pairs.columns_A, pairs.starts[:-1], pairs.rows_A, 0
    )
    return inner_A
