"""What a query wants and what it excludes: negation is understood, or the query is refused.

The rules are those of English reports, in the manner of NegEx (Chapman et al. 2001): a negating word holds up to the
next mark or "but", and over a list that ends with "or". What may mean two things is refused with the reason.
"""

import re
from typing import NamedTuple

_NO = " \u2205 "
"""What stands for any negating word."""
_NEGATING = (
    r"(?:free (?:of|from)|(?:in the )?absence of|absent|lack(?:ing|s)?(?: of)?|clear of|devoid of|negative for"
    r"|exclud(?:ing|es)|except(?: for| of)?|other than|none of|minus|without|neither|never|cannot|no|not|nor|none"
    r"|(?:is|are|does|do|has|have|was|were)n['\u2019]?t)\b(?: (?:any|a|an|the|have|has|show|shows|with|signs? of)\b)*"
)
_AFTER = r"(?:(?:is|are|was|were) )?(?:absent|ruled out|excluded|not (?:seen|present|visible|shown|there|identified))"
_FILLER = (
    r"\u2205 (?:any |clear |definite |further |obvious )*(?:evidence|signs?|indications?|suspicion|trace) (?:of|for) "
)
_COMPARED = "change increase decrease progress worsen improve interval more less only longer"
_UNCLEAR = {
    r"\bnot (?:only|just|merely)\b": "negates nothing: write 'A, B' for images with both",
    r"\brul(?:e|ing) out\b|\bexclude\b": "asks to rule something out, which neither wants it nor excludes it",
    rf"\b(?:no|not|without|any) (?:\w+ )?(?:{_COMPARED.replace(' ', '|')})|\bunchanged\b": (
        "compares with an earlier image, which one image does not show"
    ),
    r"\b(?:may|might|possibl[ey]|probabl[ey]|suspected|questionable|perhaps)\b": (
        "is uncertain, and an image is found or not"
    ),
}


class QueryRefused(Exception):
    """The reason why a query is not answered; it becomes the answer's `refused`."""


class Wish(NamedTuple):
    """A query, taken apart."""

    wanted: str
    """The words that are wanted; empty if it only excludes."""
    excluded: tuple[str, ...]
    """The phrases that are excluded."""


def understood(query: str) -> Wish:
    """Take a query apart. Raises QueryRefused for a negation that may mean two things, or that negates nothing."""
    text = " ".join(query.casefold().replace("\u2019", "'").split())
    for pattern, why in _UNCLEAR.items():
        if found := re.search(pattern, text):
            raise QueryRefused(f"{found.group().strip()!r} {why}")
    text = re.sub(r"\b([\w-]+?)-free\b", r"no \1", text)
    text = re.sub(rf"([^,;.]+?) {_AFTER}\b", lambda m: f"no {m[1].strip()}", text)
    text = re.sub(rf"(?<![\w-]){_NEGATING}", _NO, text)
    text = re.sub(_FILLER, "\u2205 ", " ".join(text.split()))
    wanted, excluded = list[str](), list[str]()
    for sentence in re.split(r"[.;:!?()\[\]]+| but | however | with (?!\u2205)", f" {text} "):
        _sentence(sentence, query, wanted, excluded)
    return Wish(", ".join(wanted), tuple(dict.fromkeys(excluded)))


def _sentence(sentence: str, query: str, wanted: list[str], excluded: list[str]) -> None:
    before, *after = sentence.split("\u2205")
    wanted += _items(before)
    for place, part in enumerate(after):
        if not part.strip(" ,") or re.match(r"\s*(?:,|and|or)?\s*$", part):
            nothing = place + 1 == len(after)
            raise QueryRefused(f"{query!r} negates {'nothing' if nothing else 'a negation'}")
        first, *rest = re.split(r"\s*,\s*", part.strip(" ,"))
        if rest and re.search(r"(?:^| )(?:or|nor) ", f"{rest[-1]} ") and not re.search(r" or ", first):
            first, rest = ", ".join([first, *rest]), []
        if " and " in f" {first} " and place + 1 == len(after):
            raise QueryRefused(
                f"whether all of {first!r} is negated is not clear: write 'no A, no B' to exclude both, or 'no A, B'"
            )
        first = re.sub(r"\s*\band$", "", first)
        excluded += [item for piece in re.split(r",|\b(?:or|nor)\b", first) if (item := _clean(piece))]
        wanted += [item for piece in rest if (item := _clean(piece))]


def _items(text: str) -> list[str]:
    return [item for piece in text.split(",") if (item := _clean(piece))]


def _clean(piece: str) -> str:
    return re.sub(r"^(?:and|or|with|a|an|the|any|is|are)\s+|\s+(?:and|or|with|is|are)$", "", piece.strip()).strip()
