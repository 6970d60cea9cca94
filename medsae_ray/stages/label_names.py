"""Stage `label_names`: the label that each feature is correlated with, as its name."""

from medsae_ray.core.artifacts import schema
from medsae_ray.core.artifacts.artifact import Draft
from medsae_ray.core.artifacts.metrics import FeaturesMetrics, metrics_of
from medsae_ray.core.artifacts.name_metrics import LabelNamesMetrics
from medsae_ray.core.naming.label_names import label_names
from medsae_ray.runtime.made import Made
from medsae_ray.runtime.run import Run, Stage


def _make(run: Run, draft: Draft) -> Made:
    features = draft.parents["features"]
    metrics = metrics_of(features, FeaturesMetrics)
    table = label_names(features.table(), metrics["discovery_patients"], metrics["labels"])
    receipt = draft.writer(schema.names()).write(0, table, table.num_rows)
    return Made([receipt], LabelNamesMetrics(named=table.num_rows - table["name"].null_count))


LABEL_NAMES = Stage("label_names", 3, lambda recipe: ("features",), lambda run: {}, _make)
