"""The open questions: each distinct one once, all about one image together, none that is answered.

An answer is kept under an address, the hash of all that it depends on.
"""

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, Self

import numpy as np

from medsae_ray.core.analysis.values import Ints
from medsae_ray.core.naming.prompts import CONTROL_NAME

ADDRESS_DIGITS = 32


class Concept(NamedTuple):
    """The subject of a question."""

    name: str
    definition: str | None = None


TRIVIAL = Concept(CONTROL_NAME)


class Need(NamedTuple):
    """A concept, and the images to ask about it."""

    concept: Concept
    image_ids: Sequence[str]


class ImageQuestions(NamedTuple):
    """The open questions about one image; `addresses[j]` is that of the answer about `concepts[j]`."""

    image_id: str
    concepts: list[Concept]
    addresses: list[str]


def content_address(*parts: object) -> str:
    """Return hex digits of the SHA-256 of `parts` as JSON; the same for tuples and lists."""
    text = json.dumps(parts, ensure_ascii=True, separators=(",", ":"), sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:ADDRESS_DIGITS]


def address(name: str, definition: str | None, image_sha: str, engine_identity: str, prompt_hash: str) -> str:
    """Return the address of the answer about a name in an image. `prompt_hash` covers wording and decoding."""
    return content_address("yes/no", name, definition, image_sha, engine_identity, prompt_hash)


def reply_address(
    a_shas: Sequence[str], b_shas: Sequence[str], engine_identity: str, prompt_hash: str, attempt: int
) -> str:
    """Return the address of a reply about two groups of images. `prompt_hash` covers wording, schema and decoding."""
    return content_address("name", list(a_shas), list(b_shas), engine_identity, prompt_hash, attempt)


@dataclass(frozen=True)
class Addresses:
    """The addresses of answers by one engine to one prompt."""

    engine_identity: str
    prompt_hash: str
    sha_of: Mapping[str, str]
    """The SHA-256 of the bytes of each image by id; an unreadable image is missing."""

    def of(self, concept: Concept, image_id: str) -> str | None:
        """Return the address of an answer; None if the image could not be read."""
        sha = self.sha_of.get(image_id)
        return None if sha is None else self._of_sha(concept, sha)

    def _of_sha(self, concept: Concept, sha: str) -> str:
        return address(concept.name, concept.definition, sha, self.engine_identity, self.prompt_hash)


@dataclass(frozen=True)
class Plan:
    """The open questions, image by image; iterate over it. Images and concepts are in ascending order."""

    images: list[str]
    concepts: list[Concept]
    image_Q: Ints
    """The index into `images`, ascending."""
    concept_Q: Ints
    address_Q: np.ndarray
    needed: int
    """The number of distinct questions, answered or not."""
    unreadable: int
    """The number of needed images that are unreadable; no question is asked about them."""

    @classmethod
    def of(cls, needs: Iterable[Need], addresses: Addresses, answered: Collection[str] = frozenset()) -> Self:
        """Plan the needs of many features. Two image ids with the same bytes are asked about once.

        The questions of a need are as many as its images; memory is 16 bytes per need's image, then 50 per distinct
        question.
        """
        sha_of = addresses.sha_of
        merged: dict[Concept, set[str]] = {}
        for concept, image_ids in needs:
            merged.setdefault(concept, set()).update(image_ids)
        wanted = set().union(*merged.values()) if merged else set()
        readable = sorted(image for image in wanted if image in sha_of)
        first = {sha_of[image]: image for image in reversed(readable)}
        images = sorted(first.values())
        place = {image: i for i, image in enumerate(images)}
        place |= {image: place[first[sha_of[image]]] for image in readable}
        concepts = sorted(merged, key=lambda c: (c.name, c.definition or "", c.definition is None))
        places = [np.unique([place[i] for i in merged[c] if i in place]).astype(np.int64) for c in concepts]
        image_Q = np.concatenate([*places, np.zeros(0, np.int64)])
        concept_Q = np.repeat(np.arange(len(concepts)), [len(p) for p in places])
        order = np.lexsort((concept_Q, image_Q))
        image_Q, concept_Q = image_Q[order], concept_Q[order]
        pairs = zip(image_Q.tolist(), concept_Q.tolist(), strict=True)
        address_Q = np.array([addresses.of(concepts[c], images[i]) for i, c in pairs], dtype=f"S{ADDRESS_DIGITS}")
        open_Q = np.array([a.decode() not in answered for a in address_Q.tolist()], dtype=bool)
        kept = image_Q[open_Q], concept_Q[open_Q], address_Q[open_Q]
        return cls(images, concepts, *kept, needed=len(order), unreadable=len(wanted) - len(readable))

    def __len__(self) -> int:
        """Return the number of open questions."""
        return len(self.image_Q)

    def __iter__(self) -> Iterator[ImageQuestions]:
        starts = np.flatnonzero(np.diff(self.image_Q, prepend=-1))
        for start, end in pairwise([*starts, len(self)]):
            concepts = [self.concepts[c] for c in self.concept_Q[start:end]]
            addresses = [a.decode() for a in self.address_Q[start:end].tolist()]
            yield ImageQuestions(self.images[self.image_Q[start]], concepts, addresses)


def random_names(concept_of: Mapping[int, Concept], feature: int, seed: int, count: int = 3) -> list[Concept]:
    """Return names of other features, as controls: distinct from the feature's own name and from each other.

    Names that differ in case or punctuation only are the same. The result is shorter if there are not so many.
    """
    used = (
        {normalised_name(concept_of[feature].name), normalised_name(CONTROL_NAME)}
        if feature in concept_of
        else {normalised_name(CONTROL_NAME)}
    )
    others = sorted(set(concept_of.values()), key=lambda c: (c.name, c.definition or ""))
    chosen: list[Concept] = []
    for place in np.random.default_rng([seed, feature, 2]).permutation(len(others)):
        if len(chosen) == count:
            break
        if (name := normalised_name(others[place].name)) not in used:
            used.add(name)
            chosen.append(others[place])
    return chosen


def normalised_name(name: str) -> str:
    """Return `name` in lower case, its words separated by single spaces, for comparison."""
    return " ".join("".join(c if c.isalnum() else " " for c in name.casefold()).split())
