"""The datasets that a recipe can name: one model each, told apart by `kind`.

`core/datasets` has one reader for each kind; `needs` names the keys of how.paths that it cannot do without.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from medsae_ray.config.base import LabelPolicy, Model, Seed


class PhantomDataset(Model):
    """Synthetic chest radiographs with planted findings, drawn by the run itself: toys for trying the software."""

    needs: ClassVar[tuple[str, ...]] = ()
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

    needs: ClassVar[tuple[str, ...]] = ("table",)
    kind: Literal["table"]
    name: str
    """What the dataset is called in reports."""
    image: str
    """Column with the image's path, relative to how.paths.images."""
    patient: str | None = None
    """Column with the patient; without one every image counts as a patient of its own, and the record says so."""
    labels: Annotated[list[str], Field(min_length=1)]
    """Columns of 1 (present), 0 (absent), -1 (uncertain) or blank (not mentioned)."""
    metadata: Annotated[list[str], Field(default_factory=list)]
    """Further columns, kept as text: view, sex, age, device."""
    uncertain: LabelPolicy = "ignore"
    """What a label of -1 counts as in the statistics."""
    blank: LabelPolicy = "ignore"
    """What a missing label counts as in the statistics."""


Dataset = Annotated[PhantomDataset | TableDataset, Field(discriminator="kind")]
"""What a recipe may have under what.dataset."""
