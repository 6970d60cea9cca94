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
from medsae_ray.errors import RecipeError


def targets_in(recipe: Recipe, manifest: Artifact, labels: Labels, row_n: np.ndarray, fit_n: Bools) -> list[Target]:
    """Return the targets of some rows [n] of the manifest; those with `fit_n` decide the categories and the cuts.

    Raises RecipeError for a group with a label that there is not.
    """
    known = [name for name in manifest.schema.names if name.startswith(METADATA)]
    stored = manifest.table(known).take(pa.array(row_n)) if known else None
    columns = {name.removeprefix(METADATA): column(stored, name).tolist() for name in known}
    names = metrics_of(manifest, ManifestMetrics)["labels"]
    rules = recipe.what.recovery
    if strange := sorted({label for own in rules.groups.values() for label in own} - set(names)):
        raise RecipeError(f"what.recovery.groups names {strange[0]!r}, which is no label of {manifest.name}")
    return targets_of(names, labels.y_NL[row_n], columns, fit_n, rules.thresholds, rules.groups)
