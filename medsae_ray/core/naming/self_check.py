"""A check that the model recognises its own name on further images of the naming split.

A model that is blind to a feature still writes names, seldom abstains, and answers yes and no by other things that it
sees. So a name that does not separate the feature's other images from inactive ones is withdrawn before any question
about a test patient: the feature abstains. The check works for any model, as it needs only answers.

The model's alternatives are checked too, and the best name is the feature's: the strongest images of a wide concept are
often of one kind, whose name is then too narrow.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from medsae_ray.core.naming.plan import TRIVIAL, Concept, normalised_name
from medsae_ray.core.naming.prompts import NAME_WORDS
from medsae_ray.core.naming.scores import Score

MOST_P = 0.1
"""The largest p of a name that is kept: one-sided, for p(yes) independent of the feature, times the number of names
tried. One in ten meaningless names passes, and hardly any is lost that the test would verify."""


class SelfCheck(NamedTuple):
    """The result of checking one name."""

    auroc: float
    p: float
    n_pos: int
    n_neg: int

    @property
    def n(self) -> int:
        """The number of images in the check."""
        return self.n_pos + self.n_neg


class ChosenName(NamedTuple):
    """The best of a feature's names."""

    place: int
    """The place among the names tried; 0 is the model's first choice."""
    check: SelfCheck
    tried: int

    @property
    def kept(self) -> bool:
        """True if p, corrected for the number of names tried (Bonferroni), is at most MOST_P."""
        return self.check.p * self.tried <= MOST_P

    def reason(self, names: Sequence[str]) -> str:
        """Return the reason why the name is not kept."""
        check, others = self.check, f", nor does any of {list(names[1:])}" if len(names) > 1 else ""
        return (
            f"{names[0]!r} does not tell {check.n_pos} other images of the naming patients on which it is active from "
            f"{check.n_neg} on which it is silent{others} (best AUROC {check.auroc:.2f}, p {check.p:.2f})"
        )


def names_to_try(name: Concept, alternatives: Sequence[str]) -> list[Concept]:
    """Return the name, then the model's valid alternatives: distinct, not true of every image, and short enough."""
    concepts, used = [name], {normalised_name(name.name), normalised_name(TRIVIAL.name), ""}
    for other in alternatives:
        if normalised_name(other) not in used and len(other.split()) <= NAME_WORDS:
            concepts.append(Concept(other))
        used.add(normalised_name(other))
    return concepts


def self_check(score: Score) -> SelfCheck | None:
    """Return the check; None if more than half of the questions have no answer, which the test will report."""
    n = score.n_pos + score.n_neg
    if not n or score.failed > n / 2:
        return None
    return SelfCheck(score.area.auc, score.p, score.n_pos, score.n_neg)


def choose(checks: Sequence[SelfCheck | None]) -> ChosenName | None:
    """Return the name of the largest AUROC, the earlier of equal ones; None if the first one's check is unknown."""
    if checks[0] is None:
        return None
    known = [(-1.0 if check is None or math.isnan(check.auroc) else check.auroc) for check in checks]
    place = max(range(len(checks)), key=lambda i: (known[i], -i))
    return ChosenName(place, checks[place] or checks[0], len(checks))
