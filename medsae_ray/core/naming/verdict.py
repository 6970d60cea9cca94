"""The verdicts on many names from their scores, the number verified by chance, and the table of scores."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from scipy import stats

from medsae_ray.core.analysis.false_discovery import benjamini_hochberg
from medsae_ray.core.artifacts.columns import with_null
from medsae_ray.core.naming.metadata import BestColumn
from medsae_ray.core.naming.prompts import CONTROL_NAME
from medsae_ray.core.naming.scores import LEAST_MASS, LabelScore, Score, beats, folded

VERIFIED, REJECTED, UNTESTED = "verified", "rejected", "untested"
INSUFFICIENT, ABSTAINED, FAILED, DEAD = "insufficient_support", "abstained", "failed", "dead"
VERDICTS = (VERIFIED, REJECTED, UNTESTED, INSUFFICIENT, ABSTAINED, FAILED, DEAD)
"""The verdicts. An untested name cannot be judged; features of the last four have no name."""

MOST_Q = 0.05
"""The upper bound of a verified name's false discovery rate over all names of its source."""
LEAST_LOW = 0.6
"""The lower bound of the 95 % interval of a verified name's AUROC."""
LEAST_HARD = 0.5
"""The lower bound of a verified name's AUROC against look-alikes alone."""
LEAST_CONTROLS = 5
"""The fewest controls of a name that is tested."""
FAILED_SHARE = 0.5
"""The share of unanswered questions above which a name counts as untested."""
BLIND = "the model cannot see this data set: it tells none of its labels from their absence"
LEAST_SHORTCUT = 0.6
"""The AUROC from which metadata can be a shortcut."""
PAPER_PERCENT = 70
"""The minimum detection accuracy of MedSAE."""


@dataclass(frozen=True)
class Trial:
    """The test of one feature's name, with its controls on the same images."""

    feature: int
    name: str
    score: Score
    nulls: tuple[Score, ...] = ()
    """The scores of names of other features."""
    trivial: Score | None = None
    blank_p: float | None = None
    """The p(yes) on an empty image."""
    ceiling: float | None = None
    """The AUROC of the model for the dataset label that the name equals."""
    label: LabelScore = field(default_factory=lambda: LabelScore(None, math.nan))
    metadata: BestColumn = field(default_factory=lambda: BestColumn(None, math.nan, False))
    hard: float = math.nan
    """The AUROC of the name against the hard negatives alone: inactive images near the active ones."""
    nulls_hard: tuple[float, ...] = ()
    """The same AUROC of names of other features."""
    nulls_hard_low: tuple[float, ...] = ()
    """The lower ends of the intervals of `nulls_hard`."""
    others: tuple[Score, ...] = ()
    """The further controls: labels and terms of the packaged list."""
    controls: tuple[str, ...] = ()
    """The names of `nulls`, then those of `others`."""
    hard_low: float = math.nan
    """The lower end of the interval of `hard`."""
    faint: float = math.nan
    """The share of the images with any activation that were left out of the test, as the feature is faint there."""
    doubt: str | None = None
    """The reason why the name cannot be judged, whatever its score."""

    @property
    def rivals(self) -> list[tuple[str, Score]]:
        """The controls with an AUROC, with their names. The trivial name, true of every image, is not among them."""
        names = [*self.controls, *[""] * (len(self.nulls) + len(self.others))]
        named = zip(names, (*self.nulls, *self.others), strict=False)
        return [(name, score) for name, score in named if not np.isnan(score.area.auc)]

    @property
    def shortcut_suspected(self) -> bool:
        """True if metadata explains the activity better than the name does."""
        least = np.nanmax([LEAST_SHORTCUT, self.score.area.auc])
        return self.metadata.beyond_chance and bool(self.metadata.auroc > least)


class Untested(NamedTuple):
    """A feature without a tested name."""

    feature: int
    verdict: str
    name: str | None = None
    n_pos: int = 0
    n_neg: int = 0
    reason: str | None = None


class JudgedName(NamedTuple):
    """The verdict on one name, with its figures."""

    verdict: str
    q: float
    """The false discovery rate over all names of the source (Benjamini & Hochberg 1995), of the larger of two p: that
    of chance, and that of being no better than the best control on the same images."""
    control: str | None = None
    """The control that the name is least sure to beat."""
    control_auroc: float = math.nan
    """The control's AUROC in the better direction."""
    control_p: float = math.nan
    """The one-sided p of the paired comparison with the control."""
    reason: str | None = None
    """The reason why it is not verified; None if it is."""


class ChanceNamer(NamedTuple):
    """The result of a namer that gives each feature the name of another feature, over all its draws."""

    expected_verified: float
    """The number of verified names among as many as were tested."""
    mean_auroc: float
    mean_auroc_hard: float
    """The mean AUROC against hard negatives alone. Inactive images are more often healthy, so that any finding's name
    separates active from inactive a little; hard negatives look like active images without being so."""


