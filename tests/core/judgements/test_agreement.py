import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats.inter_rater import cohens_kappa

from medsae_ray.core.judgements.agreement import agreement, votes_of
from medsae_ray.core.judgements.record import VOTES, Judgement
from tests.core.judgements.made import judgement


def votes(reader: str, said: list[str], **other: object) -> list[Judgement]:
    return [judgement(n, reader=reader, key=f"{reader}-{n:06d}", value=vote, **other) for n, vote in enumerate(said)]


def readers(count: int, features: int, noise: float) -> list[Judgement]:
    draw = np.random.default_rng(3)
    truth = draw.choice(VOTES, features)
    found = []
    for reader in range(count):
        said = np.where(draw.random(features) < noise, draw.choice(VOTES, features), truth)
        found += votes(f"r{reader}", said.tolist())
    return found


def test_cohens_kappa_is_scikit_learns_and_its_interval_near_the_asymptotic_one() -> None:
    judgements = readers(2, 300, 0.4)
    said = votes_of(judgements)
    ((a, b, kappa),) = agreement(said, {}).pairs
    assert (a, b, kappa.features) == ("r0", "r1", 300)
    assert kappa.kappa == pytest.approx(cohen_kappa_score(list(said["r0"].values()), list(said["r1"].values())))
    table = np.zeros((3, 3))
    for one, other in zip(said["r0"].values(), said["r1"].values(), strict=True):
        table[VOTES.index(one), VOTES.index(other)] += 1
    exact = cohens_kappa(table)
    assert (kappa.low, kappa.high) == pytest.approx((exact.kappa_low, exact.kappa_upp), abs=0.015)


def test_fleiss_kappa_is_the_one_worked_by_hand() -> None:
    rows = [
        (3, 0, 0),
        (0, 3, 0),
        (0, 0, 3),
        (2, 1, 0),
        (1, 2, 0),
        (0, 2, 1),
        (3, 0, 0),
        (0, 3, 0),
        (1, 1, 1),
        (2, 0, 1),
    ]
    said: list[list[str]] = [[], [], []]
    for row in rows:
        cast = [vote for vote, count in zip(VOTES, row, strict=True) for _ in range(count)]
        for reader in range(3):
            said[reader].append(cast[reader])
    judgements = [one for reader in range(3) for one in votes(f"r{reader}", said[reader])]
    kappa = agreement(votes_of(judgements), {}).readers
    assert kappa is not None and kappa.agree == 0.5
    by_chance = 0.4**2 + 0.4**2 + 0.2**2
    assert kappa.kappa == pytest.approx(((5 + 4 / 3) / 10 - by_chance) / (1 - by_chance))


def test_the_model_is_a_reader_who_is_never_unsure() -> None:
    judgements = votes("r", ["agree", "disagree", "unsure", "agree", "disagree"])
    verdicts = {0: "verified", 1: "rejected", 2: "verified", 3: "verified", 4: "untested", 5: None}
    ((reader, kappa),) = agreement(votes_of(judgements), verdicts).model
    assert (reader, kappa.features, kappa.kappa, kappa.agree) == ("r", 3, 1.0, 1.0)


def test_without_a_difference_there_is_no_kappa_but_a_share() -> None:
    found = agreement(votes_of(votes("a", ["agree"] * 4) + votes("b", ["agree"] * 4)), {})
    assert found.readers == (None, None, None, 1.0, 4)
    assert agreement({}, {}) == ({}, None, [], [])
    assert agreement(votes_of(votes("a", ["agree"])), {}).model[0][1] == (None, None, None, None, 0)


def test_the_first_vote_counts_and_blind_ones_by_themselves() -> None:
    seen = votes("a", ["agree", "agree"]) + votes("a", ["disagree", "disagree"], blind=True, study="pilot")
    assert votes_of(seen) == {"a": {0: "agree", 1: "agree"}}
    blind = {"a": {0: "disagree", 1: "disagree"}}
    assert votes_of(seen, blind=True) == votes_of(seen, study="pilot") == blind
    assert votes_of(seen, study="other") == {} and votes_of([judgement(kind="note", value="x")]) == {}
