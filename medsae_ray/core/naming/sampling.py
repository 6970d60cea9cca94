"""The images that a feature is named from, and those that its name is tested on.

A sample depends on the feature's number, its activations, the images and the seed: not on other features, shards or
the order of rows.

A sparse code has many small values that carry little of an image (they share its remainder among features). An image on
which a feature is *faint*, below a share of its strength, counts neither as active nor as inactive.

Legend: N images, A images on which the feature is active.
"""

import math
from itertools import zip_longest
from typing import NamedTuple

import numpy as np
from numpy.random import Generator

from medsae_ray.core.analysis.values import Bools, Floats, Ints
from medsae_ray.core.naming.candidates import SUFFICIENT, ActiveRows, Candidates, ImageSample, unsupported
from medsae_ray.errors import ArtifactError

BINS = 5
HARD = "hard"
"""The role of the inactive images nearest to active ones."""
TOP_SHARE, TOP_FLOOR = 0.01, 15
"""The strongest images to choose from: 1 %, but at least 15 if these are at most a quarter."""
MIDDLE = (0.5, 0.95)
"""The quantiles of the non-zero activations."""
EQUAL_SHARE, HARD_SHARE = 0.4, 0.3
"""The shares of the negatives; the rest is matched."""
STRENGTH = 0.99
"""The quantile of a feature's non-zero activations that is its strength: the largest is one image's."""
_NAMING, _DETECTION, _CHECK = 0, 1, 3
"""The streams of random numbers; 2 is that of the control names."""


class NamingDesign(NamedTuple):
    """The number of images of each role: "top", "middle" (group A) and "contrast" (group B)."""

    top: int
    middle: int
    contrasts: int
    faint: float
    """The share of the feature's strength below which an image is not taken."""


class DetectionDesign(NamedTuple):
    """The number of images of each role: "bin0" ... "bin4" (weakest to strongest), and of inactive ones "equal" (in
    strength of the whole code), "hard" (near in the encoder's space) and "matched" (in metadata, then in strength).

    A random inactive image is more often healthy, with hardly any active feature, so that the name of any finding
    separates it from the active ones. With equal strength only the name's own feature separates them.
    """

    positives: int
    negatives: int
    pool: int
    """The images that all features draw from before any other."""
    support: int
    """The fewest patients with, and without, an active image."""
    faint: float
    """The share of the feature's strength below which an image is not taken."""


CHECK = DetectionDesign(positives=25, negatives=25, pool=200, support=8, faint=0.0)
"""The images of the split of naming on which names are first tried."""


def naming_sample(images: Candidates, feature: int, seed: int, design: NamingDesign) -> ImageSample:
    """Choose group A and group B for one feature.

    Images on which it is faint are in neither. Top: of the strongest images (one per patient), the strongest, then the
    one farthest from those chosen. Middle: random ones between `MIDDLE`; if there are too few, the strongest left.
    Contrasts: for each image of group A in turn its nearest image with activation 0 of a patient not yet used.
    """
    rng = np.random.default_rng([seed, feature, _NAMING])
    active = images.active(feature)
    best = _strongest(images, _clear(active, design.faint))
    n, wanted = len(best.place_A), design.top + design.middle
    top = _diverse(images, best.place_A[: _top_count(n, design.top)], design.top)
    group_a = np.concatenate([top, _middle(best.place_A, top, design.middle, rng)])
    used = np.zeros(images.patients, dtype=bool)
    used[images.patient_N[group_a]] = True
    free_N = _inactive(images, active) & ~used[images.patient_N]
    inactive = int(np.count_nonzero(np.bincount(images.patient_N[free_N])))
    if n < wanted or inactive < design.contrasts:
        return unsupported(feature, n, inactive)
    group_b = images.claim_neighbours(group_a, np.flatnonzero(free_N), design.contrasts)
    roles = ["top"] * design.top + ["middle"] * design.middle + ["contrast"] * len(group_b)
    places = np.concatenate([group_a, group_b])
    return ImageSample(feature, SUFFICIENT, images.row_N[places], roles, _values(active, places), n, inactive)


