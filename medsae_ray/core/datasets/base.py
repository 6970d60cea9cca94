"""What every kind of dataset is: its options, as a recipe gives them, and how its files become rows."""

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal, Protocol

from medsae_ray.core.artifacts.artifact import sha256
from medsae_ray.core.datasets.columns import file_data
from medsae_ray.core.datasets.rows import Rows

LabelPolicy = Literal["ignore", "zero", "one"]


class Paths(Protocol):
    """Where a dataset's files lie, as how.paths of a recipe says."""

    table: str | None
    metadata: str | None
    split: str | None
    images: str | None


@dataclass(frozen=True, kw_only=True)
class Dataset(ABC):
    """The options that every kind has."""

    needs: ClassVar[tuple[str, ...]] = ("table",)
    """Keys of how.paths that it cannot do without."""
    row_per_image: ClassVar[bool] = False
    """Whether its table has a row for each image; some may be left out."""
    reads_all: ClassVar[bool] = False
    """Whether every file is read before it is known how many images there are."""
    identifying: ClassVar[bool] = False
    """Whether its files carry a hospital's own identifiers, which are hashed unless the recipe says otherwise."""
    library: ClassVar[str | None] = None
    """The package that reads its images, where it is none that every installation has."""

    kind: str
    name: str
    """What the dataset is called in reports."""
    uncertain: LabelPolicy = "ignore"
    """What a label of -1 counts as in the statistics."""
    blank: LabelPolicy = "ignore"
    """What a missing label counts as in the statistics."""

    @abstractmethod
    def rows(self, paths: Paths) -> Rows:
        """Raises DatasetError for files that are missing or not what the kind promises."""

    def identity(self, paths: Paths) -> dict[str, Any]:
        """What decides the rows."""
        return {"dataset": self.chosen(), **self.content(paths)}

    def chosen(self) -> dict[str, Any]:
        """The options that decide the rows. The policies for -1 and blank act in the statistics: the manifest keeps
        what was annotated."""
        return {name: value for name, value in asdict(self).items() if name not in ("uncertain", "blank")}

    def content(self, paths: Paths) -> dict[str, Any]:
        """Hashes of what its files hold, never of their places."""
        return {"table": sha256(file_data(paths.table, "table"))}
