"""The answers of the routes, as in the OpenAPI description."""

from pydantic import AliasChoices, BaseModel, Field


class Error(BaseModel):
    """A reason why a request is not answered."""

    code: str
    """The code, short and stable."""
    message: str
    where: str | None = None
    """The part of the request that is at fault."""


class Refusal(BaseModel):
    """The body of every response that is an error."""

    error: Error


class Live(BaseModel):
    """The answer of a process that is running."""

    live: bool


class Ready(BaseModel):
    """The answer of a service that can take requests."""

    ready: bool
    engine: str
    """The engine's state: "ok", or "not configured" if the recipe names no vision-language model."""


class Named(BaseModel):
    """A feature's number and its strongest name. `name_verdict` is the result of that name's test on the run's images:
    it says nothing of the image that is asked about."""

    feature: int
    name: str | None
    name_source: str | None
    definition: str | None
    name_verdict: str | None = Field(validation_alias=AliasChoices("name_verdict", "verdict"))
    detection_auroc: float | None


class NamedFeature(Named):
    """The same with the interval of that name's test on held-out patients."""

    detection_low: float | None
    detection_high: float | None


class ActiveFeature(NamedFeature):
    """A feature that is active on the image, with its activation. `percentile` is the share of the run's images with
    the feature on which it is no stronger, from 0 to 100."""

    activation: float
    percentile: float


class UnlikeTheRun(BaseModel):
    """The image's place among those of the run: the `distance` of its embedding, and the share of held-out images that
    are nearer, from 0 to 100. `flag` is true above the `threshold`; names then say nothing of the image. Both are null
    if the run has too few patients."""

    flag: bool | None
    distance: float
    percentile: float
    threshold: float | None


class Encoded(BaseModel):
    """An image's strongest features. `active` counts all, `named` those with a name; width and height are those of
    the decoded image. `unlike_the_run` is null if the run has no artifact `likeness`."""

    width: int
    height: int
    active: int
    named: int
    unlike_the_run: UnlikeTheRun | None
    features: list[ActiveFeature]
    sae: str
    atlas: str


class Feature(NamedFeature):
    """A feature with the figures of its row in the atlas."""

    n_active: int
    frequency: float
    mean_active: float | None
    max: float | None
    entropy: float | None
    best_label: str | None
    best_r: float | None
    auroc: float | None
    detection_accuracy: float | None


class Page(BaseModel):
    """One page of the atlas; `total` counts the features on all pages."""

    total: int
    page: int
    size: int
    features: list[Feature]


class Correlation(BaseModel):
    """Pearson's r of the feature with a label, and its interval [low, high]."""

    label: str
    r: float | None
    low: float | None
    high: float | None


class TopImage(BaseModel):
    """An image on which the feature is strongest."""

    image_id: str
    activation: float


class WholeFeature(Feature):
    """All evidence of one feature. `histogram` counts its non-zero activations in bins of equal log2 width."""

    n_images: int
    histogram: list[int]
    entropy_normalised: float | None
    best_p: float | None
    active_auroc: float | None
    auroc_low: float | None
    auroc_high: float | None
    auroc_positives: int
    auroc_negatives: int
    detection_null_mean: float | None
    detection_trivial: float | None
    detection_ceiling: float | None
    correlations: list[Correlation]
    top_images: list[TopImage]


class Match(Named):
    """A feature that answers a query. `score` is a cosine, and `p` the chance that a random mixture of features has
    such a cosine; with `way` "names" it is BM25, and `p` null."""

    score: float
    p: float | None


class Shown(BaseModel):
    """A feature of the query on a found image, with its activation."""

    feature: int
    activation: float


class FoundImage(BaseModel):
    """An image that answers a query. `score` is 1 if all matching features are at their maximum."""

    image_id: str
    split: str
    score: float
    features: list[Shown]


class Excluded(Named):
    """A feature that no found image has, as the query negates it."""


class QueryAnswer(BaseModel):
    """The answer to a query. `way` is the method of the search: "text half", "names" or "model".

    `excluded` are the features of what the query negates, `conditions` the metadata that images have to have, `unmet`
    the words that no name says, and `refused` the reason if the query is not answered."""

    query: str
    way: str
    ranking: str
    features: list[Match]
    excluded: list[Excluded]
    conditions: dict[str, str]
    unmet: list[str]
    refused: str | None
    images: list[FoundImage]
    model: str | None
    sae: str
    atlas: str


class FingerprintFeature(Named):
    """One of the k strongest features of the image, with its strongest name."""

    activation: float
    percentile: float


class SimilarImage(BaseModel):
    """`similarity` is the cosine on the k features, or 1 / (1 + |difference|) of a single one; `features` are those
    that both images have."""

    image_id: str
    split: str
    similarity: float
    features: list[Shown]


class SimilarAnswer(BaseModel):
    """One image of each patient, the most similar first; `reason` says why there are none, or why k is smaller."""

    image: str
    k: int
    features: list[FingerprintFeature]
    images: list[SimilarImage]
    reason: str | None
    unlike_the_run: UnlikeTheRun | None
    sae: str
    atlas: str


class Shift(NamedFeature):
    """A feature's rate, the share of uploads on which it is active, with its interval, beside its rate in the run. `q`
    is the false discovery rate of the difference, if uploads are independent."""

    run_rate: float
    rate: float
    low: float
    high: float
    q: float


class UnlikeUploads(BaseModel):
    """The share of the judged uploads that are unlike the run, with its interval, beside the share that is `expected`
    of new patients. Null for fewer than 20 uploads."""

    judged: int
    share: float | None
    low: float | None
    high: float | None
    expected: float | None


class Drift(BaseModel):
    """Counts over the last uploads: at most `window`, of which the oldest leave by tenths. `features` are those whose
    rate differs most, and empty for fewer than 20 uploads."""

    uploads: int
    window: int
    unlike_the_run: UnlikeUploads
    features: list[Shift]


class Spent(BaseModel):
    """The tokens that the engine used."""

    requests: int
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int


class Name(BaseModel):
    """The concept that group A shows and group B does not, by the naming schema."""

    per_image: list[str]
    shared_in_a: list[str]
    absent_in_b: list[str]
    category: str
    name: str
    definition: str
    location: str
    laterality: str
    fraction_of_a: float
    alternatives: list[str]
    confidence: str
    abstain: bool


class NameAnswer(BaseModel):
    """The answer to a naming request. `status` is "named", "abstained", or "failed" if no attempt fitted the schema;
    `problem` then gives the reason."""

    status: str
    name: Name | None
    problem: str | None
    attempts: int
    model: str
    usage: Spent


class Detected(BaseModel):
    """The answer to one question. `p_yes` is P(yes) / (P(yes) + P(no)), `mass` the denominator; both null if it
    failed."""

    image: int
    name: str
    definition: str | None
    p_yes: float | None
    mass: float | None
    answered: bool
    """False if the mass is so small that the model said neither yes nor no: the run counts no such answer."""


class Yardstick(BaseModel):
    """The answer to the trivial name, which is true of every image: no name is seen whose p(yes) is below this one."""

    image: int
    name: str
    p_yes: float | None
    mass: float | None
    answered: bool


class DetectAnswer(BaseModel):
    """The answers to all questions about all images."""

    answers: list[Detected]
    trivial: list[Yardstick]
    model: str
    usage: Spent


class Model(BaseModel):
    """A model in OpenAI's form."""

    id: str
    object: str
    created: int
    owned_by: str


class Models(BaseModel):
    """The models in OpenAI's form."""

    object: str
    data: list[Model]
