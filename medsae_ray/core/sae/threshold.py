"""The inference threshold of an SAE that chooses by batch, which keeps k features per training row.

Legend: see model.py; the bits of a positive float32 are in the order of its value, so their upper half is its bin, one
of 32,768, and their lower half its place in the bin. Counts of bins add up over blocks and ranks.
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from medsae_ray.core.sae.distributed import Ranks
from medsae_ray.core.sae.training_table import EmbeddingTable

ROWS = 65_536
"""The training rows behind a threshold, drawn by the seed if there are more. If rows typically have 0.5 k more or fewer
active features, L0 on all of them is then within 0.5 % of k."""
_ENTRIES = 1 << 22
"""The pre-activations that are processed at once."""
_LOW = 16
_BINS = 1 << _LOW


def sample(rows: int, seed: int, most: int = ROWS) -> Tensor:
    """Return the rows behind a threshold, ascending."""
    if rows <= most:
        return torch.arange(rows)
    return torch.randperm(rows, generator=torch.Generator().manual_seed(seed))[:most].sort().values


def in_blocks(table: EmbeddingTable, index_N: Tensor, width: int, device: torch.device) -> Iterable[Tensor]:
    """Yield those rows in blocks that suit `width` features."""
    for index_B in index_N.split(max(1, _ENTRIES // width)):
        yield table.rows(index_B, device)


def put_at(blocks: Callable[[], Iterable[Tensor]], n: int, ranks: Ranks, device: torch.device) -> tuple[Tensor, int]:
    """Return the threshold [] above which n of all pre-activations lie, and their number: fewer if several equal the
    next one, or if fewer are positive (the threshold is then 0).

    `blocks` yields this rank's pre-activations, any shape, float32; it is called twice. It is the (n + 1)-th largest
    positive one of all ranks, exactly, in memory that does not depend on their number.
    """
    high = ranks.sum(_counts(blocks(), None, device))
    if int(high.sum()) <= n:
        return torch.zeros((), device=device), int(high.sum())
    bin, above = _place(high, n)
    low = ranks.sum(_counts(blocks(), bin, device))
    value, inside = _place(low, n - above)
    bits = torch.tensor([bin << _LOW | value], dtype=torch.int32, device=device)
    return bits.view(torch.float32)[0], above + inside


def _counts(blocks: Iterable[Tensor], bin: int | None, device: torch.device) -> Tensor:
    """Count the positive entries in every bin, or at every place of one bin [_BINS]."""
    total = torch.zeros(_BINS, dtype=torch.int64, device=device)
    for h in blocks:
        bits = h.contiguous().view(torch.int32)
        places = bits[h > 0] >> _LOW if bin is None else bits[(bits >> _LOW == bin) & (h > 0)] & (_BINS - 1)
        total += torch.bincount(places, minlength=_BINS)
    return total


def _place(counts: Tensor, n: int) -> tuple[int, int]:
    """Return (the place of the (n + 1)-th entry from above, the number of entries above that place)."""
    from_above = counts.flip(0).cumsum(0)
    place = int((from_above > n).nonzero()[0])
    return len(counts) - 1 - place, int(from_above[place - 1]) if place else 0
