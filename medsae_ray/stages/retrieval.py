"""Stage `retrieval`: how alike the images are that fingerprints find, in Ray tasks over groups of shards."""

from functools import reduce
from typing import Any

import numpy as np
import pyarrow as pa
from scipy import sparse

from medsae_ray.cluster.demands import task_demand
from medsae_ray.core.analysis.drawn import drawn
from medsae_ray.core.analysis.partial_sums import Labels
from medsae_ray.core.artifacts.artifact import Draft
from medsae_ray.core.artifacts.columns import readable
from medsae_ray.core.artifacts.metrics import ManifestMetrics, SaeMetrics, metrics_of
from medsae_ray.core.artifacts.retrieval import RetrievalExample, RetrievalFigures, RetrievalMetrics
from medsae_ray.core.artifacts.retrieval import rows as retrieval_rows
from medsae_ray.core.retrieval.fingerprints import Fingerprints, discriminating, rarity
from medsae_ray.core.retrieval.nearest import Nearest
from medsae_ray.core.retrieval.quality import FEW, Judge, prevalence, resamples
from medsae_ray.core.retrieval.work import Block, Counts, CountWork, SearchWork, Shelves, random_rows
from medsae_ray.runtime.made import Made
from medsae_ray.runtime.run import Run, Stage
from medsae_ray.stages.features import features_parents, group_sums, labels_of

METHODS = ("sparse", "rarity", "dense")
EXAMPLES = 4
"""The references whose nearest images the report shows."""


def _retrieval(run: Run, draft: Draft) -> Made:
    rules, labels = run.recipe.what.retrieval, labels_of(run, draft)
    width = metrics_of(draft.parents["sae"], SaeMetrics)["config"]["width"]
    shelves = Shelves(draft.parents["embeddings"], draft.parents["activations"], labels.shard_N, width)
    group_N = np.unique(labels.patient_N.astype(str), return_inverse=True)[1]
    candidate_N = ~labels.training_N & readable(draft.parents["embeddings"])
    reference_N = drawn(labels.image_N, labels.test_N, rules.references, rules.seed)
    counts, references = _counted(run, draft, CountWork(shelves, labels.training_N, reference_N))
    prints, weights = _fingerprints(references, counts, group_N, sorted(set(rules.ks)))
    random_RP = random_rows(group_N, candidate_N, group_N[references.row_G], rules.seed)
    work = SearchWork(shelves, candidate_N, group_N, references.x_GD, random_RP, prints, weights)
    found = work.nothing()
    for group in run.track(group_sums(run, work), draft.stage, len(work.groups()), "groups", "searched"):
        found = {name: nearest.merge(group[name]) for name, nearest in found.items()}
    names = metrics_of(draft.parents["manifest"], ManifestMetrics)["labels"]
    judge = _judge(run, labels, candidate_N, group_N, references.row_G)
    rows = _rows(judge, prints, found, names)
    table = pa.Table.from_pylist(rows, schema=retrieval_rows())
    metrics = RetrievalMetrics(
        references=len(references.row_G),
        candidates=int(candidate_N.sum()),
        patients=len(np.unique(group_N[candidate_N])),
        always_active=int((counts.active_F >= max(counts.images, 1)).sum()),
        methods=means_of(rows),
        examples=_examples(labels.image_N, prints["sparse"], found, references.row_G),
    )
    return Made([draft.writer(table.schema).write(0, table, table.num_rows)], metrics)


def _counted(run: Run, draft: Draft, work: CountWork) -> tuple[Counts, Block]:
    found = list(run.track(group_sums(run, work), draft.stage, len(work.groups()), "groups", "counted"))
    blocks = [block for _, held in found for block in held]
    nothing = Block(np.empty(0, np.int64), np.empty((0, 1), np.float32), sparse.csr_array((0, work.shelves.width)))
    return reduce(Counts.plus, (counts for counts, _ in found)), Block.join(blocks) if blocks else nothing


