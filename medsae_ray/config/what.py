"""The settings that decide the result. All are hashed into the names of the artifacts that depend on them."""

from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from medsae_ray.config.base import PART, Model, by_kind
from medsae_ray.config.judge import Judge
from medsae_ray.config.likeness import Likeness
from medsae_ray.config.monosemanticity import Monosemanticity
from medsae_ray.config.privacy import Privacy
from medsae_ray.config.recovery import Recovery
from medsae_ray.config.replication import Replication
from medsae_ray.config.retrieval import Retrieval
from medsae_ray.config.sae import Sae
from medsae_ray.config.sweep import Members, Sweep, members_of
from medsae_ray.config.vocabulary import Vocabulary
from medsae_ray.core.datasets import DATASETS
from medsae_ray.core.datasets.base import LabelPolicy
from medsae_ray.core.encoders import ENCODERS
from medsae_ray.core.images.reader import ImageRules
from medsae_ray.options import Seed

if TYPE_CHECKING:
    from medsae_ray.core.datasets import Dataset
    from medsae_ray.core.encoders import EncoderOptions as Encoder
else:
    Dataset, Encoder = by_kind(DATASETS), by_kind(ENCODERS)


class Split(Model):
    """The shares of the patients by role, by a salted hash of the patient."""

    salt: str = "medsae"
    """Another salt gives another split."""
    sae: Annotated[float, Field(gt=0, lt=1)] = 0.6
    """Patients that the SAE is trained on."""
    naming: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Patients that features are named from."""
    detection: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Patients on which names and labels are tested."""
    held_out_by: str | None = None
    """A metadata column (institute) that selects the test patients, instead of the hash."""
    held_out: Annotated[list[str], Field(min_length=1)] | None = None
    """The column's values whose patients are those of detection; all others are divided in the ratio of sae to
    naming."""

    @model_validator(mode="after")
    def _shares_add_up(self) -> Self:
        total = self.sae + self.naming + self.detection
        if abs(total - 1) > 1e-9:
            raise ValueError(f"sae + naming + detection is {total:g}, it has to be 1")
        if bool(self.held_out_by) != bool(self.held_out):
            raise ValueError("held_out_by names a column and held_out its values; give both or none")
        return self


class Features(Model):
    """The statistics of each feature."""

    top_images: Annotated[int, Field(ge=1, le=100)] = 16
    """Strongest images kept per feature, of distinct patients."""
    permutations: Annotated[int, Field(ge=2, le=10_000)] = 20
    """Label permutations behind the entropy's null."""
    level: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    """Level of every interval."""
    weights: Literal["images", "patients"] = "images"
    """Unit of weight in a correlation: an image, or a patient, whose images then share one weight."""
    seed: Seed = 0
    """Seed of the permutations."""


class Detection(Model):
    """The test of a name, on patients of the split `detection`, one image each."""

    positives: Annotated[int, Field(ge=10, le=1000)] = 50
    """Images on which the feature is active, the same number from each of five bins of its activation."""
    negatives: Annotated[int, Field(ge=10, le=1000)] = 50
    """Images on which the feature is inactive: equally strong in other features, near neighbours of the positives,
    or with equal metadata."""
    support: Annotated[int, Field(ge=10)] = 30
    """Least number of detection patients on which a feature is active; one with fewer is not tested but counted as
    insufficient_support."""
    pool: Annotated[int, Field(ge=20)] = 400
    """Images that all features draw from first, so that one image serves many questions."""
    random_names: Annotated[int, Field(ge=1, le=10)] = 3
    """Names of other features asked on the same images, as the chance level of each name. They are the first of its
    eight controls; labels and terms of a packaged list are the others."""


class Naming(Model):
    """The naming of features by a vision-language model, from patients of the split `naming`."""

    positives: Annotated[int, Field(ge=3, le=32)] = 8
    """Images of group A: five eighths among the strongest, the others from the middle of the activation."""
    contrasts: Annotated[int, Field(ge=1, le=32)] = 4
    """Images of group B: the nearest in the encoder's space on which the feature is inactive."""
    attempts: Annotated[int, Field(ge=1, le=10)] = 3
    """Attempts to get an answer that fits the schema: the first at temperature 0, the others at `temperature`."""
    temperature: Annotated[float, Field(gt=0, le=2)] = 0.7
    """Temperature of the second and later attempts."""
    max_tokens: Annotated[int, Field(ge=64, le=8192)] = 768
    """Largest number of tokens of an answer."""
    faint: Annotated[float, Field(ge=0, lt=1)] = 0.25
    """Share of a feature's strength (99th percentile of its non-zero activations) below which an image counts
    neither as active nor as inactive, when the feature is named and when the name is tested."""
    image_size: Annotated[int, Field(ge=32, le=4096)] = 896
    """Longest side, in pixels, of the images that are sent; MedGemma takes 896."""
    seed: Seed = 0
    """Seed of the samples and of the later attempts."""
    detection: Detection = Detection()
    judge: Judge | None = None
    """SAIL's naming and ranking, beside the names and tests above; {} ranks on images alone."""


