from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from medsae_ray.core.artifacts.columns import readable
from medsae_ray.core.monosemanticity import coherence
from medsae_ray.core.monosemanticity.chance import Judge
from medsae_ray.core.monosemanticity.measured import MeasuredSpace, means, measured_space
from medsae_ray.core.monosemanticity.sums import SPACES, Images, MonosemanticityWork, Sums
from medsae_ray.core.sae.architectures import build
from medsae_ray.core.sae.config import SAEConfig
from medsae_ray.core.sae.normalise import Normalisation
from medsae_ray.metrics import coherence_specificity, monosemanticity_score
from tests.core.made import Cohort, both_evidence, cohort, feature_work, known_labels

MADE = cohort(seed=2, images=260, labels=4)
K = 5


def measured(root: Path, made: Cohort, shard_rows: int, turned: bool = False) -> dict[str, MeasuredSpace]:
    """All spaces, from shards of so many rows that are merged in order or `turned`."""
    features = feature_work(root, made, shard_rows)
    labels, numbers = features.labels, Images.of(features.labels)
    settings: dict[str, Any] = {"normalisation": "centre", "whiten": None, "init": "random", "precision": "float32"}
    config = SAEConfig(
        architecture="relu_l1", d_in=4, width=6, l1=0.1, epochs=1, batch_size=8, lr=1e-3, seed=3, **settings
    )
    sae = build(config, Normalisation(torch.zeros(4, dtype=torch.float64), 1.0)).eval()
    work = MonosemanticityWork(features.embeddings, features.activations, labels, numbers, sae, K, 4, 0)
    found = [work.compute(shards) for shards in work.groups()]
    total = reduce(Sums.merge, reversed(found) if turned else found)
    judge = Judge.of(labels, readable(features.embeddings), numbers, 20, 0)
    null = judge.coherence_null()
    return {space: measured_space(space, getattr(total, space), judge, null, made.labels) for space in SPACES}


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> dict[str, MeasuredSpace]:
    return measured(tmp_path_factory.mktemp("usual"), MADE, 300)


def close(a: Any, b: Any, space: str) -> None:
    """Equal; float32 products of the untrained SAE differ in their last bits with the rows that are multiplied."""
    abs = 1e-6 if space == "untrained" else 1e-10
    assert a == pytest.approx(b, abs=abs) if isinstance(a, float) and b is not None else a == b


@pytest.mark.parametrize(("shard_rows", "turned"), [(5, False), (7, True), (120, False)])
def test_no_figure_depends_on_shards(
    usual: dict[str, MeasuredSpace], tmp_path: Path, shard_rows: int, turned: bool
) -> None:
    found = measured(tmp_path, MADE, shard_rows, turned)
    for space in SPACES:
        for one, other in zip(found[space].table.to_pylist(), usual[space].table.to_pylist(), strict=True):
            for key, value in one.items():
                close(value, other[key], space)
        for measure, figures in dict(found[space].figures).items():
            wanted: Any = dict(usual[space].figures)[measure]
            for kind in ("found", "null", "null_sd"):
                for key, value in figures[kind].items():
                    close(value, wanted[kind][key], space)


def test_the_values_are_those_of_the_public_functions_and_of_the_features_table(
    usual: dict[str, MeasuredSpace], tmp_path: Path
) -> None:
    work = feature_work(tmp_path, MADE, 300)
    labels, y_NL = work.labels, known_labels(MADE.manifest(300))
    heldout_N = ~labels.training_N & MADE.ok_N
    table = usual["sae"].table
    c_F, s_F, null = coherence_specificity(
        MADE.z_NM[heldout_N], y_NL[heldout_N], MADE.patient_N[heldout_N], top=K
    )  # rows are in the order of their ids
    score_F = np.maximum(0, c_F - null) * s_F
    np.testing.assert_allclose(np.array(table["score"].to_pylist(), float), score_F, atol=1e-10)
    assert np.isfinite(score_F).sum() >= 4
    for space, x_NF in (("sae", MADE.z_NM), ("raw", MADE.x_ND)):
        ms_F = monosemanticity_score(x_NF[labels.heldout_N], MADE.x_ND[labels.heldout_N])
        np.testing.assert_allclose(np.array(usual[space].table["similarity"].to_pylist(), float), ms_F, atol=1e-10)
        features = both_evidence(work, MADE.labels)[space].table
        for name in ("entropy", "best_r"):
            found, wanted = (np.array(of[name].to_pylist(), float) for of in (usual[space].table, features))
            np.testing.assert_allclose(found, wanted, atol=1e-12)
        assert usual[space].table["best_label"].to_pylist() == features["best_label"].to_pylist()


