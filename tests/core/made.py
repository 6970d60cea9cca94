"""Artifacts made of known numbers: images of many patients, some unreadable, labels partly missing, several shards."""

from dataclasses import dataclass
from functools import reduce
from pathlib import Path

import numpy as np
import pyarrow as pa

from medsae_ray.core.analysis.feature_table import UnitStatistics, unit_statistics
from medsae_ray.core.analysis.partial_sums import FeatureWork, GroupSums, Labels
from medsae_ray.core.artifacts import schema
from medsae_ray.core.artifacts.artifact import Artifact, Draft
from medsae_ray.core.artifacts.columns import readable
from medsae_ray.core.artifacts.store import Store
from medsae_ray.core.datasets.rows import Rows, label_matrix, to_manifest

SHARES = {"sae": 0.4, "naming": 0.3, "detection": 0.3}
RUN = {"start": "", "end": ""}


@dataclass(frozen=True)
class Cohort:
    """Per image: labels y_NL of 1, 0, -1 or NaN, a raw embedding x_ND, activations z_NM, and whether it is readable."""

    patient_N: np.ndarray
    y_NL: np.ndarray
    x_ND: np.ndarray
    z_NM: np.ndarray
    ok_N: np.ndarray

    @property
    def labels(self) -> list[str]:
        return [f"l{label}" for label in range(self.y_NL.shape[1])]

    @property
    def image_N(self) -> list[str]:
        return [f"i{row:05d}" for row in range(len(self.ok_N))]

    def manifest(self, shard_rows: int) -> pa.Table:
        y = {
            label: pa.array(y_N, from_pandas=True).cast(pa.int8())
            for label, y_N in zip(self.labels, self.y_NL.T, strict=True)
        }
        rows = Rows("made", self.image_N, self.patient_N.tolist(), self.image_N, y, {})
        return to_manifest(rows, SHARES, "s", shard_rows)


def representatives(manifest: pa.Table, ok_N: np.ndarray) -> np.ndarray:
    """One readable image of each patient: the index image if it is readable, else the first that is."""
    chosen: dict[str, int] = {}
    for row, image in enumerate(manifest.to_pylist()):
        if ok_N[row] and (image["index_image"] or image["patient_id"] not in chosen):
            chosen[image["patient_id"]] = row
    return np.isin(np.arange(len(ok_N)), list(chosen.values()))


def cohort(seed: int = 0, images: int = 300, features: int = 6, dims: int = 4, labels: int = 3) -> Cohort:
    """About three images a patient; label 0 drives feature 0 and, downwards, dimension 0; the last feature is dead."""
    rng = np.random.default_rng(seed)
    y_NL = rng.choice([0.0, 1.0, -1.0, np.nan], (images, labels), p=[0.55, 0.3, 0.05, 0.1])
    x_ND, z_NM = rng.normal(size=(images, dims)), rng.gamma(1, 1, (images, features))
    z_NM *= rng.random((images, features)) < 0.3
    has = y_NL[:, 0] == 1
    x_ND[has, 0] -= 1.5
    z_NM[has, 0] += 2
    z_NM[:, -1] = 0
    patient_N = np.array([f"p{p:04d}" for p in rng.integers(0, max(1, images // 3), images)])
    return Cohort(patient_N, y_NL, x_ND.astype(np.float32), z_NM.astype(np.float32), rng.random(images) > 0.1)


def embeddings_table(made: Cohort, rows: np.ndarray) -> pa.Table:
    ok = made.ok_N[rows].tolist()
    x = [x_D if good else None for x_D, good in zip(made.x_ND[rows].tolist(), ok, strict=True)]
    columns = [np.array(made.image_N)[rows].tolist(), x, ok, [None if good else "corrupt" for good in ok]]
    return pa.table(columns, schema=schema.embeddings(made.x_ND.shape[1]))


def activations_table(made: Cohort, rows: np.ndarray) -> pa.Table:
    good, active = made.ok_N[rows].tolist(), [np.flatnonzero(z_M) for z_M in made.z_NM[rows]]
    feature = [a.tolist() if g else None for a, g in zip(active, good, strict=True)]
    value = [z_M[a].tolist() if g else None for z_M, a, g in zip(made.z_NM[rows], active, good, strict=True)]
    error = [1.0 + row if g else None for row, g in zip(rows.tolist(), good, strict=True)]
    norm = [5.0 + row if g else None for row, g in zip(rows.tolist(), good, strict=True)]
    return pa.table([np.array(made.image_N)[rows].tolist(), feature, value, error, norm], schema=schema.activations())


def artifact(root: Path, stage: str, parts: list[pa.Table]) -> Artifact:
    draft = Draft(Store(str(root)), stage, 1, {"parts": len(parts)}, {})
    writer = draft.writer(parts[0].schema)
    return draft.commit([writer.write(s, part, part.num_rows) for s, part in enumerate(parts)], {}, RUN)


def feature_work(
    root: Path, made: Cohort, shard_rows: int = 40, manifest: pa.Table | None = None, permutations: int = 5
) -> FeatureWork:
    """What the features stage computes from; `manifest` replaces the cohort's own."""
    manifest = made.manifest(shard_rows) if manifest is None else manifest
    shards = np.split(np.arange(len(made.ok_N)), range(shard_rows, len(made.ok_N), shard_rows))
    embeddings = artifact(root, "embeddings", [embeddings_table(made, rows) for rows in shards])
    activations = artifact(root, "activations", [activations_table(made, rows) for rows in shards])
    labels = Labels.of(manifest, "ignore", "ignore", readable(embeddings))
    return FeatureWork(embeddings, activations, labels, made.z_NM.shape[1], 4, permutations, 0)


def merged(work: FeatureWork) -> GroupSums:
    return reduce(GroupSums.merge, (work.compute(shards) for shards in work.groups()))


def both_evidence(work: FeatureWork, names: list[str]) -> dict[str, UnitStatistics]:
    total = merged(work)
    return {space: unit_statistics(space, getattr(total, space), work.labels, names, 0.95) for space in ("sae", "raw")}


def known_labels(manifest: pa.Table) -> np.ndarray:
    return label_matrix(manifest, "ignore", "ignore")


def with_split(manifest: pa.Table, split: list[str]) -> pa.Table:
    return manifest.set_column(manifest.schema.get_field_index("split"), manifest.schema.field("split"), [split])
