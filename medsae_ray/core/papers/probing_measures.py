"""The measures of a run that stand beside SAIL's figures of monosemanticity, probes and retrieval."""

import math
from collections.abc import Sequence

import numpy as np

from medsae_ray.core.papers.evidence import Evidence, Lacking, Measured, Row, known
from medsae_ray.core.probing.shares import DENSE, Share, recovery

BEST = 10
"""The best features, by their score, of which C and S are averaged."""


def mono_score(evidence: Evidence, among: str) -> Measured:
    """Return the mean score M of the best features."""
    found = evidence.summary["monosemanticity"]["spaces"]["sae"]["score"]
    value = known(found["found"][among], f"it has {found['units']} features with a score, fewer than that")
    null = found["null"][among]
    return Measured(value, found["units"], "features", note="" if null is None else f"{null:.3f} by chance")


def mono_part(evidence: Evidence, part: str) -> Measured:
    """Return the mean of a part of the score over the ten best features, the coherence above its null."""
    best = sorted(_scored(evidence), key=lambda row: -row["score"])[:BEST]
    if len(best) < BEST:
        raise Lacking(f"it has {len(best)} features with a score, fewer than {BEST}")
    null = evidence.summary["monosemanticity"]["coherence_null"] if part == "coherence" else 0.0
    return Measured(float(np.mean([max(0.0, row[part] - null) for row in best])), BEST, "features")


def mono_scored(evidence: Evidence) -> Measured:
    """Count the features with a score."""
    return Measured(len(_scored(evidence)), evidence.features["sae"]["width"], "features")


def mono_above(evidence: Evidence) -> Measured:
    """Count the features whose coherence is above its null."""
    rows, null = _scored(evidence), evidence.summary["monosemanticity"]["coherence_null"]
    return Measured(sum(row["coherence"] > null for row in rows), len(rows), "features with a score")


def mono_null(evidence: Evidence, images: int) -> Measured:
    """Return SAIL's estimate of the coherence of random images, for subsets of the run's size."""
    found = evidence.summary["monosemanticity"]
    if found["images"] != images:
        raise Lacking(f"what.monosemanticity.images is {found['images']}")
    value = known(found["coherence_null_subsets"], "no label is known of its held-out images")
    return Measured(value, note=f"± {found['coherence_null_sd']:.3f}, and {found['coherence_null']:.3f} over all pairs")


def mean(evidence: Evidence, kind: str, n: int | None) -> Measured:
    """Return the mean AUROC over the paper's targets of probes on n columns of a kind, bootstrapped over targets."""
    auroc_T, dense_T = _targets(evidence, kind, n)
    found = recovery(auroc_T, np.ones(len(auroc_T))).ratio  # over 1, so that it is the mean itself
    return _of(found, len(dense_T))


def counted(evidence: Evidence) -> Measured:
    """Count the paper's targets that all dimensions tell."""
    found = len(_targets(evidence, "dimensions", None)[0])
    probed = {row["target"] for row in evidence.recovery} & set(evidence.targets)
    return Measured(found, len(probed), "of the paper's targets that it has")


def ratio(evidence: Evidence, kind: str, n: int) -> Measured:
    """Return the mean AUROC of probes on n columns over that of all dimensions, with the share above chance."""
    found = recovery(*_targets(evidence, kind, n))
    return _of(found.ratio, found.targets)._replace(note=f"{found.above_chance.value:.3f} above chance")


def fewer(evidence: Evidence, n: int) -> Measured:
    """Return the share of an embedding's dimensions that n features save."""
    return Measured(1 - n / evidence.sae["d_in"])


def probe(evidence: Evidence, kind: str, n: int | None, target: str) -> Measured:
    """Return the AUROC of a target's probe with its interval over test patients."""
    rows = [row for row in evidence.recovery if row["target"] == target]
    if not rows:
        raise Lacking(f"no label or metadata of its training patients is {target}")
    if untested := next((row["untested"] for row in rows if row["untested"] and row["kind"] in (None, kind)), None):
        raise Lacking(f"{target}: {untested}")
    found = [row for row in rows if row["kind"] == kind and row["n"] == n]
    if not found or found[0]["auroc"] is None:
        raise Lacking(f"{target}: no probe of that many columns")
    row = found[0]
    return Measured(row["auroc"], row["positives"] + row["negatives"], "test patients", row["low"], row["high"])


def cosine(evidence: Evidence, method: str, k: int | None) -> Measured:
    """Return the mean cosine of whole embeddings with the five nearest images by a fingerprint."""
    row = _search(evidence, method, k)
    return Measured(row["cosine"], row["references"], "test patients", row["cosine_low"], row["cosine_high"])


def crossing(evidence: Evidence) -> Measured:
    """Return the largest k at which features find images that are nearer than those by as many dimensions."""
    ks = sorted({row["k"] for row in evidence.retrieval if row["method"] == "sparse" and row["k"]})
    pairs = [(k, *(_cosine(evidence, method, k) for method in ("sparse", "dense"))) for k in ks]
    both = [(k, sparse, dense) for k, sparse, dense in pairs if not math.isnan(sparse + dense)]
    if not both:
        raise Lacking("no size has a figure of both")
    return Measured(max((k for k, sparse, dense in both if sparse > dense), default=0), len(both), "sizes")


def _scored(evidence: Evidence) -> list[Row]:
    return [row for row in evidence.monosemanticity if row["space"] == "sae" and row["score"] is not None]


def _targets(evidence: Evidence, kind: str, n: int | None) -> tuple[list[float], list[float]]:
    """Return the AUROCs of the paper's targets that all dimensions tell, of n columns of a kind and of all of them."""
    dense, own = _aurocs(evidence.recovery, "dimensions", None), _aurocs(evidence.recovery, kind, n)
    names = [target for target in evidence.targets if dense.get(target, 0) > DENSE]
    if not names:
        raise Lacking(f"all dimensions tell none of the paper's targets with an AUROC above {DENSE}")
    if not own:
        asked = "what.recovery.random_weights" if kind == "random_weights" else f"n = {n} in what.recovery.sizes"
        raise Lacking(f"the recipe has no {asked}" if n or kind == "random_weights" else "no probe could be fitted")
    both = [(own[name], dense[name]) for name in names if name in own]
    if not both:
        raise Lacking("none of the paper's targets has such a probe")
    return [pair[0] for pair in both], [pair[1] for pair in both]


def _aurocs(rows: Sequence[Row], kind: str, n: int | None) -> dict[str, float]:
    chosen = (row for row in rows if row["kind"] == kind and row["n"] == n and row["auroc"] is not None)
    return {row["target"]: row["auroc"] for row in chosen}


def _of(share: Share, targets: int) -> Measured:
    low, high = (None if math.isnan(end) else end for end in (share.low, share.high))
    return Measured(share.value, targets, "targets", low, high)


def _search(evidence: Evidence, method: str, k: int | None) -> Row:
    rows = (row for row in evidence.retrieval if row["method"] == method and row["k"] == k and row["label"] is None)
    row: Row = known(next(rows, None), f"what.retrieval.ks has no {k}")
    known(row["cosine"], row["lacking"] or "no reference has such a fingerprint")
    return row


def _cosine(evidence: Evidence, method: str, k: int) -> float:
    try:
        return float(_search(evidence, method, k)["cosine"])
    except Lacking:
        return math.nan


MEASURES = {
    one.__name__: one
    for one in (
        mono_score,
        mono_part,
        mono_scored,
        mono_above,
        mono_null,
        mean,
        counted,
        ratio,
        fewer,
        probe,
        cosine,
        crossing,
    )
}
