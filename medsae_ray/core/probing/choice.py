"""The figures by which the SAE of a run is chosen among those of a sweep, on patients that no result is reported on.

Probes are fitted on the patients that the SAEs were trained on, with SAIL's penalty (C = 1) and no other, so nothing is
chosen here; they are measured on the patients of the split naming.

Legend: N images, L labels, T targets (labels and metadata), F features.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import sparse

from medsae_ray.core.analysis.auroc import auroc
from medsae_ray.core.analysis.values import Floats, UnitValues
from medsae_ray.core.monosemanticity.coherence import coherence_specificity, label_count, mean_of_all_pairs, score
from medsae_ray.core.monosemanticity.strongest import Strongest
from medsae_ray.core.probing.curves import Fitted, Rules, Task, curve, measured, ranked, too_few
from medsae_ray.core.probing.shares import DENSE

TOP = 10
"""The strongest images of a feature, and the best features, that count for monosemanticity."""
SIZES = (1, 2, 3, 5, 10, 20, 30, 50, 75, 100)
SHARES = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""The shares of the dense probe's AUROC above chance that features have to reach."""
RULES = Rules(SIZES, strengths=(1.0,))


class Patients(NamedTuple):
    """One image of each patient of a set."""

    x_NK: UnitValues
    y_NL: Floats
    """Their labels, by which features are monosemantic."""
    target_NT: Floats
    """What probes are to tell of them."""


def dense_areas(fit: Patients, other: Patients) -> Floats:
    """Return the AUROC [T] of probes on all columns; NaN for a target with too few patients of a class, or one that the
    probe does not tell: the interval of its AUROC holds 0.5."""
    return np.array([_dense(_task(fit, other, at), other, at) for at in range(fit.target_NT.shape[1])])


def _task(fit: Patients, other: Patients, at: int) -> Task:
    spaces = {"sae": fit.x_NK}, {"sae": other.x_NK}
    return Task.of(str(at), spaces[0], fit.target_NT[:, at], spaces[1], other.target_NT[:, at])


def _dense(task: Task, other: Patients, at: int) -> float:
    if too_few(task.y_fit, "training") or too_few(task.y_judge, "naming"):
        return float("nan")
    if (found := ranked(task, "sae", RULES)) is None:
        return float("nan")
    area = auroc(found.linear.scores(other.x_NK), other.target_NT[:, at])
    return area.auc if area.low > 0.5 else float("nan")


def areas_by_size(fit: Patients, other: Patients, at: int) -> dict[int, float]:
    """Return number of features -> AUROC of a probe on the strongest of so many, for each size that there is."""
    task = _task(fit, other, at)
    found = ranked(task, "sae", RULES)
    probes: list[Fitted] = list(curve(task, "features", found.order_P, RULES)) if found else []
    areas = measured(probes, {"sae": other.x_NK}, other.target_NT[:, at], 0.95)
    return {len(one.columns_P): area.auc for one, area in zip(probes, areas, strict=True) if one.columns_P is not None}


class Worth(NamedTuple):
    """What features are worth on the patients of a choice; NaN where no target says it."""

    monosemanticity: float
    """The mean C x S of the ten best features."""
    needed: float
    """The mean over targets and `SHARES` of the number of features that reach the share; one that is never reached
    counts as the largest number."""
    at_ten: float
    """The mean share of the dense probe's AUROC above chance that at most ten features have."""


def worth(fit: Patients, other: Patients, dense_T: Floats) -> Worth:
    """Measure the features of an SAE; `dense_T` are AUROCs of probes on all dimensions of the encoder."""
    told = [at for at, dense in enumerate(dense_T) if dense > DENSE]
    curves = [areas_by_size(fit, other, at) for at in told]
    kept = [({n: _above(a, dense_T[at]) for n, a in found.items()}) for at, found in zip(told, curves, strict=True)]
    needed = [_needed(found, share) for found in kept for share in SHARES]
    at_ten = [max((found[n] for n in found if n <= TOP), default=0.0) for found in kept]
    return Worth(monosemanticity(other), _mean(needed), _mean(at_ten))


def _above(area: float, dense: float) -> float:
    return (area - 0.5) / (dense - 0.5)


def _needed(found: dict[int, float], share: float) -> float:
    return float(min((n for n, kept in found.items() if kept >= share), default=SIZES[-1]))


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else float("nan")


def monosemanticity(patients: Patients) -> float:
    """Return the mean of SAIL's C x S over the `TOP` best features; NaN with fewer than two labels."""
    null = mean_of_all_pairs(patients.y_NL)
    if np.isnan(null):
        return float("nan")
    rows = np.arange(len(patients.y_NL))
    strongest = Strongest.of(sparse.csr_array(patients.x_NK), rows, rows, TOP)
    found = score(coherence_specificity(patients.y_NL, strongest.rows(), label_count(patients.y_NL)), null)
    return _mean(np.sort(found[~np.isnan(found)])[-TOP:].tolist())
