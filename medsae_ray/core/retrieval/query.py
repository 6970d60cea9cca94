"""The answer to a query in words: the features nearest to it, and the images that show them most.

This is the language-driven retrieval of SAIL (github.com/pwesp/sail): the query becomes a few features, and images are
found by these. SAIL lets a language model pick three from the list of names, and compares images by their cosine on the
three; here features are also found by the encoder's own text half, or by the words of their names, and images by
the strength of the features, which a cosine ignores. What a query negates is excluded (negation.py).

Legend: F features, J features of an answer, D embedding dimension, K null directions.
"""

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Final, NamedTuple, cast

import numpy as np

from medsae_ray.core.analysis.values import Floats
from medsae_ray.core.artifacts.artifact import Artifact
from medsae_ray.core.artifacts.columns import column
from medsae_ray.core.artifacts.schema import METADATA
from medsae_ray.core.naming.alignment import Space, exceedance
from medsae_ray.core.naming.engine import Engine
from medsae_ray.core.naming.vocabulary import Texts, embed_terms
from medsae_ray.core.retrieval.answer import COLUMNS, FoundFeature, QueryAnswer, Ranking, Way, named
from medsae_ray.core.retrieval.attributes import Condition, conditions, fulfilling
from medsae_ray.core.retrieval.bm25 import Documents
from medsae_ray.core.retrieval.name_texts import name_texts
from medsae_ray.core.retrieval.negation import QueryRefused, Wish, understood
from medsae_ray.core.retrieval.picker import Picker
from medsae_ray.core.retrieval.picking import entries
from medsae_ray.core.retrieval.shelf import Among, Match, Shelf

BY_TEXT: Final = "text half"
BY_NAMES: Final = "names"
BY_MODEL: Final = "model"
NORMAL = frozenset(("normal", "unremarkable", "healthy", "intact"))
"""The words that turn those beside them into their opposite."""
EXCLUDED_SHARE = 0.5
"""The share of the best score by which another feature's name says an excluded phrase as well."""
EXCLUDED_BY_TEXT, EXCLUDED_P = 3, 0.05
"""The most features that a text half excludes for a phrase, and the largest p of their cosines."""


class TextSide(NamedTuple):
    """The encoder's text half and the SAE's directions."""

    encoder: Texts
    templates: list[str]
    space: Space
    null_KD: Floats
    """The random directions of the null."""

    def hear(self, text: str) -> tuple[Floats, Floats]:
        """Return cosines of a text with all features [F], and with the null directions [K]."""
        text_D = self.space.texts(embed_terms(self.encoder, [text], self.templates))[0]
        return self.space.direction_FD @ text_D, self.null_KD @ text_D


