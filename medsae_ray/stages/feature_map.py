"""Stage `feature_map`: coordinates of the features by their decoder directions, for a picture of all of them."""

from typing import Any

import numpy as np
import pyarrow as pa

from medsae_ray.core.analysis.feature_map import feature_map
from medsae_ray.core.artifacts import schema
from medsae_ray.core.artifacts.artifact import Draft
from medsae_ray.core.sae.checkpoint import sae_from_bytes
from medsae_ray.core.sae.formats.fold import folded
from medsae_ray.runtime.made import Made
from medsae_ray.runtime.run import Run, Stage

SEED = 0


def _make(run: Run, draft: Draft) -> Made:
    sae = draft.parents["sae"]
    stored = sae_from_bytes(sae.file("weights"), sae.file("config"), sae.store.uri)
    plain = stored.sae if stored.config.normalisation == "l2" else folded(stored).sae
    xy_M2 = feature_map(plain.W_dec.detach().numpy(), draft.what["seed"])
    columns = [pa.array(np.arange(len(xy_M2)), pa.int32()), *map(pa.array, xy_M2.T)]
    table = pa.table(columns, schema=schema.feature_map())
    return Made([draft.writer(table.schema).write(0, table, table.num_rows)])


def _what(run: Run) -> dict[str, Any]:
    return {"seed": SEED}


FEATURE_MAP = Stage("feature_map", 1, lambda recipe: ("sae",), _what, _make)
