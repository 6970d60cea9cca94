"""The search of documents by the words of a query: BM25 (Robertson & Zaragoza 2009), for encoders without a text half.

It knows words in any form ("opacities" finds "opacity"), not meanings: "fluid" does not find "effusion". A negated word
is another word: "no effusion" finds features of that name, and no effusions.
"""

import math
import re
from collections import Counter
from collections.abc import Hashable, Mapping
from functools import lru_cache
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

SATURATION, LENGTH = 1.2, 0.75
"""The parameters k1 and b, at their usual values."""
LEFT_OUT = frozenset(
    "a an and are as at by for in into is it of on or that the there this to with".split()  # noqa: SIM905
)
NEGATING = frozenset(("no", "not", "without"))
ENDING = frozenset(("and", "but", "with"))
"""The words that end a negation; so does any mark between words but a slash or a hyphen."""
NEGATED = "no:"
PLURALS = {"sis": "ses", "thorax": "thoraces"}
"""The Greek endings whose plural an English stemmer does not know: atelectasis and atelectases."""


def tokens(text: str) -> list[str]:
    """Return stems of words in any case, without very common words; negated ones begin with `NEGATED`.

    A negation holds up to the next mark or "and", "but", "with": "no effusion or edema, large heart" negates two.
    """
    found, negated = [], False
    for piece in re.findall(r"\w+|[^\w\s/-]", text.casefold()):
        if piece in NEGATING:
            negated = True
        elif piece in ENDING or not re.match(r"\w", piece):
            negated = False
        elif piece not in LEFT_OUT:
            found.append(NEGATED * negated + _stem(piece))
    return found


@lru_cache(maxsize=50_000)
def _stem(word: str) -> str:
    """Return the common stem of a word's forms (Porter 2001): opacities and opacity, enlarged and enlargement."""
    from snowballstemmer.english_stemmer import EnglishStemmer

    for one, many in PLURALS.items():
        if word.endswith(one):
            word = word.removesuffix(one) + many
    return str(EnglishStemmer().stemWord(word))  # one for each word: a stemmer is not for several threads


class Documents(Generic[K]):
    """A collection of texts by key, each a bag of words."""

    def __init__(self, text_of: Mapping[K, str]) -> None:
        self._counts = {key: Counter(tokens(text)) for key, text in text_of.items()}
        self._mean = sum(c.total() for c in self._counts.values()) / max(1, len(self._counts)) or 1.0
        self._holding = Counter(word for counts in self._counts.values() for word in counts)

    def scores(self, query: str) -> dict[K, float]:
        """Return documents with a word of the query, each with its score above 0."""
        words = set(tokens(query))
        found = {key: sum(self._score(word, counts) for word in words) for key, counts in self._counts.items()}
        return {key: score for key, score in found.items() if score > 0}

    def saying(self, phrase: str) -> set[K]:
        """Return the documents that have every word of a phrase."""
        words = set(tokens(phrase))
        return {key for key, counts in self._counts.items() if words and words <= counts.keys()}

    def _score(self, word: str, counts: Counter[str]) -> float:
        if word not in counts:
            return 0.0
        holding = self._holding[word]
        rarity = math.log(1 + (len(self._counts) - holding + 0.5) / (holding + 0.5))
        times = counts[word]
        long = 1 - LENGTH + LENGTH * counts.total() / self._mean
        return rarity * times * (SATURATION + 1) / (times + SATURATION * long)
