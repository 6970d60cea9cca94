"""The agreement of readers with each other and with the model: Cohen's kappa of two, and Fleiss' of all together.

Cohen, Educational and Psychological Measurement 20 (1960) 37; Fleiss, Psychological Bulletin 76 (1971) 378. The kappas
are those of statsmodels. It has an interval for Cohen's only, so all are percentiles of a bootstrap over features.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple, TypeAlias

import numpy as np

from medsae_ray.core.judgements.record import VOTES, Judgement

Votes: TypeAlias = dict[str, dict[int, str]]
"""The vote of each reader on each feature."""
DRAWS = 1000
LEVEL = 0.95
_MODEL = {"verified": "agree", "rejected": "disagree"}
"""The vote that a verdict amounts to; an untested name has none."""


class Kappa(NamedTuple):
    """The agreement on some features. The figures are None where everybody only ever said the same one thing."""

    kappa: float | None
    low: float | None
    """The 95 % interval."""
    high: float | None
    agree: float | None
    """The share of features on which all said the same."""
    features: int


class Agreement(NamedTuple):
    """The agreement of a set of votes."""

    votes: dict[str, int]
    """The number of features that each reader voted on."""
    readers: Kappa | None
    """Fleiss' kappa of all readers, on the features that all voted on; None for a single reader."""
    pairs: list[tuple[str, str, Kappa]]
    """Cohen's kappa of two readers each."""
    model: list[tuple[str, Kappa]]
    """Cohen's kappa of each reader and the model's verdicts (verified, rejected); who is unsure is left out there."""


def votes_of(judgements: Iterable[Judgement], blind: bool = False, study: str | None = None) -> Votes:
    """Return the votes that count: the first of each reader on each feature, as a later one has seen the verdict.

    With `blind` only those given before the verdict was shown count, and with `study` only those of that study.
    """
    votes: Votes = {}
    for one in judgements:
        if one.kind == "vote" and (one.blind or not blind) and study in (None, one.study):
            votes.setdefault(one.reader, {}).setdefault(one.feature, str(one.value))
    return votes


def agreement(votes: Votes, verdicts: Mapping[int, str | None]) -> Agreement:
    """Compare the readers with each other, and with the `verdicts` on the features' names."""
    readers = sorted(votes)
    model = {feature: _MODEL[verdict] for feature, verdict in verdicts.items() if verdict in _MODEL}
    return Agreement(
        {reader: len(votes[reader]) for reader in readers},
        _kappa([votes[reader] for reader in readers], _fleiss) if len(readers) > 1 else None,
        [(a, b, _kappa([votes[a], votes[b]], _cohen)) for a, b in combinations(readers, 2)],
        [(reader, _kappa([_sure(votes[reader]), model], _cohen)) for reader in readers],
    )


def _sure(votes: Mapping[int, str]) -> dict[int, str]:
    return {feature: vote for feature, vote in votes.items() if vote != "unsure"}


def _kappa(raters: Sequence[Mapping[int, str]], kappa: Callable[[np.ndarray], float]) -> Kappa:
    """Measure the agreement of R raters on the N features that all of them judged."""
    features = sorted(set.intersection(*(set(rater) for rater in raters)))
    v_NR = np.array([[VOTES.index(rater[feature]) for rater in raters] for feature in features], int)
    if not features:
        return Kappa(None, None, None, None, 0)
    agree = float((v_NR == v_NR[:, :1]).all(axis=1).mean())
    value = kappa(v_NR)
    if not np.isfinite(value):
        return Kappa(None, None, None, agree, len(features))
    rows = np.random.default_rng(0).integers(len(features), size=(DRAWS, len(features)))
    drawn = np.array([kappa(v_NR[row]) for row in rows])
    low, high = np.nanquantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])  # nan: a draw in which all say one thing
    return Kappa(float(value), float(low), float(high), agree, len(features))


def _cohen(v_NR: np.ndarray) -> float:
    from statsmodels.stats.inter_rater import cohens_kappa

    table = np.zeros((len(VOTES), len(VOTES)))
    np.add.at(table, (v_NR[:, 0], v_NR[:, 1]), 1)
    with np.errstate(all="ignore"):
        return float(cohens_kappa(table, return_results=False))


def _fleiss(v_NR: np.ndarray) -> float:
    from statsmodels.stats.inter_rater import fleiss_kappa

    with np.errstate(all="ignore"):
        return float(fleiss_kappa(np.stack([(v_NR == vote).sum(1) for vote in range(len(VOTES))], 1)))
