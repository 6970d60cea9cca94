"""The figures of the stages that name features and test the names, as metrics.py has those of the others."""

from typing import Literal, NotRequired, TypedDict

from medsae_ray.core.artifacts.metrics import Area


class SamplesMetrics(TypedDict):
    """Stage `samples`."""

    width: int
    insufficient: dict[str, dict[str, list[int]]]
    """Purpose -> feature -> patients with an active image and without, where they are too few."""
    unmatched: int
    dead: list[int]
    faint: dict[str, float]
    """Feature -> share of the test images with any activation that were left out as faint."""


class UsageFigures(TypedDict):
    """The requests and tokens of a model: `Usage`."""

    requests: int
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int
    seconds: float
    """The engine's time."""


class NamesMetrics(TypedDict):
    """Stage `names`: features by the outcome of naming."""

    named: int
    abstained: int
    insufficient_support: int
    failed: int
    dead: int
    taken_back: int
    """Names that were not found again, of those that abstained."""
    alternatives_chosen: int
    retries: int
    usage: UsageFigures


class LabelNamesMetrics(TypedDict):
    """Stage `label_names`."""

    named: int


class VocabularyNamesMetrics(TypedDict):
    """Stage `vocabulary_names`."""

    terms: int
    named: int
    abstained: int


class AnswersMetrics(TypedDict):
    """Stages `answers`, `label_answers` and `vocabulary_answers`: questions that this run asked, and their answers."""

    asked: int
    unreadable: int
    failed: int
    usage: UsageFigures


class PaperFigures(TypedDict):
    """Names with an accuracy of 0.70 or more, as MedSAE counts them: `PaperCount`."""

    passed: int
    names: int
    n_low: int
    """Fewest and most images per name."""
    n_high: int
    expected_by_chance: float | None


class NameFigures(TypedDict):
    """The names of one source: features = named + abstained + insufficient_support + failed + dead, and named =
    verified + rejected + untested."""

    features: int
    named: int
    verified: int
    rejected: int
    untested: int
    abstained: int
    insufficient_support: int
    failed: int
    dead: int
    low_mass_share: float | None
    """The share of answers that are mostly neither yes nor no."""
    random_name_auroc: float | None
    random_name_auroc_hard: float | None
    """The AUROC against hard negatives alone."""
    expected_by_chance: float | None
    """The names that would be verified if each feature had the name of another."""
    paper: PaperFigures


class SourceMetrics(NameFigures):
    """The names of one source in stage `scores`."""

    tested: int
    """The names verified or rejected."""


class CeilingFigures(Area):
    """The model's own AUROC for a label."""

    seen: bool | None
    """True if the model sees the label; None if it could not be asked."""


Sight = Literal["seen", "blind", "unknown"]
"""The model's sight: `seen` if it tells any label from its absence."""


class ScoresMetrics(TypedDict):
    """Stage `scores`."""

    vlm: SourceMetrics
    label: SourceMetrics
    vocabulary: NotRequired[SourceMetrics]
    ceilings: dict[str, CeilingFigures]
    sight: Sight


SourceName = Literal["vlm", "label", "vocabulary"]
"""The sources of names, which are keys of `ScoresMetrics`."""


class AtlasMetrics(TypedDict):
    """Stage `atlas`."""

    labels: list[str]