def _fingerprints(
    references: Block, counts: Counts, group_N: np.ndarray, sizes: list[int]
) -> tuple[dict[str, Fingerprints], dict[str, np.ndarray]]:
    own_R = group_N[references.row_G]
    plain_F = discriminating(counts.active_F, counts.images)
    weights = {"sparse": plain_F, "rarity": plain_F * rarity(counts.training_F, counts.training_images)}
    prints = {name: Fingerprints.strongest(references.z_GF, w_F, own_R, sizes) for name, w_F in weights.items()}
    return prints | {"dense": Fingerprints.largest(references.x_GD, own_R, sizes)}, weights


def _judge(run: Run, labels: Labels, candidate_N: np.ndarray, group_N: np.ndarray, reference_R: np.ndarray) -> Judge:
    y_NL, patients = labels.y_NL[candidate_N], group_N[candidate_N]
    return Judge(
        y_NL=labels.y_NL,
        reference_R=reference_R,
        others=len(np.unique(patients)) - 1,
        chance_L=prevalence(y_NL, patients),
        relevant_L=np.array([len(np.unique(patients[y_N == 1])) for y_N in y_NL.T], dtype=np.int64),
        weight_BR=resamples(len(reference_R), run.recipe.what.retrieval.seed),
        level=run.recipe.what.features.level,
    )


def _rows(
    judge: Judge, prints: dict[str, Fingerprints], found: dict[str, Nearest], labels: list[str]
) -> list[dict[str, Any]]:
    rows, every = [], np.ones(len(judge.reference_R), dtype=bool)
    for method in METHODS:
        sizes = prints[method].sizes
        for size, k in enumerate(sizes):
            one = Nearest(*(values[size :: len(sizes)] for values in found[method]))
            rows += judge.rows(method, k, one, prints[method].has_QS[:, size], labels)
    for method in ("whole", "random"):
        rows += judge.rows(method, None, found[method], every, labels)
    return rows


def _examples(
    image_N: np.ndarray, prints: Fingerprints, found: dict[str, Nearest], reference_R: np.ndarray
) -> list[RetrievalExample]:
    """The first references, by their ids, that have a fingerprint of the size nearest to five."""
    size = min(range(len(prints.sizes)), key=lambda s: abs(prints.sizes[s] - FEW))
    able = np.flatnonzero(prints.has_QS[:, size])
    able = able[np.argsort(image_N[reference_R[able]].astype(str), kind="stable")][:EXAMPLES]

    def ids(row_P: np.ndarray) -> list[str]:
        return [str(image_N[row]) for row in row_P[:FEW] if row >= 0]

    return [
        RetrievalExample(
            image_id=str(image_N[reference_R[reference]]),
            k=prints.sizes[size],
            sparse=ids(found["sparse"].row_LP[reference * len(prints.sizes) + size]),
            whole=ids(found["whole"].row_LP[reference]),
        )
        for reference in able
    ]


def means_of(rows: list[dict[str, Any]]) -> list[RetrievalFigures]:
    """Return each search's figures as means over its labels."""
    found: list[RetrievalFigures] = []
    for row in rows:
        if row["label"] is None:
            own = [r for r in rows if (r["method"], r["k"]) == (row["method"], row["k"]) and r["label"] is not None]
            known = [r for r in own if r["precision_10"] is not None]
            precision, average, chance = (_mean(known, key) for key in ("precision_10", "average_precision", "chance"))
            found.append(
                RetrievalFigures(
                    method=row["method"],
                    k=row["k"],
                    cosine=row["cosine"],
                    precision_10=precision,
                    average_precision=average,
                    chance=chance,
                    labels=len(known),
                )
            )
    return found


def _mean(rows: list[dict[str, Any]], key: str) -> float | None:
    values = [row[key] for row in rows if row[key] is not None]
    return float(np.mean(values)) if values else None


def _what(run: Run) -> dict[str, Any]:
    what = run.recipe.what
    rules = what.retrieval.model_dump() | {"ks": sorted(set(what.retrieval.ks))}
    return rules | {"level": what.features.level, "uncertain": what.uncertain, "blank": what.blank}


RETRIEVAL = Stage(
    "retrieval", 1, features_parents, _what, _retrieval, demands=lambda recipe: (task_demand("retrieval"),)
)
