"""Names by label, and the atlas."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from medsae_ray.core.analysis.findings import absent_name, headed, notable
from medsae_ray.core.analysis.partial_sums import FeatureWork
from medsae_ray.core.artifacts import schema
from medsae_ray.core.naming.label_names import atlas, label_names
from tests.core.made import Cohort, both_evidence, cohort, feature_work


def noise(seed: int, rate: float, images: int = 1000) -> Cohort:
    """512 features and 14 labels, rare and common, that have nothing to do with each other; two images a patient."""
    rng = np.random.default_rng(seed)
    patients = np.arange(images) // 2
    prevalence = np.geomspace(0.02, 0.5, 14)
    y_NL = (rng.random((images, 14)) < prevalence)[patients].astype(float)
    active = (rng.random((images, 512)) < rate)[patients]
    z_NM = (active * rng.lognormal(0, 1, (images, 512))).astype(np.float32)
    x_ND = rng.normal(size=(images, 2)).astype(np.float32)
    return Cohort(np.array([f"p{p:04d}" for p in patients]), y_NL, x_ND, z_NM, np.ones(images, bool))


def names_of(work: FeatureWork, labels: list[str]) -> pa.Table:
    return label_names(both_evidence(work, labels)["sae"].table, work.labels.discovery_patients(), labels)


@pytest.mark.parametrize("rate", [0.5, 0.05, 0.004])
def test_noise_gets_no_name_however_sparse_the_feature_and_rare_the_label(rate: float, tmp_path: Path) -> None:
    made = noise(0, rate)
    names = names_of(feature_work(tmp_path, made, 200, permutations=2), made.labels)
    assert names.num_rows == 512 and names.num_rows - names["name"].null_count <= 1


@pytest.mark.parametrize(("rate", "label"), [(0.05, 0), (0.02, 5), (0.004, 10)])
def test_a_planted_feature_gets_its_labels_name_and_noise_beside_it_none(
    rate: float, label: int, tmp_path: Path
) -> None:
    made = noise(1, rate)
    has = made.y_NL[:, label] == 1
    made.z_NM[has, 7] += 1
    names = names_of(feature_work(tmp_path, made, 200, permutations=2), made.labels).to_pylist()
    assert {row["feature"]: row["name"] for row in names if row["name"]} == {7: f"l{label}"}
    assert "patients, q = " in names[7]["evidence"]


def test_a_feature_that_avoids_a_label_is_named_after_its_absence(tmp_path: Path) -> None:
    made = cohort(7, images=600, labels=1)
    made.z_NM[:, 1] = np.where(made.y_NL[:, 0] == 1, 0, 1)
    names = names_of(feature_work(tmp_path, made), made.labels).to_pylist()
    assert names[0]["name"] == "l0" and names[1]["name"] == "no l0"
    assert names[5]["status"] == "abstained" and names[5]["evidence"] == "no correlation is defined"


def test_a_correlation_that_is_certain_and_tiny_gives_no_name(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    made = cohort(8, images=12_000, labels=1)
    made.y_NL[:, 0] = rng.random(12_000) < 0.5
    made.z_NM[:, 1] = rng.random(12_000) < np.where(made.y_NL[:, 0] == 1, 0.56, 0.44)
    work = feature_work(tmp_path, made, 1000, permutations=2)
    row, name = (t.to_pylist()[1] for t in (both_evidence(work, made.labels)["sae"].table, names_of(work, made.labels)))
    assert row["best_p"] < 1e-6 and 0.05 < row["best_r"] < 0.2 and row["active_auroc"] < 0.6
    assert name["name"] is None and "active or silent 0.5" in name["evidence"]


@pytest.mark.parametrize(
    ("label", "name"),
    [("Edema", "no Edema"), ("No Finding", "Finding"), ("a/No Finding", "a/Finding"), ("normal", "no normal"),
     ("Nodule/Mass", "no Nodule/Mass"), ("no", "no no")],
)  # fmt: skip
def test_absence_has_a_name(label: str, name: str) -> None:
    assert absent_name(label) == name and headed(label, -0.2) == name and headed(label, 0.2) == label


def test_absence_is_shown_where_it_is_the_stronger_or_strong() -> None:
    shown = [(0.3, -0.94), (None, -0.1), (0.9, -0.55), (0.2, -0.2)]
    assert all(notable(*pair) for pair in shown)
    assert not any(notable(*pair) for pair in [(0.9, -0.45), (0.3, -0.29), (0.4, None), (None, None)])


def test_the_atlas_joins_each_feature_to_its_own_name(tmp_path: Path) -> None:
    made = cohort(8)
    work = feature_work(tmp_path, made)
    found = both_evidence(work, made.labels)
    names = names_of(work, made.labels)
    table = pa.concat_tables([found["raw"].table, found["sae"].table])
    joined = atlas(table, names.take(pa.array([3, 1, 0, 2, 5, 4]))).to_pylist()
    assert [row["feature"] for row in joined] == list(range(6)) and {row["space"] for row in joined} == {"sae"}
    assert [row["name"] for row in joined] == names["name"].to_pylist()
    assert [row["name_source"] for row in joined] == ["label" if n else None for n in names["name"].to_pylist()]


def test_a_verified_name_is_the_stronger_and_among_equals_the_model_s(tmp_path: Path) -> None:
    made = cohort(8)
    work = feature_work(tmp_path, made)
    features = both_evidence(work, made.labels)["sae"].table

    def named(source: str, of: dict[int, str]) -> pa.Table:
        base = {"source": source, "status": "named", "alternatives": [], "attempts": 1, "evidence": ""}
        return pa.Table.from_pylist([base | {"feature": f, "name": n} for f, n in of.items()], schema=schema.names())

    words = named("vocabulary", {0: "w0", 2: "w2", 3: "w3", 4: "w4"})
    named_by = (named("label", {0: "l0", 1: "l1", 2: "l2"}), named("vlm", {0: "v0", 1: "v1", 3: "v3"}))
    names = pa.concat_tables([words, *named_by])
    scores = pa.table(
        {"feature": [0, 0, 1, 1], "source": ["label", "vlm"] * 2, "auroc": [0.9, 0.5, 0.9, 0.8]}
        | {"verdict": ["verified", "rejected", "verified", "verified"]}
    )
    rows = atlas(features, names, scores).to_pylist()
    assert [row["name"] for row in rows] == ["l0", "v1", "l2", "v3", "w4", None]
    assert [row["verdict"] for row in rows[:3]] == ["verified", "verified", None]
    assert [row["detection_auroc"] for row in rows[:3]] == [0.9, 0.8, None]
