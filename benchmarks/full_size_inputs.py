"""Artifacts of a run that need pixels, made without any: embeddings with planted concepts, masks and fingerprints.

They have the names, schemas, parts and records of the real stages, so that a run finds them and goes on from there. An
embedding is the sum of a direction for each label and property that its manifest row has, of hidden concepts, of the
patient's own offset, and of noise.

Legend: N images of a shard, C concepts, H hidden concepts, D embedding dimension.
"""

import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial

import numpy as np
import pyarrow as pa
import torch
from rich.console import Console

from medsae_ray.config import Recipe
from medsae_ray.core.artifacts import schema
from medsae_ray.core.artifacts.artifact import Artifact
from medsae_ray.core.artifacts.metrics import EmbeddingsMetrics, SaeMetrics, metrics_of
from medsae_ray.core.artifacts.schema import SPLITS
from medsae_ray.core.artifacts.store import Store
from medsae_ray.pipeline import STAGES
from medsae_ray.runtime.made import Made, commit, now
from medsae_ray.runtime.run import Run
from medsae_ray.stages.sae import job_of, made_of, train_here
from medsae_ray.stages.sae_table import sample_rows

DIMENSIONS = {"medclip-resnet": 512, "biomedparse": 1536}
PROPERTIES = ("m_sex=Male", "m_view=Lateral", "m_projection=AP", "m_plane=axial", "m_plane=coronal", "m_modality=MR")
"""The values of metadata that have a direction, of the columns that a manifest has."""
HIDDEN, OFFSETS = 256, 32
UNREADABLE = 10_000
"""One image of as many has no embedding."""
FLIPPED = 0.2
"""The share of bits in which a fingerprint differs from that of the shard's anatomy."""

Compute = Callable[[pa.Table, int], pa.Table]
"""The rows of a manifest's shard -> the rows of the artifact's part."""


