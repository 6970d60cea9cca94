"""Dataset `phantom-volumes`: synthetic CT and MRI scans of core/phantom/volumes, which a stage of the run draws."""

from dataclasses import asdict, dataclass
from typing import Annotated, Any, ClassVar, Literal

from medsae_ray.core.datasets.base import Paths
from medsae_ray.core.datasets.rows import Rows
from medsae_ray.core.datasets.totalsegmentator import SegmentedDataset
from medsae_ray.errors import DatasetError
from medsae_ray.options import Limits, Seed


@dataclass(frozen=True, kw_only=True)
class PhantomVolumesDataset(SegmentedDataset):
    """Synthetic CT and MRI scans with planted organs, drawn by the run itself in TotalSegmentator's layout: toys for
    trying the software."""

    needs: ClassVar[tuple[str, ...]] = ()
    drawn: ClassVar[bool] = True
    kind: Literal["phantom-volumes"]
    name: str = "phantom-volumes"
    scans: Annotated[int, Limits(ge=4, le=100_000)] = 180
    """Number of scans, each of another patient."""
    seed: Seed = 7
    """Seed of the patients: another seed gives other bodies."""

    def rows(self, paths: Paths) -> Rows:
        """Refuse: there are no files. Raises DatasetError."""
        raise DatasetError(f"{self.name}: a dataset of kind phantom-volumes has no files; a run draws its scans")

    def drawing(self) -> dict[str, Any]:
        """Return the options that decide the scans."""
        return {"kind": self.kind, "scans": self.scans, "seed": self.seed}

    def cutting(self) -> dict[str, Any]:
        """Return the options that decide the slices of the scans."""
        others = {*self.drawing(), "uncertain", "blank"}
        return {name: value for name, value in asdict(self).items() if name not in others}

    def content(self, paths: Paths) -> dict[str, Any]:
        """Return {}: there are no files."""
        return {}
