"""Does the model find its own name again, on images of the naming split that the name was not written from?

A model that cannot see what it looks at still writes names, seldom abstains, and says yes and no to them by whatever it
does see. So a name that does not tell the feature's other images from silent ones is taken back before any test patient
is asked about: the feature abstains. This holds for any model, as it asks nothing of it but answers.

The other names that the model gave are asked about too, and the one that does it best is the feature's: the strongest
images of a wide concept are often of one kind, whose name is then too narrow.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from medsae_ray.core.naming.plan import TRIVIAL, Concept, normalised_name
from medsae_ray.core.naming.prompts import NAME_WORDS
from medsae_ray.core.naming.scores import Score

MOST_P = 0.1
"""Of a feature whose name is kept: one-sided, that p(yes) has nothing to do with it, times the names that were tried.
One in ten features named without meaning gets through, and hardly any is lost that the test would verify."""


class SelfCheck(NamedTuple):
    """The result of checking one name."""

    auroc: float
    p: float
    n_pos: int
    n_neg: int

    @property
    def n(self) -> int:
        """The number of images that were asked about."""
        return self.n_pos + self.n_neg


class ChosenName(NamedTuple):
    """The best of a feature's names."""

    place: int
    """Among the names that were tried; 0 is what the model gave as the name."""
    check: SelfCheck
    tried: int

    @property
    def kept(self) -> bool:
        """Whether the name passes: its p, corrected for the number of names tried (Bonferroni), is at most MOST_P."""
        return self.check.p * self.tried <= MOST_P

    def reason(self, names: Sequence[str]) -> str:
        """Say why the name is not kept."""
        check, others = self.check, f", nor does any of {list(names[1:])}" if len(names) > 1 else ""
        return (
            f"{names[0]!r} does not tell {check.n_pos} other images of the naming patients on which it is active from "
            f"{check.n_neg} on which it is silent{others} (best AUROC {check.auroc:.2f}, p {check.p:.2f})"
        )


def names_to_try(name: Concept, alternatives: Sequence[str]) -> list[Concept]:
    """The name, then the model's other names that are names: distinct, none of them true of every image, none longer
    than a name may be."""
    concepts, used = [name], {normalised_name(name.name), normalised_name(TRIVIAL.name), ""}
    for other in alternatives:
        if normalised_name(other) not in used and len(other.split()) <= NAME_WORDS:
            concepts.append(Concept(other))
        used.add(normalised_name(other))
    return concepts


def self_check(score: Score) -> SelfCheck | None:
    """None if more than half of the questions have no answer: then nothing is known, and the test will say so."""
    n = score.n_pos + score.n_neg
    if not n or score.failed > n / 2:
        return None
    return SelfCheck(score.area.auc, score.p, score.n_pos, score.n_neg)


def choose(checks: Sequence[SelfCheck | None]) -> ChosenName | None:
    """The name of the largest AUROC, the earlier of equal ones; None where nothing is known of the first."""
    if checks[0] is None:
        return None
    known = [(-1.0 if check is None or math.isnan(check.auroc) else check.auroc) for check in checks]
    place = max(range(len(checks)), key=lambda i: (known[i], -i))
    return ChosenName(place, checks[place] or checks[0], len(checks))
