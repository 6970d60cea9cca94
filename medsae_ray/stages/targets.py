"""The targets of a run's linear probes: its labels and its columns of metadata."""

import numpy as np
import pyarrow as pa

from medsae_ray.config import Recipe
from medsae_ray.core.analysis.partial_sums import Labels
from medsae_ray.core.analysis.values import Bools
from medsae_ray.core.artifacts.artifact import Artifact
from medsae_ray.core.artifacts.columns import column
from medsae_ray.core.artifacts.metrics import ManifestMetrics, metrics_of
from medsae_ray.core.artifacts.schema import METADATA
from medsae_ray.core.probing.targets import Target, targets_of


def targets_in(recipe: Recipe, manifest: Artifact, labels: Labels, row_n: np.ndarray, fit_n: Bools) -> list[Target]:
    """Return the targets of some rows [n] of the manifest; those with `fit_n` decide the categories and the cuts."""
    known = [name for name in manifest.schema.names if name.startswith(METADATA)]
    stored = manifest.table(known).take(pa.array(row_n)) if known else None
    columns = {name.removeprefix(METADATA): column(stored, name).tolist() for name in known}
    names = metrics_of(manifest, ManifestMetrics)["labels"]
    return targets_of(names, labels.y_NL[row_n], columns, fit_n, recipe.what.recovery.thresholds)