def test_the_labels_are_counted_twice_however_many_units_have_no_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thousands of rare features have none, and an archive has a million images."""
    counted, calls = coherence.label_count, list[int]()
    monkeypatch.setattr(coherence, "label_count", lambda y_NL: calls.append(len(y_NL)) or counted(y_NL))
    found = measured(tmp_path, cohort(seed=2, images=30, labels=4), 300)
    assert len(calls) == 2, "once by the judge, once by the null of all pairs"
    assert found["sae"].table["reason"].null_count < len(found["sae"].table)


def test_purity_is_counted_on_test_patients(usual: dict[str, MeasuredSpace], tmp_path: Path) -> None:
    labels, y_NL = feature_work(tmp_path, MADE, 300).labels, known_labels(MADE.manifest(300))
    test_N = ~labels.discovery_N & MADE.ok_N & (~np.isnan(y_NL)).any(axis=1)
    row = usual["sae"].table.to_pylist()[0]
    best_N, value_N = y_NL[:, MADE.labels.index(row["best_label"])], MADE.z_NM[:, 0]
    chosen: dict[str, int] = {}
    for image in sorted(np.flatnonzero(test_N & (value_N > 0)), key=lambda image: -value_N[image]):
        chosen.setdefault(MADE.patient_N[image], image)
    known = best_N[list(chosen.values())[:K]]
    known = known[~np.isnan(known)]
    assert row["best_label"] == "l0" and row["purity"] == pytest.approx(known.mean()) and row["purity"] >= 0.8
    assert row["purity_null"] == pytest.approx(np.nanmean(best_N[labels.test_N]))


def test_what_cannot_be_measured_has_a_reason(usual: dict[str, MeasuredSpace], tmp_path: Path) -> None:
    dead = usual["sae"].table.to_pylist()[-1]
    assert dead["reason"] == "never active" and dead["score"] is dead["similarity"] is dead["purity"] is None
    nothing = {"mean": None, "top_10": None, "top_50": None}
    blank = MADE.y_NL.copy()
    blank[:, 1:] = np.nan
    for name, y_NL, reason in (("none", blank[:, :0], "no labels"), ("one", blank, "one label")):
        found = measured(tmp_path / name, Cohort(MADE.patient_N, y_NL, MADE.x_ND, MADE.z_NM, MADE.ok_N), 50)["sae"]
        assert set(found.table["reason"].to_pylist()) == {reason}
        assert found.figures["score"]["found"] == found.figures["entropy"]["null"] == nothing
        assert found.figures["similarity"]["found"]["mean"] is not None
    alone = Cohort(np.full(260, "p"), MADE.y_NL, MADE.x_ND, MADE.z_NM, MADE.ok_N)
    found = measured(tmp_path / "alone", alone, 50)["raw"]
    assert None not in found.table["reason"].to_pylist() and found.figures["score"]["found"] == nothing


def test_the_best_of_many_are_good_by_chance_too(usual: dict[str, MeasuredSpace]) -> None:
    np.testing.assert_allclose(means(np.arange(60.0))[[0, 1, 2]], [29.5, 54.5, 34.5])
    np.testing.assert_allclose(means(np.arange(60.0), lowest=True)[1:], [4.5, 24.5])
    assert np.isnan(means(np.array([1.0, np.nan]))[1:]).all()
    figures = usual["sae"].figures
    assert figures["purity"]["units"] >= 4 and figures["purity"]["null"]["mean"] == pytest.approx(0.5, abs=0.25)
