"""A recipe: a YAML file read into frozen models, split into *what* (hashed) and *how* (never hashed).

What changes the result: dataset, encoder, SAE, seeds. How changes at most the speed: workers, batches, addresses,
and where files lie (a file's identity is its content, not its path).
"""

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from medsae_ray.errors import RecipeError
from medsae_ray.explain import explain

LabelPolicy = Literal["ignore", "zero", "one"]
Positive = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]


class _Loader(yaml.SafeLoader):
    """Safe YAML that reads 1e-3 as the number it is (YAML 1.1 wants 1.0e-3 and makes a text of the other)."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, strict=True)


class PhantomDataset(Model):
    """Synthetic chest radiographs with planted findings, drawn by the run itself: toys for trying the software."""

    kind: Literal["phantom"]
    patients: Annotated[int, Field(ge=20, le=1_000_000)] = 2000
    """Number of patients, each with one to three studies."""
    seed: Seed = 7
    """Which hospital: another seed gives other patients."""
    uncertain: LabelPolicy = "ignore"
    """What a label of -1 counts as in the statistics."""
    blank: LabelPolicy = "ignore"
    """What a missing label counts as in the statistics."""


class TableDataset(Model):
    """A CSV or Parquet file with a row per image (its place: how.paths.table)."""

    kind: Literal["table"]
    name: str
    """What the dataset is called in reports."""
    image: str
    """Column with the image's path, relative to how.paths.images."""
    patient: str | None = None
    """Column with the patient; without one every image counts as a patient of its own, and the record says so."""
    labels: Annotated[list[str], Field(min_length=1)]
    """Columns of 1 (present), 0 (absent), -1 (uncertain) or blank (not mentioned)."""
    metadata: list[str] = []
    """Further columns, kept as text: view, sex, age, device."""
    uncertain: LabelPolicy = "ignore"
    """What a label of -1 counts as in the statistics."""
    blank: LabelPolicy = "ignore"
    """What a missing label counts as in the statistics."""


class Images(Model):
    """How image bytes become grey values."""

    max_pixels: Annotated[int, Field(ge=1, le=2_000_000_000)] = 100_000_000
    """An image that claims more pixels is not decoded: it becomes a row with reason too_large."""
    high_bit: Literal["depth", "minmax"] = "depth"
    """10 to 16-bit images: scale by the smallest bit depth that holds the brightest pixel, or by the image's range."""


class Split(Model):
    """Shares of the patients by role, by a salted hash of the patient."""

    salt: str = "medsae"
    """Another salt gives another split."""
    sae: Annotated[float, Field(gt=0, lt=1)] = 0.6
    """Patients that the SAE is trained on."""
    naming: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Patients that features are named from."""
    detection: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Patients on which names and labels are tested."""

    @model_validator(mode="after")
    def _shares_add_up(self) -> Self:
        total = self.sae + self.naming + self.detection
        if abs(total - 1) > 1e-9:
            raise ValueError(f"sae + naming + detection is {total:g}, it has to be 1")
        return self


class MedclipEncoder(Model):
    """MedCLIP's vision half: Swin-T (vit) or ResNet-50 (resnet), 512 dimensions."""

    kind: Literal["medclip-vit", "medclip-resnet"]

    def options(self) -> dict[str, Any]:
        return {}


class OnnxEncoder(Model):
    """An exported encoder of your own; how.paths.weights names the .onnx file."""

    kind: Literal["onnx"]
    size: Annotated[int, Field(ge=8, le=4096)]
    """Side of the square input, in pixels."""
    channels: Literal["L", "RGB"] = "RGB"
    """Grey (one channel) or colour (three; grey images are repeated)."""
    mean: float | list[float] = 0.0
    """Subtracted after scaling pixels to 0..1, one value or one per channel."""
    std: float | list[float] = 1.0
    """Divides after the mean is subtracted."""
    fit: Literal["pad", "stretch", "crop"] = "stretch"
    """How an image becomes square: black border, resize, or centre crop."""
    resample: Literal["bilinear", "bicubic"] = "bilinear"
    """Interpolation of the resize."""
    input_name: str | None = None
    """Name of the model's input; needed only if it has several."""
    output_name: str | None = None
    """Name of the model's output; needed only if it has several."""

    def options(self) -> dict[str, Any]:
        return self.model_dump(exclude={"kind"}, exclude_none=True)


class Sae(Model):
    """The sparse autoencoder and how it is fitted."""

    architecture: Literal["relu_l1", "batch_topk"] = "batch_topk"
    """ReLU with an L1 penalty (MedSAE), or BatchTopK (Bussmann et al. 2024)."""
    width: Annotated[int, Field(ge=2, le=1_000_000)] = 8192
    """Number of features; MedSAE's example is 16 times the embedding's 512 dimensions."""
    k: Positive = 32
    """BatchTopK: mean number of active features per image."""
    l1: Annotated[float, Field(ge=0)] = 2.0
    """ReLU: weight of the L1 penalty, for embeddings scaled to E||x - mean||^2 = d and the squared error summed over d.
    MedSAE does not state its own. On the phantoms (d = 128) 2 leaves 12 to 24 features active per image."""
    auxk: Annotated[float, Field(ge=0)] = 1 / 32
    """BatchTopK: weight of the auxiliary loss that revives dead features; 0 turns it off."""
    epochs: Positive = 100
    """Passes over the training patients' images."""
    batch_size: Positive = 4096
    """Images per optimiser step, over all workers together."""
    lr: Annotated[float, Field(gt=0, lt=1)] = 1e-3
    """Peak learning rate of Adam."""
    seed: Seed = 0
    """Seed of the weights and of the order of the data."""

    @model_validator(mode="after")
    def _k_fits(self) -> Self:
        if self.k > self.width:
            raise ValueError(f"k is {self.k}, more than the {self.width} features of width")
        return self


