"""What summary.json holds of names and of the model that gave and tested them."""

from typing import NotRequired, TypedDict


class PaperSummary(TypedDict):
    """Names with an accuracy of 0.70 or more, as MedSAE counts them."""

    passed: int
    names: int
    n_low: int
    """Fewest and most images per name."""
    n_high: int
    expected_by_chance: float | None


class NamesSummary(TypedDict):
    """The model's names: features = named + abstained + insufficient_support + failed + dead, and named = verified +
    rejected + untested."""

    features: int
    named: int
    verified: int
    rejected: int
    untested: int
    insufficient_support: int
    abstained: int
    failed: int
    dead: int
    expected_by_chance: float | None
    """As many would be verified if each feature had the name of another."""
    low_mass_share: float | None
    """Of answers that are mostly neither yes nor no."""
    random_name_auroc: float | None
    random_name_auroc_hard: float | None
    """Against hard negatives alone."""
    paper: PaperSummary
    sight: str
    """seen, blind or unknown: whether the model tells any label from its absence."""


class LabelNamesSummary(TypedDict):
    """Labels as names."""

    named: int
    verified: int
    rejected: int
    untested: int


class VocabularySummary(TypedDict):
    """Terms of a vocabulary as names."""

    terms: int
    named: int
    abstained: int
    verified: NotRequired[int]
    """With what.naming, as the two below."""
    rejected: NotRequired[int]
    untested: NotRequired[int]


class VlmSummary(TypedDict):
    """The vision-language model and what it took."""

    model: str
    requests: int
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int
    seconds: float
    """Of the engine's time."""


class OverlapSummary(TypedDict):
    """Seconds of naming and analysis side by side, and one after the other."""

    makespan_s: float
    sum_s: float