def detection_sample(images: Candidates, feature: int, seed: int, design: DetectionDesign) -> ImageSample:
    """Choose positives and negatives for one feature, from the shared pool and, if it lacks images, from outside it.

    Within the pool images are drawn at random for each feature; those from outside have one order for all features, so
    that two features that need more tend to need the same. Raises ArtifactError if a patient has two images.
    """
    free_N = np.ones(len(images), dtype=bool)
    return _test_sample(images, feature, free_N, design, (seed, feature, _DETECTION))


def check_sample(images: Candidates, feature: int, seed: int, free_N: Bools, faint: float) -> ImageSample:
    """Choose few images as `detection_sample` does, of the split that names are written from: `free_N` marks those of
    patients from whom the name was not written."""
    return _test_sample(images, feature, free_N, CHECK._replace(faint=faint), (seed, feature, _CHECK))


def _test_sample(
    images: Candidates, feature: int, free_N: Bools, design: DetectionDesign, stream: tuple[int, int, int]
) -> ImageSample:
    if images.patients < len(images):
        raise ArtifactError("detection needs one image per patient: its intervals assume independent images")
    rng, lit = np.random.default_rng(stream), images.active(feature)
    silent_N = _inactive(images, lit) & free_N
    active = _among(_clear(lit, design.faint), free_N)
    counts = len(active.place_A), int(silent_N.sum())
    faint = int(free_N[lit.place_A].sum()) - counts[0]
    if min(counts) < max(design.support, 1):
        return unsupported(feature, *counts, faint)
    bins = _bins(images, active, design, rng)
    drawn = [(f"bin{b}", place) for b, places in enumerate(bins) for place in places.tolist()]
    anchors = np.array([p for turn in zip_longest(*(b.tolist() for b in bins)) for p in turn if p is not None])
    negatives = _Negatives(images, design.pool, silent_N)
    drawn += negatives.draw(anchors, design.negatives)
    places = np.array([place for _, place in drawn], dtype=np.int64)
    return ImageSample(
        feature,
        SUFFICIENT,
        images.row_N[places],
        [role for role, _ in drawn],
        _values(active, places),
        *counts,
        unmatched=negatives.unmatched,
        faint=faint,
    )


class _Negatives:
    """The draw of images with activation 0, no image twice."""

    def __init__(self, images: Candidates, pool: int, free_N: Bools) -> None:
        self.images, self.pool, self.free_N = images, pool, free_N
        self.unmatched = 0

    def draw(self, anchors: Ints, count: int) -> list[tuple[str, int]]:
        """Return (role, place) of `count` negatives; fewer if there are no more images.

        `anchors` are the positives, one of each bin in turn; each of them takes a negative in its turn.
        """
        equal, hard = round(EQUAL_SHARE * count), round(HARD_SHARE * count)
        turns = [int(anchors[turn % len(anchors)]) for turn in range(count)]
        drawn = [(HARD, place) for place in self._hard(anchors, hard).tolist()]
        drawn += [("equal", place) for anchor in turns[hard : hard + equal] for place in self._equal(anchor)]
        for anchor in turns[hard + equal :]:
            drawn += self._matched(anchor)
        return drawn

    def _hard(self, anchors: Ints, count: int) -> Ints:
        """Choose neighbours of the anchors in the pool, and outside it only if the pool has too few images left."""
        free = np.flatnonzero(self.free_N)
        inside = self.images.order_N[free] < self.pool
        more = _next(self.images, free[~inside], count - int(inside.sum()))
        return self._use(self.images.claim_neighbours(anchors, np.concatenate([free[inside], more]), count))

    def _equal(self, anchor: int, among_N: Bools | bool = True) -> list[int]:
        """Choose the image whose code is nearest to the anchor's in strength, of the pool if possible, or none."""
        free = np.flatnonzero(among_N & self.free_N)
        inside = free[self.images.order_N[free] < self.pool]
        choice = inside if len(inside) else free
        away = np.abs(self.images.strength_N[choice] - self.images.strength_N[anchor])
        return [int(place) for place in self._use(choice[np.lexsort((self.images.order_N[choice], away))[:1]])]

    def _matched(self, anchor: int) -> list[tuple[str, int]]:
        stratum_N = self.images.stratum_N
        alike = [] if stratum_N is None else self._equal(anchor, stratum_N == stratum_N[anchor])
        if alike:
            return [("matched", alike[0])]
        self.unmatched += 1
        return [("equal", place) for place in self._equal(anchor)]

    def _use(self, places: Ints) -> Ints:
        self.free_N[places] = False
        return places