class What(Model):
    """The settings that decide the result."""

    dataset: Dataset | None = None
    """The dataset, or `datasets` for several."""
    datasets: Annotated[list[Dataset], Field(min_length=2)] | None = None
    """Several datasets, each under its own name. One SAE learns from all, and findings in one are tested in the
    others. Patients of two datasets count as different people."""
    labels: dict[str, dict[str, str]] = Field(default_factory=dict)
    """With several datasets: label -> name of a dataset -> the label's name there. A label that is not listed here
    stays separate, as dataset/label."""
    images: Annotated[ImageRules, PART] = ImageRules()
    split: Split = Split()
    shard_rows: Annotated[int, Field(ge=1, le=100_000)] = 512
    """Images per shard: the unit of work, retry and resume."""
    encoder: Encoder
    sae: Sae = Sae()
    sweep: Sweep | None = None
    """Further SAEs to train and compare (medsae sweep). medsae run takes `sae` and no other, unless it is to choose."""
    features: Features = Features()
    recovery: Recovery = Recovery()
    monosemanticity: Monosemanticity = Monosemanticity()
    naming: Naming | None = None
    """Names from a vision-language model; without it features get their names from labels only."""
    vocabulary: Vocabulary | None = None
    """Names from a list of terms, for encoders with a text half (medclip); {} takes the packaged list."""
    privacy: Privacy = Privacy()
    replication: Replication = Replication()
    retrieval: Retrieval = Retrieval()
    likeness: Likeness = Likeness()

    @model_validator(mode="after")
    def _sweep_can_be_trained(self) -> Self:
        self.members()
        return self

    @property
    def chooses(self) -> bool:
        """True if a sweep chooses the SAE of the run."""
        return self.sweep is not None and self.sweep.choose

    @property
    def selects(self) -> bool:
        """True if figures of the split naming chose the SAE of the run, among those of a sweep or of restarts."""
        return self.chooses or self.sae.restarts > 1

    def members(self) -> Members:
        """The SAEs of the sweep; none without one, or if they follow from the training rows."""
        return members_of(self.sweep, self.sae) if self.sweep and not self.sweep.by_data else Members([], 0)

    @model_validator(mode="after")
    def _datasets_fit(self) -> Self:
        if (self.dataset is None) == (self.datasets is None):
            raise ValueError("exactly one of what.dataset (one) and what.datasets (a list of several) is needed")
        names = [source.name for source in self.sources]
        if odd := [name for name in names if not name.strip() or not name.isprintable()]:
            raise ValueError(f"a dataset is called {odd[0]!r}; its `name` is shown, so give it a word")
        if self.datasets and (odd := [name for name in names if "/" in name]):
            raise ValueError(
                f"dataset {odd[0]!r}: several datasets have names without /, which divides them from labels"
            )
        if len(set(names)) < len(names):
            raise ValueError(f"what.datasets has names {', '.join(names)}; each needs a `name` of its own")
        if self.datasets is None and self.labels:
            raise ValueError("what.labels maps the labels of what.datasets; a single dataset keeps its own")
        named = {name for mapping in self.labels.values() for name in mapping}
        if strange := sorted(named - set(names)):
            raise ValueError(f"what.labels names dataset {strange[0]!r}; what.datasets has {', '.join(names)}")
        return self

    @property
    def sources(self) -> tuple[Dataset, ...]:
        """The run's dataset, or several by name: no result depends on the order in which a recipe lists them."""
        return tuple(sorted(self.datasets or (), key=lambda d: d.name)) if self.dataset is None else (self.dataset,)

    @property
    def hashed(self) -> list[str]:
        """Names of the datasets whose identifiers are hashed."""
        chosen = self.privacy.hash_ids
        return [s.name for s in self.sources if chosen or (chosen is None and s.identifying)]

    @property
    def uncertain(self) -> LabelPolicy | dict[str, LabelPolicy]:
        """The meaning of -1: in all images, or by dataset."""
        return self.dataset.uncertain if self.dataset else {source.name: source.uncertain for source in self.sources}

    @property
    def blank(self) -> LabelPolicy | dict[str, LabelPolicy]:
        """The meaning of a missing label: in all images, or by dataset."""
        return self.dataset.blank if self.dataset else {source.name: source.blank for source in self.sources}