class Features(Model):
    """The statistics of each feature."""

    top_images: Annotated[int, Field(ge=1, le=100)] = 16
    """Strongest images kept per feature, of distinct patients."""
    permutations: Annotated[int, Field(ge=2, le=10_000)] = 20
    """Label permutations behind the entropy's null."""
    level: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    """Level of every interval."""
    seed: Seed = 0
    """Seed of the permutations."""


class What(Model):
    """All that decides the result."""

    dataset: Annotated[PhantomDataset | TableDataset, Field(discriminator="kind")]
    images: Images = Images()
    split: Split = Split()
    shard_rows: Annotated[int, Field(ge=1, le=100_000)] = 512
    """Images per shard: the unit of work, retry and resume."""
    encoder: Annotated[MedclipEncoder | OnnxEncoder, Field(discriminator="kind")]
    sae: Sae = Sae()
    features: Features = Features()


class Paths(Model):
    """Where files lie. Relative paths start at the recipe's folder; URIs (s3://...) are taken as they are."""

    table: str | None = None
    """CSV or Parquet file of a table dataset."""
    images: str | None = None
    """Folder that image paths start at; the table's own folder if not given."""
    weights: str | None = None
    """The encoder's weights: a file, or builtin:phantom-encoder."""


class Pool(Model):
    """Actors that map a model over shards."""

    actors: Positive = 1
    """Processes, each with the model loaded."""
    cpus: Annotated[float, Field(gt=0)] = 1.0
    """CPUs that one actor reserves in Ray."""
    gpus: Annotated[float, Field(ge=0)] = 0.0
    """GPUs that one actor reserves; 0 computes on the CPU. Asked for explicitly, never guessed."""
    threads: Positive = 1
    """Threads of one actor's arithmetic. Another number may change the last bits of a float."""
    batch_size: Positive = 64
    """Images per forward pass. Another number may change the last bits of a float."""
    readers: Positive = 4
    """Images of one shard that are read at once."""
    retries: Annotated[int, Field(ge=0, le=10)] = 2
    """How often a shard whose worker died is tried again."""


class Train(Model):
    """Workers of the SAE's training."""

    workers: Positive = 1
    """Data-parallel processes (DDP)."""
    cpus: Annotated[float, Field(gt=0)] = 1.0
    """CPUs per worker."""
    gpus: Annotated[float, Field(ge=0)] = 0.0
    """GPUs per worker; 0 trains on the CPU with gloo, otherwise nccl."""
    checkpoint_epochs: Positive = 10
    """Epochs between checkpoints, from which a lost worker or a killed run goes on."""
    retries: Annotated[int, Field(ge=0, le=10)] = 2
    """How often training goes on after a worker died."""


class How(Model):
    """All that decides only where and how fast."""

    paths: Paths = Paths()
    address: str | None = None
    """Ray cluster to use; null takes RAY_ADDRESS if set, or starts a local one."""
    cpus: Positive | None = None
    """CPUs of a local cluster; null takes all."""
    engine: Literal["ray", "loop"] = "ray"
    """Ray, or a plain loop in this process for looking into a stage. Both write the same bytes."""
    embed: Pool = Pool()
    encode: Pool = Pool()
    train: Train = Train()


class Recipe(Model):
    """One run."""

    name: str
    """Title of the report."""
    what: What
    how: How = How()

    @model_validator(mode="after")
    def _paths_fit(self) -> Self:
        if isinstance(self.what.dataset, TableDataset) and not self.how.paths.table:
            raise ValueError("a table dataset needs how.paths.table, the CSV or Parquet file")
        if isinstance(self.what.encoder, OnnxEncoder) and not self.how.paths.weights:
            raise ValueError("an onnx encoder needs how.paths.weights, the .onnx file")
        return self


def load_recipe(path: str | Path) -> Recipe:
    """Read a recipe; `path` is a file or the name of one that comes with the package ("phantom").

    Raises RecipeError that names every wrong key, what was found and what is allowed.
    """
    file = find_recipe(str(path))
    try:
        data = yaml.load(file.read_text(), Loader=_Loader)
    except yaml.YAMLError as error:
        raise RecipeError(f"{file} is not YAML: {error}") from error
    if not isinstance(data, dict):
        raise RecipeError(f"{file} holds {type(data).__name__}, a recipe is a mapping with name, what and how")
    recipe = parse_recipe(data, str(file))
    return _absolute_paths(recipe, file.resolve().parent)


def parse_recipe(data: dict[str, Any], where: str = "recipe") -> Recipe:
    """A recipe from plain data; raises RecipeError like `load_recipe`."""
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        lines = [f"  {explain(problem, Recipe)}" for problem in error.errors()]
        raise RecipeError("\n".join([f"{where}:", *lines])) from error


def find_recipe(name: str) -> Path:
    packaged = Path(__file__).parent / "recipes"
    for candidate in (Path(name), packaged / f"{name}.yaml"):
        if candidate.is_file():
            return candidate
    known = sorted(p.stem for p in packaged.glob("*.yaml"))
    raise RecipeError(f"no recipe {name!r}: neither a file nor one of {', '.join(known)}")


def _absolute_paths(recipe: Recipe, base: Path) -> Recipe:
    given = recipe.how.paths.model_dump(exclude_none=True)
    paths = {key: value if ":" in value else str((base / value).resolve()) for key, value in given.items()}
    how = recipe.how.model_copy(update={"paths": Paths(**paths)})
    return recipe.model_copy(update={"how": how})
