"""The base of every kind of dataset: its options in a recipe, and the way from its files to rows."""

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal, Protocol

from medsae_ray.core.artifacts.artifact import sha256
from medsae_ray.core.datasets.columns import file_data
from medsae_ray.core.datasets.rows import Rows

LabelPolicy = Literal["ignore", "zero", "one"]


class Paths(Protocol):
    """The places of a dataset's files, from how.paths of a recipe."""

    table: str | None
    metadata: str | None
    split: str | None
    images: str | None


@dataclass(frozen=True, kw_only=True)
class Dataset(ABC):
    """The options that every kind has."""

    needs: ClassVar[tuple[str, ...]] = ("table",)
    """The keys of how.paths that it requires."""
    row_per_image: ClassVar[bool] = False
    """True if its table has a row for each image, some of which may be left out."""
    reads_all: ClassVar[bool] = False
    """True if every file must be read before the number of images is known."""
    identifying: ClassVar[bool] = False
    """True if its files carry a hospital's own identifiers, which are hashed unless the recipe says otherwise."""
    drawn: ClassVar[bool] = False
    """True if the run draws its images, below the root."""
    library: ClassVar[str | None] = None
    """The optional package that reads its images; None if every installation can read them."""

    kind: str
    name: str
    """Name of the dataset in reports."""
    uncertain: LabelPolicy = "ignore"
    """Value of a label of -1 in the statistics."""
    blank: LabelPolicy = "ignore"
    """Value of a missing label in the statistics."""

    @abstractmethod
    def rows(self, paths: Paths) -> Rows:
        """Read the files as rows. Raises DatasetError for files that are missing or not of this kind."""

    def identity(self, paths: Paths) -> dict[str, Any]:
        """Return everything that decides the rows."""
        return {"dataset": self.chosen(), **self.content(paths)}

    def chosen(self) -> dict[str, Any]:
        """Return the options that decide the rows. The policies for -1 and blank act in the statistics: the manifest
        keeps the labels as annotated."""
        return {name: value for name, value in asdict(self).items() if name not in ("uncertain", "blank")}

    def content(self, paths: Paths) -> dict[str, Any]:
        """Hash the contents of its files, never their places."""
        return {"table": sha256(file_data(paths.table, "table"))}
