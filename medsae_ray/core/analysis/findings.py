"""The units that go with each label: with its presence, and with its absence, which is a finding too.

A feature of normal chests may be the strongest of all and correlate with no label but negatively. Both are chosen on
discovery patients; their AUROC is of the unit's value for what it is said to show, so it lies above 0.5 for either.

Legend: N test images, F units, L labels, J chosen units.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from scipy import sparse

from medsae_ray.core.analysis.auroc import Auroc, auroc_columns
from medsae_ray.core.analysis.values import Bools, Floats, Ints, UnitValues
from medsae_ray.core.artifacts.metrics import StoredFinding

NOTABLE = 0.5
"""A correlation of this size with a label's absence is shown even where the label's presence has a stronger one."""
DIGITS = 12
"""Correlations that agree in so many decimals are equal: what is left depends on the order of additions."""


@dataclass(frozen=True)
class Finding:
    """The best unit for one label, or for its absence: chosen on discovery patients, measured on held-out ones."""

    label: str
    feature: int
    """The feature of the SAE, or the dimension of the encoder."""
    r: float
    """Pearson correlation with the label over the discovery patients, with its 95 % interval."""
    r_low: float
    r_high: float
    auroc: float
    """AUROC over the held-out patients, with its 95 % interval: of the unit's value for the label, or its absence."""
    auroc_low: float
    auroc_high: float
    positives: int
    """Held-out images with the label, and without it."""
    negatives: int
    present: bool = True
    """False for the label's absence; `r` is then negative."""
    by_dataset: Mapping[str, Auroc] = field(default_factory=dict)
    """The AUROC in each dataset that annotates the label, in a run over several."""


class Tests(NamedTuple):
    """The test images of all groups, in manifest order."""

    x_NF: UnitValues
    y_NL: Floats
    dataset_N: np.ndarray
    """Names."""


def absent_name(label: str) -> str:
    """What a unit of a label's absence is called: "no Edema", and "Finding" where the label is "No Finding"."""
    negated = re.fullmatch(r"(.*/)?no\s+(\S.*)", label, re.IGNORECASE | re.DOTALL)
    return (negated[1] or "") + negated[2] if negated else f"no {label}"


def headed(label: str, r: float) -> str:
    """What a unit is headed by whose correlation with a label is `r`."""
    return label if r > 0 else absent_name(label)


def notable(present: float | None, absent: float | None) -> bool:
    """Whether a label's best unit of absence stands beside that of its presence, by their correlations.

    It does where it is the stronger one, or strong by itself (`NOTABLE`): no more rows than there is something to say.
    """
    return absent is not None and -absent >= min(present if present is not None else 0.0, NOTABLE)


def strongest(size: Floats, axis: int, names: Sequence[str] | None = None) -> Ints:
    """Index of the largest defined value along `axis`, -1 where none is defined.

    Among equals (`DIGITS`) it is the first, or, with the `names` of what lies along the axis, the first by name.
    """
    if not size.shape[axis]:
        return np.full(size.shape[1 - axis], -1, dtype=np.int64)
    order = np.arange(size.shape[axis]) if names is None else np.argsort(np.array(names, dtype=object), kind="stable")
    known = np.where(np.isnan(size), -np.inf, np.round(size, DIGITS)).take(order, axis=axis)
    return np.where(np.isneginf(known).all(axis=axis), -1, order[known.argmax(axis=axis)])


def best_findings(
    present: bool, names: Sequence[str], r_FL: Floats, low_FL: Floats, high_FL: Floats, tests: Tests, level: float
) -> list[Finding]:
    """For each label the unit with the largest correlation, or with the most negative one; labels without are left out.

    Over several datasets each finding also has its AUROC in each of them that annotates the label.
    """
    size_FL = np.where(r_FL > 0, r_FL, np.nan) if present else np.where(r_FL < 0, -r_FL, np.nan)
    unit_L = strongest(size_FL, axis=0)
    label_J = np.flatnonzero(unit_L >= 0)
    unit_J, turned_J = unit_L[label_J], np.full(len(label_J), not present)
    areas = areas_of(tests, unit_J, label_J, turned_J, level)
    apart = _by_dataset(tests, unit_J, label_J, turned_J, level)
    return [
        Finding(
            label=names[label],
            feature=int(unit),
            r=float(r_FL[unit, label]),
            r_low=float(low_FL[unit, label]),
            r_high=float(high_FL[unit, label]),
            auroc=area.auc,
            auroc_low=area.low,
            auroc_high=area.high,
            positives=area.positives,
            negatives=area.negatives,
            present=present,
            by_dataset=by_dataset,
        )
        for label, unit, area, by_dataset in zip(label_J, unit_J, areas, apart, strict=True)
    ]


def areas_of(tests: Tests, unit_J: Ints, label_J: Ints, turned_J: Bools, level: float) -> list[Auroc]:
    """AUROC of units for labels on the test images, for a label's absence where turned; NaN where a label is -1."""
    areas = auroc_columns(tests.x_NF[:, unit_J], tests.y_NL, label_J, level)
    return [_turned(area) if turned else area for area, turned in zip(areas, turned_J, strict=True)]


def _turned(area: Auroc) -> Auroc:
    return Auroc(1 - area.auc, 1 - area.high, 1 - area.low, area.positives, area.negatives)


def _by_dataset(tests: Tests, unit_J: Ints, label_J: Ints, turned_J: Bools, level: float) -> Iterator[dict[str, Auroc]]:
    datasets = sorted(set(tests.dataset_N.tolist()))
    apart: dict[str, list[Auroc]] = {}
    for name in datasets if len(datasets) > 1 else []:
        rows = np.flatnonzero(tests.dataset_N == name)
        x_nF = sparse.csr_array(tests.x_NF)[rows] if sparse.issparse(tests.x_NF) else tests.x_NF[rows]
        own = Tests(x_nF, tests.y_NL[rows], tests.dataset_N[rows])
        apart[name] = areas_of(own, unit_J, label_J, turned_J, level)
    for j in range(len(unit_J)):
        found = {name: areas[j] for name, areas in apart.items()}
        yield {name: area for name, area in found.items() if area.positives + area.negatives}


def disagree(finding: StoredFinding) -> bool:
    """Whether a stored finding's AUROC is another in one dataset than in a second, or in all: intervals do not meet."""
    own = [(area["low"], area["high"]) for area in finding["by_dataset"].values()]
    ends = [(finding["auroc_low"], finding["auroc_high"]), *own]
    known = [(low, high) for low, high in ends if low is not None and high is not None]
    return bool(known) and max(low for low, _ in known) > min(high for _, high in known)
