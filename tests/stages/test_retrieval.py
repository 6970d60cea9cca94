"""The quality table of a small run: against a plain search, in any groups of shards, and without labels."""

from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from sklearn.metrics import average_precision_score

from medsae_ray.config import parse_recipe
from medsae_ray.core.analysis.partial_sums import Labels
from medsae_ray.core.artifacts.artifact import Artifact
from medsae_ray.core.artifacts.columns import readable
from medsae_ray.core.artifacts.retrieval import RetrievalMetrics
from medsae_ray.core.artifacts.store import Store
from medsae_ray.core.retrieval.quality import average_precision
from medsae_ray.metrics import neighbours
from medsae_ray.pipeline import STAGES
from medsae_ray.runtime.run import Run
from tests.core.made import Cohort, activations_table, artifact, cohort, embeddings_table
from tests.support.small import recipe_data
from tests.support.typed import fits

K = 2


def made_of(root: Path, made: Cohort, shard_rows: int = 40, **what: object) -> Artifact:
    """The artifact of stage retrieval, from artifacts made of a cohort."""
    data = recipe_data(root / "t", root / "w", engine="loop")
    data["what"]["retrieval"] = {"ks": [1, K, 50]} | what
    rows = np.arange(len(made.ok_N))
    shards = np.split(rows, range(shard_rows, len(rows), shard_rows))
    parents = {
        "embeddings": artifact(root, "embeddings", [embeddings_table(made, part) for part in shards]),
        "activations": artifact(root, "activations", [activations_table(made, part) for part in shards]),
    }
    for name, metrics in (("manifest", {"labels": made.labels}), ("sae", {"config": {"width": made.z_NM.shape[1]}})):
        parents[name] = artifact(root, name, [made.manifest(shard_rows)])
        parents[name].record.metrics.update(metrics)
    with Run(parse_recipe(data), Store(str(root)), STAGES, Console(quiet=True)) as run:
        stage = STAGES["retrieval"]
        draft = run.draft(stage, {name: parents[name] for name in stage.parents(run.recipe)})
        found = stage.make(run, draft)
        fits(found.metrics, RetrievalMetrics)
        return draft.commit(found.files, found.metrics, {"start": "", "end": ""})


def test_precision_and_cosine_are_those_of_neighbours(tmp_path: Path) -> None:
    made = cohort(images=400)
    found = made_of(tmp_path, made)
    embeddings = artifact(tmp_path / "again", "embeddings", [embeddings_table(made, np.arange(400))])
    labels = Labels.of(made.manifest(40), "ignore", "ignore", readable(embeddings))
    pool = np.flatnonzero(~labels.training_N & made.ok_N)
    assert not (made.z_NM[made.ok_N] > 0).all(0).any()
    hits, cosines, asked = [], [], 0
    x = made.x_ND / np.linalg.norm(made.x_ND, axis=1, keepdims=True)
    for row in np.flatnonzero(labels.test_N):
        others = neighbours(made.z_NM[pool], int(np.flatnonzero(pool == row)[0]), K, made.patient_N[pool], 10)
        if others.reason is not None:  # fewer than K active features, which this table leaves out
            continue
        asked += 1
        cosines.append((x[pool[others.rows[:5]]] @ x[row]).mean())
        known = labels.y_NL[pool[others.rows], 0]
        if labels.y_NL[row, 0] == 1 and np.isfinite(known).any():
            hits.append(np.nanmean(known))
    rows = {(row["method"], row["k"], row["label"]): row for row in found.table().to_pylist()}
    whole, of_label = rows["sparse", K, None], rows["sparse", K, "l0"]
    assert whole["references"] == asked and whole["left_out"] == labels.test_N.sum() - asked
    assert whole["cosine"] == pytest.approx(np.mean(cosines), abs=1e-6)
    assert of_label["references"] == len(hits) and of_label["precision_10"] == pytest.approx(np.mean(hits))
    assert of_label["precision_10_low"] < of_label["precision_10"] < of_label["precision_10_high"]
    assert of_label["precision_10"] > of_label["chance"] + 0.1
    random = rows["random", None, "l0"]
    assert random["precision_10_low"] - 0.1 < random["chance"] < random["precision_10_high"] + 0.1
    assert "0 references" in rows["sparse", 50, None]["lacking"] and rows["sparse", 50, None]["cosine"] is None


def test_the_table_does_not_depend_on_shards(tmp_path: Path) -> None:
    made = cohort(images=250)
    one, other = (made_of(tmp_path / str(rows), made, rows).table() for rows in (17, 250))
    assert one.equals(other)


def test_without_labels_or_other_patients_there_are_reasons(tmp_path: Path) -> None:
    plain = cohort(images=120, labels=3)
    rng = np.random.default_rng(0)
    bare = Cohort(plain.patient_N, np.empty((120, 0)), plain.x_ND, rng.random((120, 6)).astype(np.float32), plain.ok_N)
    table = made_of(tmp_path / "bare", bare).table().to_pylist()
    assert {row["label"] for row in table} == {None}
    assert all(row["lacking"] for row in table if row["method"] in ("sparse", "rarity")), "all are always active"
    one = Cohort(np.array(["p"] * 120), np.full((120, 1), np.nan), plain.x_ND, plain.z_NM, plain.ok_N)
    table = made_of(tmp_path / "one", one).table().to_pylist()
    assert table and all(row["lacking"] and row["cosine"] is row["precision_10"] is None for row in table)


def test_average_precision_is_scikit_learns_where_all_relevant_images_are_in_the_list() -> None:
    y = np.array([[1.0, 0, 1, 0, 0, 1, 0, 0, 0, 0]])
    expected = average_precision_score(y[0], -np.arange(10))
    assert average_precision(y, 3)[0] == pytest.approx(expected)
    assert average_precision(np.array([[1, np.nan, 0, 1]]), 2)[0] == pytest.approx((1 + 2 / 3) / 2)
    assert np.isnan(average_precision(np.full((1, 3), np.nan), 2)[0])