def _draw(images: Candidates, among: Ints, count: int, pool: int, rng: Generator) -> Ints:
    """Draw `count` of the places: random ones of the pool first, then the next in the shared order."""
    inside = images.order_N[among] < pool
    chosen = rng.choice(among[inside], min(count, int(inside.sum())), replace=False)
    return np.concatenate([chosen, _next(images, among[~inside], count - len(chosen))])


def _next(images: Candidates, among: Ints, count: int) -> Ints:
    """Return the first `count` of the places in the shared order."""
    return among[np.argsort(images.order_N[among])][:count] if count > 0 else among[:0]


def _bins(images: Candidates, active: ActiveRows, design: DetectionDesign, rng: Generator) -> list[Ints]:
    """Draw positives of each of the equal-count bins, weakest bin first."""
    ascending = active.place_A[np.argsort(active.value_A, kind="stable")]
    counts = [len(part) for part in np.array_split(np.arange(design.positives), BINS)]
    bins = zip(np.array_split(ascending, BINS), counts, strict=True)
    return [_draw(images, np.sort(members), count, design.pool, rng) for members, count in bins]


def _clear(active: ActiveRows, faint: float) -> ActiveRows:
    """Return the images on which the feature is not faint."""
    if not len(active.value_A) or not faint:
        return active
    kept_A = active.value_A >= faint * np.quantile(active.value_A, STRENGTH)
    return ActiveRows(active.place_A[kept_A], active.value_A[kept_A])


def _among(active: ActiveRows, free_N: Bools) -> ActiveRows:
    free_A = free_N[active.place_A]
    return ActiveRows(active.place_A[free_A], active.value_A[free_A])


def _strongest(images: Candidates, active: ActiveRows) -> ActiveRows:
    """Return the strongest image of each patient, strongest first."""
    order = np.argsort(-active.value_A, kind="stable")
    _, first = np.unique(images.patient_N[active.place_A[order]], return_index=True)
    order = order[np.sort(first)]
    return ActiveRows(active.place_A[order], active.value_A[order])


def _top_count(n: int, top: int) -> int:
    return max(top, math.ceil(TOP_SHARE * n), min(TOP_FLOOR, math.ceil(n / 4)))


def _diverse(images: Candidates, places: Ints, count: int) -> Ints:
    """Choose by greedy max-min: the first place, then the one farthest from its nearest chosen one (Gonzalez 1985)."""
    e_AD = images.e_ND[places].astype(np.float64)
    chosen, nearest_A = [], np.full(len(places), np.inf)
    for _ in range(min(count, len(places))):
        chosen.append(int(nearest_A.argmax()))
        nearest_A = np.minimum(nearest_A, ((e_AD - e_AD[chosen[-1]]) ** 2).sum(axis=1))
        nearest_A[chosen] = -1.0
    return places[np.array(chosen, dtype=np.int64)]


def _middle(strongest: Ints, taken: Ints, count: int, rng: Generator) -> Ints:
    n = len(strongest)
    band = strongest[math.floor((1 - MIDDLE[1]) * n) : math.ceil((1 - MIDDLE[0]) * n)]
    band = band[~np.isin(band, taken)]
    chosen = rng.choice(band, min(count, len(band)), replace=False)
    rest = strongest[~np.isin(strongest, np.concatenate([taken, chosen]))]
    return np.concatenate([chosen, rest[: count - len(chosen)]])


def _inactive(images: Candidates, active: ActiveRows) -> Bools:
    inactive_N = np.ones(len(images), dtype=bool)
    inactive_N[active.place_A] = False
    return inactive_N


def _values(active: ActiveRows, places: Ints) -> Floats:
    """Return activations at `places`, 0 where the feature is inactive."""
    if not len(active.place_A):
        return np.zeros(len(places))
    at = np.minimum(np.searchsorted(active.place_A, places), len(active.place_A) - 1)
    return np.where(active.place_A[at] == places, active.value_A[at], 0.0)
