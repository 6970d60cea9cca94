"""The replication in other datasets of correlations found in one.

A pair of a feature and a label is *selected* in dataset d if its correlation there is at least `min_r` in size and its
p-value survives Benjamini-Hochberg over all pairs of d. A selected pair *holds* in dataset e if there
    1. its one-sided p-value along the sign of r_d survives Benjamini-Hochberg over the pairs selected in d,
    2. its interval excludes 0 on that side, and
    3. its interval reaches `keep` times r_d: a correlation that is certainly weaker than that is another one.
It is *replicated* if it holds in every other dataset that can test it, of which it needs one. A dataset can test it if
its label is annotated and varies; a pair whose feature is never active there does not hold.

The third rule separates a shortcut from a finding: a feature that follows both a marker and, weakly, the
finding keeps a significant remnant of its correlation where the marker means nothing.

Benjamini & Hochberg (1995), "Controlling the false discovery rate". Legend: D datasets, F features, L labels.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from medsae_ray.core.analysis.false_discovery import benjamini_hochberg
from medsae_ray.core.analysis.pearson import fisher_interval, pearson_p
from medsae_ray.core.analysis.values import Bools, Floats, Ints
from medsae_ray.errors import ArtifactError


class Rules(NamedTuple):
    """The criterion above; `level` is that of the intervals."""

    q: float
    min_r: float
    keep: float
    level: float


class Correlations(NamedTuple):
    """The correlations of every pair in each dataset."""

    r_DFL: Floats
    """Pearson's r; NaN where feature or label is constant."""
    low_DFL: Floats
    high_DFL: Floats
    p_DFL: Floats
    """The two-sided p of r = 0."""
    n_DL: Ints
    """The independent patients behind a label's correlations."""

    @classmethod
    def of(cls, r_DFL: Floats, n_DL: Ints, level: float) -> "Correlations":
        """Compute intervals (Fisher) and p-values (t-test) over n patients. Raises ArtifactError if shapes disagree."""
        if r_DFL.ndim != 3 or n_DL.shape != (r_DFL.shape[0], r_DFL.shape[2]):
            raise ArtifactError(f"correlations {r_DFL.shape} and patients {n_DL.shape} are not [D, F, L] and [D, L]")
        low_DFL, high_DFL = fisher_interval(r_DFL, n_DL[:, None, :], level)
        return cls(r_DFL, low_DFL, high_DFL, pearson_p(r_DFL, n_DL[:, None, :]), n_DL)

    def can_tell(self) -> Bools:
        """Return [D, L], True if some feature correlates with the label, which is then annotated and varies."""
        return np.asarray((~np.isnan(self.r_DFL)).any(axis=1))


class ReplicatedPairs(NamedTuple):
    """The pairs selected in dataset `source`, and their result in the others."""

    source: int
    selected_FL: Bools
    can_tell_DL: Bools
    """True if the dataset can test the label; False for the source itself."""
    q_DFL: Floats
    """The false discovery rate of a selected pair in each other dataset; NaN where it is not selected or not tested."""
    holds_DFL: Bools

    def replicated(self) -> Bools:
        """Return [F, L], True for pairs that are selected, tested in another dataset, and hold wherever tested."""
        told_DFL = np.broadcast_to(self.can_tell_DL[:, None, :], self.holds_DFL.shape)
        return self.selected_FL & told_DFL.any(axis=0) & (self.holds_DFL | ~told_DFL).all(axis=0)

    def untested(self) -> Bools:
        """Return [F, L], True for selected pairs that no other dataset can test."""
        return self.selected_FL & ~np.asarray(self.can_tell_DL.any(axis=0))[None, :]


def replicate(found: Correlations, rules: Rules) -> Iterator[ReplicatedPairs]:
    """Yield one `ReplicatedPairs` with each dataset in turn as the source."""
    for source in range(len(found.r_DFL)):
        q_FL = benjamini_hochberg(found.p_DFL[source])
        selected_FL = (q_FL <= rules.q) & (np.abs(found.r_DFL[source]) >= rules.min_r)
        can_tell_DL = found.can_tell()
        can_tell_DL[source] = False
        q_DFL = np.full(found.r_DFL.shape, np.nan)
        for other in np.flatnonzero(np.arange(len(found.r_DFL)) != source):
            asked_FL = selected_FL & can_tell_DL[other]
            q_DFL[other] = benjamini_hochberg(np.where(asked_FL, _one_sided(found, source, other), np.nan))
        holds_DFL = (q_DFL <= rules.q) & _interval_agrees(found, source, rules.keep)
        yield ReplicatedPairs(source, selected_FL, can_tell_DL, q_DFL, holds_DFL)


def _one_sided(found: Correlations, source: int, other: int) -> Floats:
    """Return [F, L] p along the sign of the source's r; 1 for a feature that is constant in the other dataset."""
    same_FL = np.sign(found.r_DFL[source]) == np.sign(found.r_DFL[other])
    half_FL = found.p_DFL[other] / 2
    p_FL: Floats = np.nan_to_num(np.where(same_FL, half_FL, 1 - half_FL), nan=1.0)
    return p_FL


def _interval_agrees(found: Correlations, source: int, keep: float) -> Bools:
    """Return [D, F, L], True if the interval is on the source's side of 0 and reaches `keep` of its r; not if NaN."""
    sign_FL = np.sign(found.r_DFL[source])
    near_DFL = np.where(sign_FL > 0, found.low_DFL, -found.high_DFL)
    far_DFL = np.where(sign_FL > 0, found.high_DFL, -found.low_DFL)
    agrees_DFL: Bools = (near_DFL > 0) & (far_DFL >= keep * np.abs(found.r_DFL[source]))
    return agrees_DFL