class Planted:
    """The directions of one encoder, and the embeddings that follow from rows of a manifest."""

    def __init__(self, concepts: list[str], dim: int, clarity: float, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.concepts, self.dim, self.seed = concepts, dim, seed
        self.own_CD = _directions(rng, len(concepts), dim) * clarity
        self.hidden_HD = _directions(rng, HIDDEN, dim)
        self.frequency_H = np.geomspace(0.005, 0.2, HIDDEN)
        self.offset_OD = _directions(rng, OFFSETS, dim) * 0.3 / np.sqrt(OFFSETS)

    def embed(self, rows: pa.Table, shard: int) -> np.ndarray:
        """Return float32 [N, D] of a shard's rows."""
        rng = np.random.default_rng([self.seed, shard])
        there_NC = present(rows, self.concepts, rng)
        strength_NC = there_NC * rng.gamma(16, 1 / 16, there_NC.shape)
        hidden_NH = (rng.random((len(rows), HIDDEN)) < self.frequency_H) * rng.gamma(4, 1 / 4, (len(rows), HIDDEN))
        x_ND = strength_NC @ self.own_CD + hidden_NH @ self.hidden_HD + self._offsets(rows) @ self.offset_OD
        noise_ND = rng.standard_normal((len(rows), self.dim), dtype=np.float32) * np.float32(0.3 / np.sqrt(self.dim))
        return np.asarray(x_ND.astype(np.float32) + noise_ND)

    def _offsets(self, rows: pa.Table) -> np.ndarray:
        """Return each patient's own numbers, the same in all of its images, [N, OFFSETS]."""
        patients, patient_N = np.unique(rows["patient_id"].to_numpy(zero_copy_only=False), return_inverse=True)
        own_PO = [np.random.default_rng(zlib.crc32(name.encode())).standard_normal(OFFSETS) for name in patients]
        return np.asarray(np.stack(own_PO)[patient_N])


def _directions(rng: np.random.Generator, count: int, dim: int) -> np.ndarray:
    found_KD = rng.standard_normal((count, dim))
    return np.asarray(found_KD / np.linalg.norm(found_KD, axis=1, keepdims=True))


def concepts_of(manifest: Artifact) -> list[str]:
    """Return the labels and properties that have a direction: "y_liver=1", "m_sex=Male"."""
    names = manifest.schema.names
    labels = [f"{name}=1" for name in names if name.startswith("y_")]
    return labels + [one for one in PROPERTIES if one.partition("=")[0] in names]


def present(rows: pa.Table, concepts: list[str], rng: np.random.Generator) -> np.ndarray:
    """Return which concepts each image has, bool [N, C]; an uncertain label is there in half of its images."""
    columns = []
    for concept in concepts:
        name, _, value = concept.partition("=")
        cells = rows[name].to_numpy(zero_copy_only=False)
        if name.startswith("m_"):
            columns.append(cells == value)
        else:
            columns.append((cells == 1) | ((cells == -1) & (rng.random(len(cells)) < 0.5)))
    return np.stack(columns, axis=1)


def plant(recipe: Recipe, root: str) -> None:
    """Make what the recipe's run needs besides its manifest, which is there already."""
    with Run(recipe, Store(root), STAGES, Console(quiet=True)) as run:
        manifest = run.artifact("manifest")
        dim = DIMENSIONS[recipe.what.encoder.kind]
        names = ["embeddings"] + ["random_embeddings"] * (recipe.what.recovery.random_weights is not None)
        for seed, name in enumerate(names):
            planted = Planted(concepts_of(manifest), dim, 1.0 if name == "embeddings" else 0.2, seed)
            _commit(run, name, manifest, partial(embedded, planted))
        if recipe.what.datasets:
            _commit(run, "fingerprints", manifest, fingerprints)


def train_on(recipe: Recipe, root: str, rows: int) -> None:
    """Make the SAE with `rows` training and held-out rows instead of all, where the CPU time for all is lacking."""
    with Run(recipe, Store(root), STAGES, Console(quiet=True)) as run:
        parents = {name: run.artifact(name) for name in ("embeddings", "manifest")}
        draft = run.draft(STAGES["sae"], {name: parents[name] for name in STAGES["sae"].before(recipe)})
        if draft.committed():
            return
        start, clock, job = now(), time.perf_counter(), job_of(draft, recipe.how.train)
        train, heldout = (sample_rows(parents["embeddings"], parents["manifest"], split, rows) for split in SPLITS[:2])
        tables = torch.from_numpy(train), torch.from_numpy(heldout)
        fitted = train_here(job, {}, None, lambda epoch, state: None, tables)
        commit(draft, made_of(draft, fitted, job.config), start, time.perf_counter() - clock)


def encode(recipe: Recipe, root: str, active: int) -> None:
    """Make the activations of an ideal SAE instead of those of the run's: see `codes`."""
    with Run(recipe, Store(root), STAGES, Console(quiet=True)) as run:
        before = {name: run.artifact(name) for name in STAGES["activations"].before(recipe)}
        manifest, width = run.artifact("manifest"), metrics_of(run.artifact("sae"), SaeMetrics)["config"]["width"]
        compute = partial(codes, concepts_of(manifest), width, active)
        _commit(run, "activations", manifest, compute, before)


def codes(concepts: list[str], width: int, active: int, rows: pa.Table, shard: int) -> pa.Table:
    """Return a shard's rows of the activations schema: the first features are the planted concepts, the others come by
    chance, some of them a thousand times as often as others, so that about `active` are active on an image."""
    rng = np.random.default_rng([4, shard])
    own = np.argwhere(present(rows, concepts, rng))
    more = max(active * len(rows) - len(own), 0)
    share = np.cumsum(np.geomspace(1, 1e-3, width - len(concepts)))
    drawn = len(concepts) + np.searchsorted(share, rng.random(more) * share[-1])
    key = np.unique(np.append(own @ [width, 1], rng.integers(0, len(rows), more) * width + drawn))
    row_T, feature_T = np.divmod(key, width)
    ok_N = np.random.default_rng(shard).random(len(rows)) >= 1 / UNREADABLE
    keep_T = ok_N[row_T]
    row_T, feature_T = row_T[keep_T], feature_T[keep_T]
    starts = pa.array(np.searchsorted(row_T, np.arange(len(rows) + 1)).astype(np.int32))
    lists = (feature_T.astype(np.int32), rng.gamma(4, 0.25, len(row_T)).astype(np.float32))
    declared, missing = schema.activations(), pa.array(~ok_N)
    columns = [
        pa.ListArray.from_arrays(starts, pa.array(values), type=declared.field(name).type, mask=missing)
        for name, values in zip(("feature", "value"), lists, strict=True)
    ]
    squares = [pa.array(np.full(len(rows), value), mask=~ok_N) for value in (0.3, 1.0)]
    return pa.Table.from_arrays([rows["image_id"], *columns, *squares], schema=declared)


def _commit(
    run: Run, name: str, manifest: Artifact, compute: Compute, before: dict[str, Artifact] | None = None
) -> None:
    draft = run.draft(STAGES[name], before or {"manifest": manifest})
    if draft.committed():
        return
    start, clock, writer = now(), time.perf_counter(), draft.writer(None)
    files = [writer.write(shard, compute(rows, shard), rows.num_rows) for shard, rows in _shards(manifest)]
    metrics: Mapping[str, object] = EmbeddingsMetrics(notes={}) if name.endswith("embeddings") else {}
    commit(draft, Made(files, metrics), start, time.perf_counter() - clock)


def _shards(manifest: Artifact) -> Iterator[tuple[int, pa.Table]]:
    wanted = [name for name in manifest.schema.names if name.startswith(("y_", "m_")) or name.endswith("_id")]
    yield from ((part.shard, manifest.part(part.shard, wanted)) for part in manifest.parts)


def embedded(planted: Planted, rows: pa.Table, shard: int) -> pa.Table:
    """Return a shard's rows of the embeddings schema."""
    x_ND, ok_N = planted.embed(rows, shard), np.random.default_rng(shard).random(len(rows)) >= 1 / UNREADABLE
    x_ND[~ok_N] = 0
    declared = schema.embeddings(planted.dim)
    x = pa.FixedSizeListArray.from_arrays(pa.array(x_ND.ravel()), type=declared.field("x").type, mask=pa.array(~ok_N))
    reasons = pa.array(["corrupt"] * len(rows), mask=ok_N)
    return pa.Table.from_arrays([rows["image_id"], x, pa.array(ok_N), reasons], schema=declared)


def fingerprints(rows: pa.Table, shard: int) -> pa.Table:
    """Return a shard's rows of the fingerprints schema: images of like planes have like hashes."""
    planes = np.unique(rows["m_plane"].to_numpy(zero_copy_only=False), return_inverse=True)[1]
    bits_NB = np.random.default_rng(0).random((3, 320))[planes] < 0.5
    bits_NB ^= np.random.default_rng([1, shard]).random(bits_NB.shape) < FLIPPED
    packed = np.packbits(bits_NB, axis=1)
    coarse = pa.array(np.ascontiguousarray(packed[:, :8]).view(np.uint64).ravel())
    detail = pa.array([row.tobytes() for row in packed[:, 8:]], pa.binary(32))
    reasons = pa.nulls(len(rows), pa.string())
    return pa.Table.from_arrays([rows["image_id"], coarse, detail, reasons], schema=schema.fingerprints())
