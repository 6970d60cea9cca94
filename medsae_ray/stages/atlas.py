"""Stage `atlas`: one row per feature, with its strongest name."""

import pyarrow as pa

from medsae_ray.config import Recipe
from medsae_ray.core.artifacts import schema
from medsae_ray.core.artifacts.artifact import Draft
from medsae_ray.core.artifacts.metrics import FeaturesMetrics, metrics_of
from medsae_ray.core.artifacts.name_metrics import AtlasMetrics
from medsae_ray.core.naming.label_names import atlas
from medsae_ray.runtime.made import Made
from medsae_ray.runtime.run import Run, Stage


def _make(run: Run, draft: Draft) -> Made:
    features, sources = (
        draft.parents["features"],
        [draft.parents[s] for s in ("names", "label_names", "vocabulary_names") if s in draft.parents],
    )
    scores = draft.parents["scores"].table() if "scores" in draft.parents else None
    table = atlas(features.table(), pa.concat_tables([source.table() for source in sources]), scores)
    labels = metrics_of(features, FeaturesMetrics)["labels"]
    return Made([draft.writer(schema.atlas(len(labels))).write(0, table, table.num_rows)], AtlasMetrics(labels=labels))


def _parents(recipe: Recipe) -> tuple[str, ...]:
    vocabulary = ("vocabulary_names",) if recipe.what.vocabulary else ()
    return ("features", "label_names", *vocabulary, *(("names", "scores") if recipe.what.naming else ()))


ATLAS = Stage("atlas", 2, _parents, lambda run: {}, _make)
