"""Does the model find its own name again, on images of the naming split that the name was not written from?

A model that cannot see what it looks at still writes names, seldom abstains, and says yes and no to them by whatever it
does see. So a name that does not tell the feature's other images from silent ones is taken back before any test patient
is asked about: the feature abstains. This holds for any model, as it asks nothing of it but answers.
"""

from typing import NamedTuple

from medsae_ray.core.naming.scores import Score

MOST_P = 0.1
"""Of a name that is kept: one-sided, that its p(yes) has nothing to do with the feature. One in
ten names without meaning gets through, and hardly any is lost that the test would verify."""


class SelfCheck(NamedTuple):
    """What came of it."""

    auroc: float
    p: float
    n_pos: int
    n_neg: int

    @property
    def kept(self) -> bool:
        return self.p <= MOST_P

    @property
    def reason(self) -> str:
        return (
            f"its own name does not tell {self.n_pos} other images of the naming patients on which it is active from "
            f"{self.n_neg} on which it is silent (AUROC {self.auroc:.2f}, p {self.p:.2f})"
        )


def self_check(score: Score) -> SelfCheck | None:
    """None if more than half of the questions have no answer: then nothing is known, and the test will say so."""
    n = score.n_pos + score.n_neg
    if not n or score.failed > n / 2:
        return None
    return SelfCheck(score.area.auc, score.p, score.n_pos, score.n_neg)
