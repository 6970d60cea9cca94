"""Stage `samples`: the images that each feature is named from, and those on which its name is tested."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from scipy import sparse

from medsae_ray.config import Recipe
from medsae_ray.core.analysis.partial_sums import one_readable
from medsae_ray.core.artifacts import schema
from medsae_ray.core.artifacts.artifact import Artifact, Draft
from medsae_ray.core.artifacts.columns import activation_matrix, column, readable
from medsae_ray.core.artifacts.layout import Layout, embedding_matrix
from medsae_ray.core.artifacts.metrics import SaeMetrics, metrics_of
from medsae_ray.core.artifacts.name_metrics import SamplesMetrics
from medsae_ray.core.artifacts.schema import METADATA
from medsae_ray.core.naming.candidates import SUFFICIENT, Candidates, ImageSample
from medsae_ray.core.naming.sampling import (
    DetectionDesign,
    NamingDesign,
    check_sample,
    detection_sample,
    naming_sample,
)
from medsae_ray.engine.session import naming_of
from medsae_ray.names import by_name
from medsae_ray.runtime.made import Made
from medsae_ray.runtime.run import Run, Stage

NAMING, CHECK, DETECTION, POOL = "naming", "check", "detection", "pool"


def without_naming(recipe: Recipe) -> str | None:
    """Return the keys that the recipe lacks for names; None if it has them."""
    return None if recipe.what.naming else "what.naming and how.vlm"


def candidates(run: Run, draft: Draft, split: str, one_each: bool) -> tuple[Candidates, np.ndarray]:
    """Return the readable images of a split, and the ids of all images. `one_each` keeps one image of each patient."""
    embeddings, activations = draft.parents["embeddings"], draft.parents["activations"]
    manifest = draft.parents["manifest"].table()
    ok_N = readable(embeddings)
    chosen_N = (column(manifest, "split") == split) & (one_readable(manifest, ok_N) if one_each else ok_N)
    width = metrics_of(draft.parents["sae"], SaeMetrics)["config"]["width"]
    rows = np.flatnonzero(chosen_N)
    image_N = column(manifest, "image_id")
    chosen = manifest.take(pa.array(rows))
    columns = {c: chosen[c].to_pylist() for c in manifest.column_names if c.startswith(METADATA)}
    e_ND, x_NF = matrices(embeddings, activations, chosen_N, width)
    seed = naming_of(run.recipe).seed
    return Candidates.of(rows, image_N[rows], column(chosen, "patient_id"), e_ND, x_NF, seed, columns), image_N


def matrices(
    embeddings: Artifact, activations: Artifact, chosen_N: np.ndarray, width: int
) -> tuple[np.ndarray, sparse.csr_array]:
    """Read the embeddings and activations of the chosen images, shard by shard."""
    e, x, start = [], [], 0
    for part in embeddings.parts:
        chosen = chosen_N[start : start + part.rows]
        start += part.rows
        if chosen.any():
            values, ok = embedding_matrix(embeddings.part(part.shard))
            e.append(values[chosen[ok]])
            x.append(activation_matrix(activations.part(part.shard), width)[np.flatnonzero(chosen)])
    dim = Layout.of(embeddings.schema).dim
    return np.concatenate([np.empty((0, dim), np.float32), *e]), sparse.vstack([sparse.csr_array((0, width)), *x])


def _make(run: Run, draft: Draft) -> Made:
    rules = naming_of(run.recipe)
    top = round(rules.positives * 5 / 8)
    naming_design = by_name(NamingDesign, rules, top=top, middle=rules.positives - top)
    detection_design = by_name(DetectionDesign, rules.detection, faint=rules.faint)
    naming, image_N = candidates(run, draft, "naming", one_each=False)
    detection, _ = candidates(run, draft, "detection", one_each=True)
    features = range(detection.x_NF.shape[1])

    def each(step: str) -> Iterator[int]:
        return run.track(features, draft.stage, len(features), "features", step)

    named = [naming_sample(naming, f, rules.seed, naming_design) for f in each("for names")]
    samples = [(NAMING, sample) for sample in named]
    samples += [(CHECK, sample) for sample in _checks(run, draft, named)]
    samples += [(DETECTION, detection_sample(detection, f, rules.seed, detection_design)) for f in each("for tests")]
    pool = image_N[detection.row_N[np.argsort(detection.order_N)[: detection_design.pool]]]
    rows = [row for purpose, sample in samples for row in _rows(purpose, sample, image_N)]
    rows += [{"feature": -1, "purpose": POOL, "role": POOL, "image_id": image, "value": 0.0} for image in pool]
    table = pa.Table.from_pylist(rows, schema=schema.samples())
    lacking = {
        purpose: {str(s.feature): [s.active, s.inactive] for p, s in samples if p == purpose and s.status != SUFFICIENT}
        for purpose in (NAMING, CHECK, DETECTION)
    }
    faint = {str(s.feature): s.faint / (s.faint + s.active) for p, s in samples if p == DETECTION and s.active}
    receipt = draft.writer(schema.samples()).write(0, table, table.num_rows)
    unmatched = sum(s.unmatched for _, s in samples)
    dead = sorted(set(features) - _alive(draft.parents["activations"]))
    metrics = SamplesMetrics(width=len(features), insufficient=lacking, unmatched=unmatched, dead=dead, faint=faint)
    return Made([receipt], metrics)


def _checks(run: Run, draft: Draft, named: list[ImageSample]) -> Iterator[ImageSample]:
    """Yield, for each feature that can be named, images of other patients of the same split than those that its name
    is written from."""
    images, _ = candidates(run, draft, "naming", one_each=True)
    patient_N = column(draft.parents["manifest"].table(["patient_id"]), "patient_id")
    rules = naming_of(run.recipe)
    for sample in run.track(named, draft.stage, len(named), "features", "for checks"):
        if sample.status == SUFFICIENT:
            seen_N = np.isin(patient_N[images.row_N].astype(str), patient_N[sample.row_n].astype(str))
            yield check_sample(images, sample.feature, rules.seed, ~seen_N, rules.faint)


def _alive(activations: Artifact) -> set[int]:
    """Return the features that are active on some image of any split."""
    parts = (activations.part(part.shard)["feature"].combine_chunks() for part in activations.parts)
    return {int(feature) for part in parts for feature in np.unique(part.flatten().to_numpy())}


def _rows(purpose: str, sample: ImageSample, image_N: np.ndarray) -> Iterator[dict[str, Any]]:
    for row, role, value in zip(sample.row_n, sample.role_n, sample.value_n, strict=True):
        feature = {"feature": sample.feature, "purpose": purpose, "role": role}
        yield feature | {"image_id": image_N[row], "value": float(value)}


def by_feature(samples: pa.Table, purpose: str) -> dict[int, list[dict[str, Any]]]:
    """Group the rows of one purpose by feature, in the order of the sample."""
    found: dict[int, list[dict[str, Any]]] = {}
    for row in samples.filter(pa.compute.equal(samples["purpose"], purpose)).to_pylist():
        found.setdefault(row["feature"], []).append(row)
    return found


def _what(run: Run) -> dict[str, Any]:
    naming = naming_of(run.recipe)
    chosen = naming.model_dump(include={"positives", "contrasts", "seed", "faint"})
    return chosen | {"detection": naming.detection.model_dump(exclude={"random_names"})}


def _parents(recipe: Recipe) -> tuple[str, ...]:
    return ("manifest", "embeddings", "sae", "activations")


SAMPLES = Stage("samples", 4, _parents, _what, _make, lacks=without_naming)
