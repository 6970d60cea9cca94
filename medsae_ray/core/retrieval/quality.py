"""How good a search is: the label precision of what it finds, and the cosine of embeddings as in SAIL.

An image without a known label counts neither for nor against: precision is a mean over the known of the first n.
Average precision at ten is the mean, over the found images with the label, of the precision at their places, divided by
as many as there could have been.

Legend: R references, P places of a list, N images, L labels, B resamples.
"""

from typing import Any, NamedTuple

import numpy as np

from medsae_ray.core.analysis.values import Floats
from medsae_ray.core.artifacts.columns import nan_to_null
from medsae_ray.core.artifacts.retrieval import FIGURES
from medsae_ray.core.retrieval.nearest import Nearest

PLACES, FEW = 10, 5
LEAST = 10
"""The fewest references of a figure."""
RESAMPLES = 1000


class Judge(NamedTuple):
    """What found images are judged by."""

    y_NL: Floats
    """The labels; NaN is unknown."""
    reference_R: np.ndarray
    others: int
    """The patients besides its own among whom a reference is searched for."""
    chance_L: Floats
    relevant_L: np.ndarray
    """The patients that have an image with the label."""
    weight_BR: Floats
    """How often each reference, which is a patient, comes in each resample."""
    level: float

    def rows(
        self, method: str, k: int | None, found: Nearest, has_R: np.ndarray, labels: list[str]
    ) -> list[dict[str, Any]]:
        """Return the rows of one search: of the cosine, then of each label."""
        cosine_R = found.cosine_LP[:, :FEW].mean(axis=1) if self.others >= FEW else np.full(len(has_R), np.nan)
        base = {"method": method, "k": k, "left_out": int((~has_R).sum())}
        rows = [base | {"label": None, "chance": None} | self._row(has_R, {"cosine": cosine_R})]
        for number, label in enumerate(labels):
            with_label_R = has_R & (self.y_NL[self.reference_R, number] == 1)
            chance = nan_to_null(float(self.chance_L[number]))
            figures = self._precisions(found, number)
            rows.append(base | {"label": label, "chance": chance} | self._row(with_label_R, figures))
        return rows

    def _precisions(self, found: Nearest, label: int) -> dict[str, Floats]:
        y_RP = np.where(found.row_LP >= 0, self.y_NL[found.row_LP, label], np.nan)
        few, all_ten = _precision(y_RP[:, :FEW]), _precision(y_RP)
        mean = average_precision(y_RP, int(self.relevant_L[label]))
        nothing = np.full(len(y_RP), np.nan)
        return {
            "precision_5": few if self.others >= FEW else nothing,
            "precision_10": all_ten if self.others >= PLACES else nothing,
            "average_precision": mean if self.others >= PLACES else nothing,
        }

    def _row(self, chosen_R: np.ndarray, figures: dict[str, Floats]) -> dict[str, Any]:
        row: dict[str, Any] = {f"{figure}{end}": None for figure in FIGURES for end in ("", "_low", "_high")}
        row |= {"references": int(chosen_R.sum()), "lacking": None}
        if row["references"] < LEAST:
            return row | {"lacking": f"{row['references']} references, {LEAST} are needed"}
        for name, value_R in figures.items():
            row |= {
                f"{name}{end}": value
                for end, value in zip(("", "_low", "_high"), self._mean(value_R, chosen_R), strict=True)
            }
        if all(row[name] is None for name in figures):
            few = self.others < FEW
            return row | {"lacking": f"{self.others} other patients" if few else "no found image has a known label"}
        return row

    def _mean(self, value_R: Floats, chosen_R: np.ndarray) -> tuple[float | None, float | None, float | None]:
        """Return the mean and the percentiles of its resamples; None with fewer than `LEAST` values."""
        known = chosen_R & np.isfinite(value_R)
        if known.sum() < LEAST:
            return None, None, None
        weight_BR = self.weight_BR[:, known]
        total_B = weight_BR.sum(axis=1)
        mean_B = (weight_BR @ value_R[known])[total_B > 0] / total_B[total_B > 0]
        low, high = np.quantile(mean_B, [(1 - self.level) / 2, (1 + self.level) / 2])
        return float(value_R[known].mean()), float(low), float(high)


def resamples(references: int, seed: int) -> Floats:
    """Return how often each reference comes in each bootstrap resample [B, R]."""
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, max(references, 1), (RESAMPLES, references))
    counted = [np.bincount(row, minlength=references) for row in drawn]
    return np.array(counted, dtype=np.float64).reshape(RESAMPLES, references)


def prevalence(y_NL: Floats, patient_N: np.ndarray) -> Floats:
    """Return the chance [L] that a random image of a random patient has the label, of those that are known."""
    shares = []
    for y_N in y_NL.T:
        known = np.isfinite(y_N)
        images, having = (np.bincount(patient_N[known], weight) for weight in (None, y_N[known]))
        shares.append((having[images > 0] / images[images > 0]).mean() if known.any() else np.nan)
    return np.array(shares, dtype=np.float64)


def average_precision(y_RP: Floats, relevant: int) -> Floats:
    """Return the average precision of each list; NaN without a known image. `relevant` images have the label."""
    known_RP = np.isfinite(y_RP)
    hit_RP = y_RP == 1
    rank_RP = np.cumsum(known_RP, axis=1)
    precision_RP = np.cumsum(hit_RP, axis=1) / np.maximum(rank_RP, 1)
    could_R = np.minimum(known_RP.sum(axis=1), max(relevant, 1))
    total_R = (precision_RP * hit_RP).sum(axis=1)
    return np.where(known_RP.any(axis=1), total_R / np.maximum(could_R, 1), np.nan)


def _precision(y_RP: Floats) -> Floats:
    known_R = np.isfinite(y_RP).sum(axis=1)
    return np.where(known_R > 0, (y_RP == 1).sum(axis=1) / np.maximum(known_R, 1), np.nan)
