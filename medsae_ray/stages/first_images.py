"""An early stop for a run whose images are missing; an artifact without any usable image is never finished."""

from collections import Counter
from itertools import accumulate

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from medsae_ray.core.artifacts.artifact import Draft, Receipt
from medsae_ray.core.artifacts.columns import column
from medsae_ray.core.datasets import Dataset
from medsae_ray.core.images.unreadable import ENOUGH, MISSING, SHARDS, advice, counted
from medsae_ray.errors import DatasetError
from medsae_ray.runtime.made import Made
from medsae_ray.runtime.run import Run
from medsae_ray.stages.manifest import image_folder


class FirstImages:
    """A check of each dataset by its first shards, in whatever order shards are finished."""

    def __init__(self, run: Run, draft: Draft) -> None:
        self.run, self.draft = run, draft
        self.manifest = draft.parents["manifest"]
        self.shards = {source.name: self._first(source.name) for source in run.recipe.what.sources}
        self.seen: dict[str, dict[int, Counter[str]]] = {name: {} for name in self.shards}

    def _first(self, dataset: str) -> dict[int, int]:
        """Map the dataset's first shards to its images there: `SHARDS`, or more if `ENOUGH` images need more."""
        table = self.manifest.table(["dataset", "shard"])
        of_shard = Counter(column(table, "shard")[column(table, "dataset") == dataset].tolist())
        shards = sorted(of_shard)
        needed = _shortest([of_shard[shard] for shard in shards])
        return {shard: of_shard[shard] for shard in shards[: max(SHARDS, needed)]}

    def look(self, receipt: Receipt) -> None:
        """Record a part. DatasetError if a dataset has no usable image in its first shards."""
        for source in self.run.recipe.what.sources:
            if receipt.shard in self.shards[source.name]:
                self.seen[source.name][receipt.shard] = self._reasons(receipt, source.name)
                self._judge(source)

    def _reasons(self, receipt: Receipt, dataset: str) -> Counter[str]:
        """Count the reasons why images of a dataset in a shard are not ok."""
        if receipt.rows == self.shards[dataset][receipt.shard] or not receipt.not_ok:
            return Counter(receipt.not_ok)
        reasons = pq.read_table(pa.BufferReader(self.draft.store.read(receipt.name)), columns=["reason"])["reason"]
        own = pc.equal(self.manifest.part(receipt.shard, ["dataset"])["dataset"], dataset)
        return Counter(reasons.filter(own).drop_null().to_pylist())

    def _judge(self, source: Dataset) -> None:
        sizes, seen = self.shards[source.name], self.seen[source.name]
        first = list(sizes)[: _shortest(list(sizes.values()))]
        if all(seen.get(shard, Counter())[MISSING] == sizes[shard] for shard in first):
            raise DatasetError(self._none_there(source, sum(sizes[shard] for shard in first)))
        if all(shard in seen and seen[shard].total() == sizes[shard] for shard in sizes):
            reasons = sum(seen.values(), Counter[str]())
            raise DatasetError(
                f"{source.name}: none of its first {reasons.total():,} images can be used "
                f"({counted(reasons, reasons.total(), 3)}); see that they are whole images of a kind that is read"
            )

    def _none_there(self, source: Dataset, looked: int) -> str:
        table = self.manifest.table(["dataset", "uri"])
        uris = table["uri"].filter(pc.equal(table["dataset"], source.name)).to_pylist()
        own = [uri.removeprefix(f"{source.name}/") for uri in uris] if self.run.recipe.what.datasets else uris
        folder, said = image_folder(self.run, source)
        return (
            f"{source.name}: {looked:,} of the first {looked:,} images (of {len(uris):,}) are missing, from row 1 on; "
            f"{said}; {advice(own, folder)}"
        )


def _shortest(sizes: list[int]) -> int:
    """Return the number of shards that hold `ENOUGH` images, or all if there are fewer."""
    return next((n for n, images in enumerate(accumulate(sizes), 1) if images >= ENOUGH), len(sizes))


def refuse_none(made: Made) -> Made:
    """Return `made` unchanged. DatasetError if no image of any dataset can be used: such an artifact is never
    finished."""
    rows = sum(receipt.rows for receipt in made.files)
    reasons = sum((Counter(receipt.not_ok) for receipt in made.files), Counter[str]())
    if reasons.total() >= rows:
        raise DatasetError(f"no image can be used: {counted(reasons, rows)}; see what.images and how.paths")
    return made
