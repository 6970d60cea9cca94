"""The columns of metadata that a model would be shown: they must exist, and name no patient."""

from collections.abc import Iterator

from medsae_ray.config import Recipe
from medsae_ray.core.artifacts.artifact import Artifact
from medsae_ray.core.artifacts.metrics import ManifestMetrics, metrics_of
from medsae_ray.core.artifacts.schema import METADATA
from medsae_ray.core.naming.identifiers import valued_as_identifier
from medsae_ray.errors import RecipeError
from medsae_ray.names import nearest


def column_problems(recipe: Recipe, manifest: Artifact) -> Iterator[RecipeError]:
    """Yield the problems of what.naming.judge.columns. No message quotes a value of a column."""
    judge = recipe.what.naming.judge if recipe.what.naming else None
    there = [name.removeprefix(METADATA) for name in manifest.schema.names if name.startswith(METADATA)]
    own = {getattr(source, key, None) for source in recipe.what.sources for key in ("image", "patient")}
    patients = metrics_of(manifest, ManifestMetrics)["audit"]["patients"]
    for column in judge.columns if judge else ():
        if column in own:
            yield RecipeError(f"what.naming.judge.columns has {column!r}, the dataset's own image or patient")
        elif column not in there:
            known = f"the dataset's metadata are {', '.join(there) or 'none'}"
            near = nearest(column, there)
            meant = f"; did you mean {near!r}?" if near else ""
            yield RecipeError(f"what.naming.judge.columns has {column!r}{meant}; {known}")
        elif kind := valued_as_identifier(manifest.table([METADATA + column])[METADATA + column].to_pylist(), patients):
            yield RecipeError(
                f"what.naming.judge.columns has {column!r}, whose values look like {kind}: a model is shown "
                "nothing that may name a patient. Leave the column out, or put its values into groups"
            )
