"""Labels to rank among labels, on images that are annotated with them: can a model rank names at all?

Legend: N images, L labels.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple
from zlib import crc32

import numpy as np

from medsae_ray.core.analysis.values import Floats, Ints
from medsae_ray.core.naming.distinct_images import SHOWN
from medsae_ray.core.naming.ranking import RIVALS, Task, shuffled

GROUPS = 4
"""The most groups of images of one label."""
LOOKED_AT = 400
"""The most images of one label that are looked at for these."""
_STREAM = 7
_BEYOND = 2**31
"""Numbers for the shuffle that no feature has."""


class LabelTask(NamedTuple):
    """A label that all images have, among four that none has."""

    label: str
    row_n: Ints
    """The images, as rows of the matrix of labels."""
    task: Task


def label_tasks(y_NL: Floats, labels: Sequence[str], order_N: Ints, seed: int) -> list[LabelTask]:
    """Return up to `GROUPS` tasks of each label; `order_N` are the rows to take, one image of each patient.

    Four labels at least are annotated as absent on all images of a group. Labels are taken by their names, so that
    their order does not matter.
    """
    columns = sorted(range(len(labels)), key=lambda column: labels[column])
    return [task for column in columns for task in _of_label(y_NL, labels, column, order_N, seed)]


def _of_label(y_NL: Floats, labels: Sequence[str], column: int, order_N: Ints, seed: int) -> Iterator[LabelTask]:
    left, key = order_N[y_NL[order_N, column] == 1][:LOOKED_AT].tolist(), crc32(labels[column].encode())
    for made in range(GROUPS):
        rows, absent_L = _group(y_NL, left)
        if len(rows) < SHOWN:
            return
        left = [row for row in left if row not in rows]
        absent = sorted(labels[other] for other in np.flatnonzero(absent_L))
        chosen = np.random.default_rng([seed, key, made, _STREAM]).choice(len(absent), RIVALS, replace=False)
        others = [absent[place] for place in chosen]
        task = shuffled(labels[column], others, _BEYOND + key * GROUPS + made, seed)
        yield LabelTask(labels[column], np.array(rows, dtype=np.int64), task)


def _group(y_NL: Floats, rows: Sequence[int]) -> tuple[list[int], np.ndarray]:
    """Take images in turn, each only if at least four labels stay absent on all; return them, and which labels."""
    taken, absent_L = list[int](), np.ones(y_NL.shape[1], dtype=bool)
    for row in rows:
        both_L = absent_L & (y_NL[row] == 0)
        if both_L.sum() >= RIVALS:
            taken.append(row)
            absent_L = both_L
        if len(taken) == SHOWN:
            break
    return taken, absent_L
