"""The answers of the routes of judgements and reader studies, as in the OpenAPI description."""

from pydantic import BaseModel

from medsae_ray.service.responses import TopImage


class Judgement(BaseModel):
    """A reader's judgement of one feature, with the artifacts that were judged."""

    key: str
    reader: str
    at: str
    atlas: str
    sae: str
    feature: int
    name: str | None
    """The name that the feature had."""
    kind: str
    value: str | None
    reason: str | None
    blind: bool
    study: str | None


class Judgements(BaseModel):
    """The judgements of a run. `unreadable` counts the lines of the log that are not whole."""

    judgements: list[Judgement]
    unreadable: int


class Kappa(BaseModel):
    """A kappa with its 95 % interval, and the share of features on which all say the same. The kappa is null where
    everybody only ever says the same one thing."""

    kappa: float | None
    low: float | None
    high: float | None
    agree: float | None
    features: int


class PairKappa(Kappa):
    """Cohen's kappa of two readers."""

    a: str
    b: str


class ModelKappa(Kappa):
    """Cohen's kappa of a reader and the model's verdicts."""

    reader: str


class Agreement(BaseModel):
    """The agreement of readers. `votes` counts each reader's features; `readers` is Fleiss' kappa of all together."""

    votes: dict[str, int]
    readers: Kappa | None
    pairs: list[PairKappa]
    model: list[ModelKappa]


class Study(BaseModel):
    """A reader study."""

    name: str
    seed: int
    atlas: str
    features: list[int]


class BlindFeature(BaseModel):
    """A feature as a reader sees it before the verdict."""

    feature: int
    name: str | None
    definition: str | None
    top_images: list[TopImage]


class StudyProgress(BaseModel):
    """A reader's way through a study; `next` is null at its end."""

    study: str
    features: int
    left: int
    next: BlindFeature | None
