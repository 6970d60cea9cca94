"""The control names that are asked on a name's images: names that it has to beat, with other meanings.

A name cannot beat its synonym, and its opposite is the name with its sign turned: neither is a control. Four signs show
these: a common word; labels of the dataset that go together or exclude each other; labels that are true of the feature
by their annotation; and a common heading of the packaged list of terms.

Legend: N images, L labels.
"""

import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache

import numpy as np

from medsae_ray.core.analysis.auroc import auroc
from medsae_ray.core.analysis.values import Floats
from medsae_ray.core.naming.plan import Concept, normalised_name, random_names
from medsae_ray.core.naming.prompts import CONTROL_NAME
from medsae_ray.core.naming.vocabulary import CHEST

CONTROLS = 8
"""The most controls of a name: names of other features, then labels, which are asked of the pool in any case, then
terms of the packaged list."""
RELATED = 0.25
"""The correlation of annotations, either way, above which two labels are not controls of each other."""
FITTING = 0.15
"""The distance from 0.5 of a label's AUROC for a feature, either way, above which it is not a control of its name."""
STEM = 5
"""The letters by which two words are the same: opacity and opacities, nodule and nodular."""
_PLAIN_WORDS = frozenset(
    {"a", "an", "and", "at", "by", "for", "from", "in", "into", "no", "not", "of", "on", "or", "over", "than", "the"}
    | {"to", "under", "with", "without", "left", "right", "both", "bilateral", "upper", "lower", "mid", "middle"}
    | {"large", "small", "image", "sign", "view"}
)
"""The words that two names may share without being alike."""


@dataclass(frozen=True)
class ControlRules:
    """The settings behind the controls of every name of a run."""

    seed: int
    random: int
    """The most names of other features."""
    labels: tuple[str, ...] = ()
    related: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """The labels that go with each label or exclude it."""


def controls_of(
    concept_of: Mapping[int, Concept], feature: int, rules: ControlRules, fitting: Collection[str] = ()
) -> tuple[list[Concept], int]:
    """Return up to `CONTROLS` controls of a feature's name, and the number of them, the first ones, that are names of
    other features. The labels `fitting` are not controls of this feature (`fitting_labels`).

    No two of them are the same in words. Labels and terms have one order for all features, so that many features share
    them and each is asked once per image.
    """
    own = concept_of[feature].name
    kin = _kin(own, rules) | set(fitting)
    chosen: list[Concept] = []

    def take(candidates: Iterable[Concept], most: int) -> None:
        for concept in candidates:
            if len(chosen) >= most:
                return
            taken = {normalised_name(c.name) for c in chosen}
            alike = any(_share_a_word(concept.name, name, rules.labels) for name in (own, CONTROL_NAME))
            alike = alike or bool(_labels_in(concept.name, rules) & kin)
            if not alike and normalised_name(concept.name) not in taken:
                chosen.append(concept)

    take(random_names(concept_of, feature, rules.seed, rules.random + CONTROLS), rules.random)
    others = len(chosen)
    take(map(Concept, _shuffled(rules.labels, rules.seed)), max(CONTROLS, others))
    terms = [term for term in _shuffled(tuple(_headings()), rules.seed) if _headings()[term] not in _headings_of(own)]
    take(map(Concept, terms), max(CONTROLS, others))
    return chosen, others


def related_labels(y_NL: Floats, labels: Sequence[str]) -> dict[str, frozenset[str]]:
    """Return label -> itself and the labels whose annotations correlate with it by `RELATED` or more, either way.

    `y_NL` is 1, 0 or NaN (unknown); two labels are compared where both are known.
    """
    found: dict[str, set[str]] = {label: {label} for label in labels}
    for (i, a), (j, b) in itertools.combinations(enumerate(labels), 2):
        if abs(_correlation(y_NL[:, i], y_NL[:, j])) >= RELATED:
            found[a].add(b)
            found[b].add(a)
    return {label: frozenset(others) for label, others in found.items()}


def fitting_labels(y_nL: Floats, active_n: Floats, labels: Sequence[str]) -> frozenset[str]:
    """Return labels whose annotation separates a feature's active images from its inactive ones, either way: they are
    true of it. `y_nL` and `active_n` are those of the feature's test images."""
    return frozenset(label for j, label in enumerate(labels) if abs(_area(y_nL[:, j], active_n) - 0.5) >= FITTING)


def stems(text: str) -> frozenset[str]:
    """Return the beginnings of a text's words except plain ones, or of these if it has no other."""
    return frozenset(word[:STEM] for word in _words(text))


def label_in(name: str, labels: Sequence[str]) -> list[str]:
    """Return the labels in a name, alone or with more words: "Edema" is in "pulmonary edema".

    Words of two labels are told apart though they begin alike: "Pneumonia" is not in "pneumothorax".
    """
    apart, said = _told_apart(tuple(labels)), _words(name)
    return [label for label in labels if all(any(_same(a, b, apart) for b in said) for a in _words(label))]


def _share_a_word(a: str, b: str, labels: Sequence[str]) -> bool:
    apart = _told_apart(tuple(labels))
    return any(_same(one, other, apart) for one in _words(a) for other in _words(b))


def _same(a: str, b: str, apart: frozenset[str]) -> bool:
    return a == b or (a[:STEM] == b[:STEM] and not {a, b} <= apart)


@lru_cache(100_000)
def _words(text: str) -> frozenset[str]:
    """Return a text's words except plain ones, or these if it has no other."""
    words = frozenset(normalised_name(text).split())
    return words - _PLAIN_WORDS or words


@lru_cache(100)
def _told_apart(labels: tuple[str, ...]) -> frozenset[str]:
    """Return the words of labels that begin like another word of a label without being it."""
    words = {word for label in labels for word in _words(label)}
    return frozenset(a for a in words if any(a != b and a[:STEM] == b[:STEM] for b in words))


def _labels_in(name: str, rules: ControlRules) -> set[str]:
    return set(label_in(name, rules.labels))


def _kin(name: str, rules: ControlRules) -> set[str]:
    """Return the labels that a name's own labels go with or exclude."""
    return {other for label in _labels_in(name, rules) for other in rules.related.get(label, {label})}


def _area(label_n: Floats, active_n: Floats) -> float:
    """Return the AUROC of a label's annotation for activity; 0.5 if no annotation is known."""
    known_n = ~np.isnan(label_n)
    area = auroc(label_n[known_n], active_n[known_n]).auc
    return 0.5 if np.isnan(area) else area


def _correlation(a_N: Floats, b_N: Floats) -> float:
    both = ~np.isnan(a_N) & ~np.isnan(b_N)
    a_N, b_N = a_N[both], b_N[both]
    if not both.any() or not a_N.std() or not b_N.std():
        return 0.0
    return float(np.corrcoef(a_N, b_N)[0, 1])


@cache
def _headings() -> dict[str, str]:
    """Return the heading of each term of the packaged list."""
    return dict(_read(CHEST.read_text(encoding="utf-8")))


def _read(text: str) -> Iterator[tuple[str, str]]:
    heading = ""
    for line in map(str.strip, text.splitlines()):
        if line.startswith("#"):
            heading = line
        elif line:
            yield line, heading


def _headings_of(name: str) -> set[str]:
    """Return the headings with a term that shares a word with the name."""
    said = stems(name)
    found = {heading for term, heading in _headings().items() if stems(term) & said}
    return found if len(found) < len(set(_headings().values())) else set()


@cache
def _shuffled(texts: tuple[str, ...], seed: int) -> list[str]:
    return [texts[place] for place in np.random.default_rng([seed, 4]).permutation(len(texts))]