class Library:
    """The data for queries to one finished run: the artifacts behind its atlas, and perhaps a text half."""

    def __init__(self, artifacts: Mapping[str, Artifact], listener: TextSide | None = None) -> None:
        self._artifacts, self._listener = artifacts, listener
        atlas = artifacts["atlas"].table(["feature", "n_active", *COLUMNS]).sort_by("feature")
        self._atlas: list[dict[str, Any]] = atlas.to_pylist()
        self._alive_F = np.array([row["n_active"] > 0 for row in self._atlas])
        self.shelf = Shelf.of(artifacts["manifest"], artifacts["activations"], len(self._atlas))
        texts = name_texts(artifacts)
        self._documents, self._names, self._rejected = Documents(texts.whole), Documents(texts.names), texts.rejected
        self.picker = Picker(entries(self._atlas))

    def ask(
        self,
        text: str,
        features: int = 3,
        images: int = 10,
        split: str | None = None,
        by: Way | None = None,
        ranking: Ranking = "strength",
    ) -> QueryAnswer:
        """Return the features that answer a query and the images that show them most, as plain values.

        `way` is `by`, or without it "text half", or "names" if the run has no text half. The answer is empty if no
        feature has a positive cosine, or a word of the query in its names. Images with a feature of what the query
        negates are left out; `refused` is the reason for which a query is not answered.
        """
        way: Way = by or (BY_TEXT if self._listener else BY_NAMES)
        asked = _Asked(text, way, images, split, ranking)
        try:
            wish = understood(text)
            excluded = self._excluded(wish, way)
            if way == BY_NAMES:
                self._refuse_normal(wish)
            said = wish.wanted if way == BY_TEXT else self._said(wish)
            wanted = [m for m in self.matches(said, features, way) if m.feature not in excluded] if said else []
        except QueryRefused as refused:
            return self._answer(asked, [], [], refused=str(refused))
        return self._answer(asked, wanted, excluded)

    async def ask_model(
        self,
        engine: Engine,
        text: str,
        features: int = 3,
        images: int = 10,
        split: str | None = None,
        ranking: Ranking = "strength",
        exactly: bool = False,
    ) -> QueryAnswer:
        """Answer a query as `ask` does, by the names that a model picks from a numbered list: at most `features`, or
        `exactly` so many as in SAIL. Attributes are those of attributes.py."""
        asked = _Asked(text, BY_MODEL, images, split, ranking, engine.identity)
        try:
            wish = understood(text)
            picks = await self.picker.picks(engine, wish, text, features, exactly)
            names = [f"{e.name} {e.definition or ''}" for e in (self.picker.listed[place] for place in picks.want)]
            told = conditions(wish.wanted, names, self._values) if picks.want else []
        except QueryRefused as refused:
            return self._answer(asked, [], [], refused=str(refused))
        want, out = ([self.picker.listed[place] for place in places] for places in (picks.want, picks.exclude))
        wanted = [Match(f, 1 / len(entry.features), None) for entry in want for f in entry.features]
        excluded = [feature for entry in out for feature in entry.features]
        return self._answer(asked, wanted, excluded, told, unmet=list(picks.unmet))

    def _answer(
        self,
        asked: "_Asked",
        wanted: list[Match],
        excluded: list[int],
        told: Sequence[Condition] = (),
        refused: str | None = None,
        unmet: Sequence[str] = (),
    ) -> QueryAnswer:
        kept_N = fulfilling(told, self._columns, len(self.shelf.image_N)) if told else None
        among = Among(asked.split, excluded, kept_N)
        rank = self.shelf.alike if asked.ranking == "cosine" else self.shelf.strongest
        found = rank(wanted, asked.images, among)
        if excluded and not wanted:
            found = self.shelf.inactive(asked.images, among)
        return {
            "query": asked.text,
            "way": asked.way,
            "ranking": asked.ranking,
            "features": [self._feature(match) for match in wanted],
            "excluded": [{"feature": f, **self._shown(f)} for f in excluded],  # type: ignore[typeddict-item]
            "conditions": {condition.column: condition.value for condition in told},
            "unmet": list(unmet),
            "refused": refused,
            "images": found,
            "model": asked.model,
            "sae": self._artifacts["sae"].name,
            "atlas": self._artifacts["atlas"].name,
        }

    def _feature(self, match: Match) -> FoundFeature:
        return cast(FoundFeature, match._asdict() | self._shown(match.feature))

    def _shown(self, feature: int) -> dict[str, Any]:
        return named(self._atlas[feature])

    def matches(self, text: str, n: int, way: Way | None = None) -> list[Match]:
        """Return the `n` features that answer a query best, or as many as there are."""
        by_text = self._listener is not None if way is None else way == BY_TEXT
        return self._by_text(text, n) if by_text else self._by_names(text, n)

    def _excluded(self, wish: Wish, way: Way) -> list[int]:
        """Return the features of what a query negates. Raises QueryRefused if they do not tell which images have it."""
        of = self._text_excluded if way == BY_TEXT else self._named_excluded
        return list(dict.fromkeys(feature for phrase in wish.excluded for feature in of(phrase)))

    def _said(self, wish: Wish) -> str:
        """Return the words to look for in names: what is wanted, and absences of which a name speaks."""
        absences = [f"no {phrase}" for phrase in wish.excluded if self._absent(phrase)]
        return ", ".join([wish.wanted, *absences] if wish.wanted else absences)

    def _absent(self, phrase: str) -> bool:
        """Return whether a feature is named for the absence of what a phrase says, and the test has not rejected it."""
        found = self._documents.saying(f"no {phrase}") - self._rejected
        return any(self._alive_F[feature] for feature in found)

    def _refuse_normal(self, wish: Wish) -> None:
        """Raise QueryRefused for "normal heart" if no name says "normal": the other word finds large hearts."""
        for word in sorted(NORMAL & set(re.findall(r"\w+", wish.wanted))):
            if not any(self._alive_F[feature] for feature in self._names.scores(word)):
                raise QueryRefused(f"no name says {word!r}, and the words beside it would find its opposite")

    def _named_excluded(self, phrase: str) -> list[int]:
        """Return the features whose names say a phrase; if none does, those whose definitions or other names do.

        Raises QueryRefused if there is none, or if the test rejected the names of all that say the whole phrase, unless
        a feature is named for its absence.
        """
        features = self._saying(phrase)
        whole = self._documents.saying(phrase).intersection(features) or set(features)
        if whole <= self._rejected and not self._absent(phrase):
            why = "the test rejected the names for" if features else "no feature stands for"
            raise QueryRefused(f"{why} {phrase!r}, so it cannot be excluded")
        return features

    def _saying(self, phrase: str) -> list[int]:
        for documents in (self._names, self._documents):
            scores = {f: score for f, score in documents.scores(phrase).items() if self._alive_F[f]}
            if scores:
                best = max(scores.values())
                return sorted(f for f, score in scores.items() if score >= EXCLUDED_SHARE * best)
        return []

    def _text_excluded(self, phrase: str) -> list[int]:
        near = self._by_text(phrase, EXCLUDED_BY_TEXT)
        features = [match.feature for match in near if match.p is not None and match.p <= EXCLUDED_P]
        if not features:
            raise QueryRefused(f"no feature stands for {phrase!r}, so it cannot be excluded")
        return features

    def _by_names(self, text: str, n: int) -> list[Match]:
        found = {f: score for f, score in self._documents.scores(text).items() if self._alive_F[f]}
        return [Match(f, found[f], None) for f in sorted(found, key=lambda f: (-found[f], f))[:n]]

    def _by_text(self, text: str, n: int) -> list[Match]:
        if self._listener is None:
            raise QueryRefused("this run has no text half: its recipe has no what.vocabulary")
        cosine_F, null_K = self._listener.hear(text)
        order = np.argsort(np.where(self._alive_F, -cosine_F, np.inf), kind="stable")
        best = [int(f) for f in order[:n] if self._alive_F[f] and cosine_F[f] > 0]
        p_J = exceedance(cosine_F[best], null_K)
        return [Match(f, float(cosine_F[f]), float(p)) for f, p in zip(best, p_J, strict=True)]

    @cached_property
    def _columns(self) -> dict[str, np.ndarray]:
        manifest = self._artifacts["manifest"]
        names = [name for name in manifest.schema.names if name.startswith(METADATA)]
        table = manifest.table(names) if names else None
        return {name.removeprefix(METADATA): column(table, name) for name in names} if table else {}

    @cached_property
    def _values(self) -> dict[str, set[str]]:
        return {name: {str(v) for v in set(values.tolist()) if v} for name, values in self._columns.items()}


class _Asked(NamedTuple):
    """A query and how it is answered."""

    text: str
    way: Way
    images: int
    split: str | None
    ranking: Ranking
    model: str | None = None
