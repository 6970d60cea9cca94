"""Dataset `phantom`: synthetic patients of core/phantom, whose radiographs a stage of the run draws."""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from medsae_ray.core.datasets.base import Dataset, Paths
from medsae_ray.core.datasets.rows import Rows
from medsae_ray.errors import DatasetError
from medsae_ray.options import Limits, Seed

_LATER = ("prevalence", "film", "marker")
"""The options that are newer than existing artifacts: they enter the identity only if they are not the default."""


@dataclass(frozen=True, kw_only=True)
class PhantomDataset(Dataset):
    """Synthetic chest radiographs with planted findings, drawn by the run itself: toys for trying the software."""

    needs: ClassVar[tuple[str, ...]] = ()
    drawn: ClassVar[bool] = True
    kind: Literal["phantom"]
    name: str = "phantom"
    patients: Annotated[int, Limits(ge=20, le=1_000_000)] = 2000
    """Number of patients, each with one to three studies."""
    seed: Seed = 7
    """Seed of the hospital: another seed gives other patients."""
    prevalence: Annotated[float, Limits(gt=0, le=2)] = 1.0
    """Factor on the probability of every finding."""
    film: Literal["standard", "soft"] = "standard"
    """Look of the films; soft is flatter and darker."""
    marker: Literal["devices", "random", "never"] = "devices"
    """What the burned-in word PORTABLE is correlated with: support devices (a planted shortcut), or nothing."""

    def rows(self, paths: Paths) -> Rows:
        """Refuse: there are no files. Raises DatasetError."""
        raise DatasetError(f"{self.name}: a dataset of kind phantom has no files; a run draws its images")

    def chosen(self) -> dict[str, Any]:
        """Return the options that decide the pictures."""
        later = {name: getattr(self, name) for name in _LATER if getattr(self, name) != getattr(PhantomDataset, name)}
        return {"kind": self.kind, "patients": self.patients, "seed": self.seed} | later

    def content(self, paths: Paths) -> dict[str, Any]:
        """Return {}: there are no files."""
        return {}