class PaperCount(NamedTuple):
    """The count of names with accuracy >= 0.70, as in MedSAE."""

    passed: int
    names: int
    n_low: int
    """The fewest and most images per name."""
    n_high: int
    expected_by_chance: float
    """The expected count if every answer were a coin toss: exact binomial."""


def judge(trials: Sequence[Trial]) -> list[JudgedName]:
    """Return the verdicts of all names of one source, which share one false discovery rate.

    A name has to beat every one of its controls, so the largest of its p is one of all of them together and needs no
    correction for their number (Berger 1982); Benjamini and Hochberg count the names,
    and an undefined p as 1.
    """
    held = [_held(t) for t in trials]
    p_n = np.array([float(np.fmax(t.score.p, h.control_p)) for t, h in zip(trials, held, strict=True)])
    q_n = benjamini_hochberg(np.nan_to_num(p_n, nan=1.0))
    return [_judged(t, h, float(q)) for t, h, q in zip(trials, held, q_n, strict=True)]


def _held(t: Trial) -> JudgedName:
    """Compare a trial with the control that it is least sure to beat."""
    beaten = [(p, name, score) for name, score in t.rivals if (p := beats(t.score, score)) == p]
    if not beaten:
        return JudgedName(REJECTED, math.nan)
    p, name, rival = max(beaten, key=lambda item: (item[0], folded(item[2].area.auc)))
    return JudgedName(REJECTED, math.nan, name or None, folded(rival.area.auc), p)


def _judged(t: Trial, held: JudgedName, q: float) -> JudgedName:
    held = held._replace(q=q)
    if max(t.score.failed, t.score.no_mass) > FAILED_SHARE * (t.score.n_pos + t.score.n_neg):
        return held._replace(verdict=UNTESTED, reason=_unanswered(t.score))
    if np.isnan(t.score.area.auc):
        return held._replace(verdict=UNTESTED, reason="there are no active or no silent images")
    if t.doubt:
        return held._replace(verdict=UNTESTED, reason=t.doubt)
    reason = _against(t, held)
    return held._replace(verdict=REJECTED if reason else VERIFIED, reason=reason)


def _unanswered(score: Score) -> str:
    n = score.n_pos + score.n_neg
    if score.no_mass > FAILED_SHARE * n:
        return f"{score.no_mass} of {n} answers are neither yes nor no: P(yes) + P(no) is below {LEAST_MASS}"
    return f"{score.failed} of {n} questions have no answer"


def _against(t: Trial, held: JudgedName) -> str | None:
    """Return the first failed condition of a verified name; None if all hold. An unknown value (NaN) fails none."""
    area, best = t.score.area, held.control_auroc
    if not area.low > LEAST_LOW:
        return f"the interval of its AUROC reaches down to {area.low:.2f}, {LEAST_LOW} or less"
    if best >= area.auc:
        return f"no better than a control (AUROC {best:.2f})"
    if t.trivial is not None and folded(t.trivial.area.auc) >= area.auc:
        return f"no better than {CONTROL_NAME!r} (AUROC {folded(t.trivial.area.auc):.2f})"
    if t.hard <= LEAST_HARD or t.hard_low <= LEAST_HARD:
        return f"does not tell active images from look-alikes (AUROC {t.hard:.2f})"
    if not held.q < MOST_Q:
        return (
            f"not beyond chance and its best control (AUROC {best:.2f}): q {held.q:.2f}"
            if best == best
            else f"q {held.q:.2f}"
        )
    return None


def chance_namer(trials: Sequence[Trial]) -> ChanceNamer:
    """Judge each draw of random names by the same verdict as the names.

    Draw j gives every feature its j-th random name; the false discovery rate is over the draw; the feature's other
    controls are its controls. Trials that cannot be judged (`Trial.doubt`) are not verified here either. NaN without
    random names.
    """
    draws = max((len(t.nulls) for t in trials), default=0)
    verdicts = [verdict for j in range(draws) for verdict in _draw(trials, j)]
    share = verdicts.count(VERIFIED) / len(verdicts) if verdicts else math.nan
    areas = _mean(null.area.auc for t in trials for null in t.nulls)
    return ChanceNamer(share * len(trials), areas, _mean(area for t in trials for area in t.nulls_hard))


def _mean(areas: Iterable[float]) -> float:
    """Return the mean of the defined ones; NaN if none is."""
    known = [area for area in areas if not np.isnan(area)]
    return float(np.mean(known)) if known else math.nan


