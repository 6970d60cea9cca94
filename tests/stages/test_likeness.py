"""Distances of a small run's images: against scikit-learn, in any groups of shards, and where they say nothing."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from sklearn.covariance import OAS
from sklearn.neighbors import NearestNeighbors

from medsae_ray.config import parse_recipe
from medsae_ray.core.analysis.likeness import Estimator, Reference, from_file
from medsae_ray.core.artifacts.artifact import Artifact
from medsae_ray.core.artifacts.likeness import LikenessMetrics
from medsae_ray.core.artifacts.metrics import metrics_of
from medsae_ray.core.artifacts.store import Store
from medsae_ray.pipeline import STAGES
from medsae_ray.runtime.run import Run
from tests.core.made import Cohort, artifact, cohort, embeddings_table
from tests.support.small import recipe_data
from tests.support.typed import fits

LEVEL = 0.9


def made_of(
    root: Path, made: Cohort, shard_rows: int = 40, level: float = LEVEL, dataset: list[str] | None = None
) -> tuple[Artifact, list[str]]:
    """The artifact of stage likeness from artifacts made of a cohort, and the codes of its warnings."""
    data = recipe_data(root / "t", root / "w", engine="loop")
    data["what"]["likeness"] = {"level": level}
    rows = np.arange(len(made.ok_N))
    shards = np.split(rows, range(shard_rows, len(rows), shard_rows))
    manifest = made.manifest(shard_rows)
    if dataset:
        at = manifest.schema.get_field_index("dataset")
        manifest = manifest.set_column(at, manifest.schema.field(at), [dataset])
    parents = {
        "manifest": artifact(root, "manifest", [manifest]),
        "embeddings": artifact(root, "embeddings", [embeddings_table(made, part) for part in shards]),
    }
    with Run(parse_recipe(data), Store(str(root)), STAGES, Console(quiet=True)) as run:
        stage = STAGES["likeness"]
        draft = run.draft(stage, parents)
        found = stage.make(run, draft)
        fits(found.metrics, LikenessMetrics)
        committed = draft.commit(found.files, found.metrics, {"start": "", "end": ""})
        return committed, [warning.code for warning in stage.warnings(run, committed)]


def stored(found: Artifact) -> tuple[Estimator, Reference]:
    return from_file(found.file("estimator"))


def splits(made: Cohort) -> dict[str, np.ndarray]:
    split = np.array(made.manifest(40)["split"].to_pylist())
    return {name: (split == name) & made.ok_N for name in ("sae", "naming", "detection")}


def test_distances_threshold_and_shares_are_those_of_plain_computation(tmp_path: Path) -> None:
    made, sets = cohort(images=600), splits(cohort(images=600))
    found, warnings = made_of(tmp_path, made)
    fitted = OAS().fit(made.x_ND[sets["sae"]].astype(np.float64))
    near = NearestNeighbors(n_neighbors=10, metric="mahalanobis", metric_params={"VI": fitted.precision_})
    expected_N = near.fit(made.x_ND[sets["sae"]]).kneighbors(made.x_ND.astype(np.float64))[0][:, -1]
    table, metrics = found.table(), metrics_of(found, LikenessMetrics)
    assert table["image_id"].to_pylist() == made.image_N
    distance_N = np.array(table["distance"].to_pylist(), dtype=float)
    assert np.isnan(distance_N).tolist() == (~made.ok_N).tolist()
    np.testing.assert_allclose(distance_N[made.ok_N], expected_N[made.ok_N], rtol=1e-5)
    assert metrics["fitted"] == sets["sae"].sum() and metrics["shrinkage"] == pytest.approx(fitted.shrinkage_)
    patients = np.unique(made.patient_N[sets["naming"]])
    assert metrics["reference"] == len(patients)
    threshold = metrics["threshold"]
    assert threshold is not None

    def beyond(name: str) -> float:
        """The mean over patients of the share of their images."""
        people = np.unique(made.patient_N[sets[name]])
        own = [expected_N[sets[name] & (made.patient_N == person)] > threshold * (1 + 1e-5) for person in people]
        return float(np.mean([flags.mean() for flags in own]))

    assert (len(patients) * (1 - beyond("naming"))) / (len(patients) + 1) >= LEVEL > 0.8
    assert metrics["detection"]["share"] == pytest.approx(beyond("detection")) and warnings == []
    low, high = metrics["detection"]["low"], metrics["detection"]["high"]
    assert low is not None and high is not None and low < beyond("detection") < high


def test_the_stored_estimator_gives_the_stored_distances(tmp_path: Path) -> None:
    made = cohort(images=300)
    found, _ = made_of(tmp_path, made)
    estimator, reference = stored(found)
    first = int(np.flatnonzero(made.ok_N)[0])
    distance = float(estimator.distances(made.x_ND[first : first + 1])[0])
    assert distance == pytest.approx(found.table()["distance"][first].as_py(), rel=1e-12)
    far = reference.judged(float(estimator.distances(made.x_ND[first : first + 1] + 100)[0]), LEVEL)
    assert far["flag"] and far["percentile"] == pytest.approx(100)
    assert far["threshold"] == metrics_of(found, LikenessMetrics)["threshold"]


def test_figures_do_not_depend_on_shards(tmp_path: Path) -> None:
    made = cohort(images=250)
    one, other = (made_of(tmp_path / str(rows), made, rows)[0].table()["distance"] for rows in (7, 250))
    np.testing.assert_allclose(
        np.array(one.to_pylist(), dtype=float), np.array(other.to_pylist(), dtype=float), rtol=1e-12
    )


def test_too_few_patients_flag_nothing_and_say_so(tmp_path: Path) -> None:
    found, warnings = made_of(tmp_path, cohort(images=90), level=0.98)
    metrics = metrics_of(found, LikenessMetrics)
    assert warnings == ["likeness_unknown"] and metrics["threshold"] is None
    assert metrics["detection"]["share"] is None and metrics["detection"]["patients"] > 0
    assert stored(found)[1].judged(1e9, 0.98)["flag"] is None


def test_embeddings_that_do_not_vary_have_no_estimator(tmp_path: Path) -> None:
    made = cohort(images=300)
    found, warnings = made_of(tmp_path, replace(made, x_ND=np.full_like(made.x_ND, 0.1)))
    assert warnings == ["likeness_unknown"] and set(found.table()["distance"].to_pylist()) == {None}
    assert not [receipt for receipt in found.record.files if receipt.shard < 0]


def test_test_patients_from_elsewhere_are_a_warning(tmp_path: Path) -> None:
    made = cohort(images=600)
    x_ND = made.x_ND + 9 * splits(made)["detection"][:, None].astype(np.float32)
    found, warnings = made_of(tmp_path, replace(made, x_ND=x_ND))
    assert warnings == ["test_unlike"] and metrics_of(found, LikenessMetrics)["detection"]["share"] == 1.0


def test_two_datasets_have_a_spread_in_common_and_shares_of_their_own(tmp_path: Path) -> None:
    made = cohort(images=900)
    near = [int(patient[1:]) % 2 == 0 for patient in made.patient_N]
    names = ["near" if is_near else "far" for is_near in near]
    x_ND = made.x_ND + np.where(near, 0, 100)[:, None].astype(np.float32)
    found, warnings = made_of(tmp_path, replace(made, x_ND=x_ND), dataset=names)
    metrics: Any = metrics_of(found, LikenessMetrics)
    assert warnings == [] and set(metrics["by_dataset"]) == {"near", "far"}
    assert sum(one["patients"] for one in metrics["by_dataset"].values()) == metrics["detection"]["patients"]
    estimator, reference = stored(found)
    between = estimator.distances(x_ND.mean(0, keepdims=True))[0]
    assert between > 10 and reference.judged(float(between), LEVEL)["flag"]