def paper_count(scores: Sequence[Score]) -> PaperCount:
    """Return MedSAE's count, with the number of images and the expectation by chance."""
    sizes_S = np.array([s.n_pos + s.n_neg for s in scores], dtype=np.int64)
    right_S = np.array(
        [round(s.accuracy * n) if n else 0 for s, n in zip(scores, sizes_S, strict=True)], dtype=np.int64
    )
    least_S = -(-PAPER_PERCENT * sizes_S // 100)
    expected = float(np.where(sizes_S > 0, stats.binom.sf(least_S - 1, sizes_S, 0.5), 0.0).sum())
    passed = int(((right_S >= least_S) & (sizes_S > 0)).sum())
    sizes = sizes_S.tolist()
    return PaperCount(passed, len(scores), min(sizes, default=0), max(sizes, default=0), expected)


def scores() -> pa.Schema:
    """One row per feature and source of its name. Values that were not tested, or do not exist, are null."""
    required = [("feature", pa.int32()), ("source", pa.string())]
    counts = [(c, pa.int32()) for c in ("n_pos", "n_neg", "failed", "low_mass")]
    real = [(c, pa.float64()) for c in _REAL]
    return pa.schema(
        [pa.field(c, kind, nullable=False) for c, kind in required]
        + [pa.field("name", pa.string()), pa.field("verdict", pa.string(), nullable=False)]
        + [pa.field(c, kind, nullable=False) for c, kind in counts]
        + [pa.field(c, kind) for c, kind in real]
        + [pa.field("reason", pa.string()), pa.field("best_control", pa.string())]
        + [pa.field("best_label", pa.string()), pa.field("label_auroc", pa.float64())]
        + [pa.field("best_metadata", pa.string()), pa.field("metadata_auroc", pa.float64())]
        + [pa.field("shortcut_suspected", pa.bool_(), nullable=False)]
    )


def scores_table(source: str, trials: Sequence[Trial], untested: Iterable[Untested] = ()) -> pa.Table:
    """Return the scores of one source, by feature."""
    rows = [_row(t, j) for t, j in zip(trials, judge(trials), strict=True)] + [_untested_row(u) for u in untested]
    rows = [{"source": source, **row} for row in sorted(rows, key=lambda row: row["feature"])]
    return pa.Table.from_pylist([with_null(row) for row in rows], schema=scores())


_REAL = (
    "auroc", "low", "high", "auroc_hard", "balanced_accuracy", "accuracy", "accuracy_low", "accuracy_high", "p", "q",
    "null_mean", "null_max", "gain", "trivial", "blank_p", "ceiling", "hard_low", "control_auroc", "control_p",
    "faint",
)  # fmt: skip


def _draw(trials: Sequence[Trial], j: int) -> list[str]:
    return [judged.verdict for judged in judge([_with_name(t, j) for t in trials if len(t.nulls) > j])]


def _with_name(t: Trial, j: int) -> Trial:
    """Return the trial of a feature's j-th random name, compared with the other controls."""
    controls = tuple(name for k, name in enumerate(t.controls) if k != j)
    hard, low = t.nulls_hard[j] if len(t.nulls_hard) > j else math.nan, math.nan
    if len(t.nulls_hard_low) > j:
        low = t.nulls_hard_low[j]
    return replace(
        t, score=t.nulls[j], nulls=t.nulls[:j] + t.nulls[j + 1 :], controls=controls, hard=hard, hard_low=low
    )


def _row(t: Trial, judged: JudgedName) -> dict[str, Any]:
    s, areas = t.score, [null.area.auc for null in t.nulls if not np.isnan(null.area.auc)]
    null_mean = _mean(areas)
    return {
        "feature": t.feature,
        "name": t.name,
        "verdict": judged.verdict,
        **{key: getattr(s, key) for key in ("n_pos", "n_neg", "failed", "low_mass")},
        "auroc": s.area.auc,
        "low": s.area.low,
        "high": s.area.high,
        "auroc_hard": t.hard,
        "hard_low": t.hard_low,
        **{key: getattr(s, key) for key in ("balanced_accuracy", "accuracy", "accuracy_low", "accuracy_high", "p")},
        "q": judged.q,
        "reason": judged.reason,
        "best_control": judged.control,
        "control_auroc": judged.control_auroc,
        "control_p": judged.control_p,
        "null_mean": null_mean,
        "null_max": max(areas, default=math.nan),
        "gain": s.area.auc - null_mean,
        "trivial": None if t.trivial is None else t.trivial.area.auc,
        "blank_p": t.blank_p,
        "ceiling": t.ceiling,
        "faint": t.faint,
        "best_label": t.label.label,
        "label_auroc": t.label.auroc,
        "best_metadata": t.metadata.name,
        "metadata_auroc": t.metadata.auroc,
        "shortcut_suspected": t.shortcut_suspected,
    }


def _untested_row(u: Untested) -> dict[str, Any]:
    counts = {"n_pos": u.n_pos, "n_neg": u.n_neg, "failed": 0, "low_mass": 0}
    said = {"feature": u.feature, "name": u.name, "verdict": u.verdict, "reason": u.reason}
    return said | counts | {"shortcut_suspected": False}
