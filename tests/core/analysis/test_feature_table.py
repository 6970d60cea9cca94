import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from scipy import sparse, stats
from sklearn.metrics import roc_auc_score

from medsae_ray.config import parse_recipe
from medsae_ray.core.analysis.entropy import one_dataset, shuffles
from medsae_ray.core.analysis.feature_table import gather_tests, to_json
from medsae_ray.core.analysis.partial_sums import Sums
from medsae_ray.core.artifacts.work import GROUP
from medsae_ray.core.naming.label_names import label_names
from medsae_ray.pipeline import run_recipe
from tests.core.made import Cohort, both_evidence, cohort, feature_work, representatives, with_split
from tests.core.naming.test_label_names import names_of
from tests.support.small import onnx_encoder, recipe_data, table_dataset

EXACT = {"rtol": 1e-10, "atol": 1e-10}
SPACES = ("sae", "raw")


def pearson(x_N: np.ndarray, y_N: np.ndarray) -> float:
    x_N, y_N = x_N[~np.isnan(y_N)], y_N[~np.isnan(y_N)]
    varied = len(y_N) > 2 and np.ptp(x_N) > 0 and np.ptp(y_N) > 0
    return float(stats.pearsonr(x_N.astype(float), y_N).statistic) if varied else np.nan


def correlations(x_NF: np.ndarray, y_NL: np.ndarray) -> np.ndarray:
    return np.array([[pearson(x_N, y_N) for y_N in y_NL.T] for x_N in x_NF.T])


def entropies(r_FL: np.ndarray) -> np.ndarray:
    """NaN where a unit has no correlation."""
    kept = [np.abs(r_L[~np.isnan(r_L)]) for r_L in r_FL]
    return np.array([stats.entropy(r_K) if r_K.sum() > 0 else np.nan for r_K in kept])


class Direct:
    """The same statistics from the whole arrays, by other people's functions, with the sets written out."""

    def __init__(self, made: Cohort, space: str) -> None:
        manifest = made.manifest(len(made.ok_N))
        split, one = manifest["split"].to_numpy(zero_copy_only=False), representatives(manifest, made.ok_N)
        self.x_NF = made.z_NM if space == "sae" else made.x_ND
        self.y_NL = np.where(made.y_NL == -1, np.nan, made.y_NL)
        self.made, self.space, self.ok = made, space, made.ok_N
        self.discovery = np.isin(split, ["sae", "naming"]) & self.ok
        self.heldout = np.isin(split, ["naming", "detection"]) & one.astype(bool) & self.ok
        self.test = (split == "detection") & one.astype(bool) & self.ok
        self.first = self.discovery & one.astype(bool)
        self.r_FL = correlations(self.x_NF[self.discovery], self.y_NL[self.discovery])
        self.strength_FL = np.nan_to_num(np.abs(self.r_FL), nan=-2)

    def entropy(self, order: np.ndarray | None = None) -> np.ndarray:
        y_NL = self.y_NL[self.heldout]
        return entropies(correlations(self.x_NF[self.heldout], y_NL if order is None else y_NL[order]))

    def auroc(self, unit: int, label: int) -> float:
        rows = self.test & ~np.isnan(self.y_NL[:, label])
        sign = -1 if self.r_FL[unit, label] < 0 else 1
        return float(roc_auc_score(self.y_NL[rows, label], sign * self.x_NF[rows, unit]))

    def interval(self, unit: int, label: int) -> tuple[float, float]:
        known = self.discovery & ~np.isnan(self.y_NL[:, label])
        half = stats.norm.ppf(0.975) / np.sqrt(len(set(self.made.patient_N[known])) - 3)
        z = np.arctanh(self.r_FL[unit, label])
        return float(np.tanh(z - half)), float(np.tanh(z + half))

    def fisher(self, unit: int, label: int) -> float:
        rows = self.first & ~np.isnan(self.y_NL[:, label])
        active, has = self.x_NF[rows, unit] != 0, self.y_NL[rows, label] == 1
        table = [[(a & h).sum() for h in (has, ~has)] for a in (active, ~active)]
        tail = "less" if self.r_FL[unit, label] < 0 else "greater"
        return float(stats.fisher_exact(table, alternative=tail).pvalue)

    def active_area(self, unit: int, label: int) -> float:
        rows = self.first & ~np.isnan(self.y_NL[:, label])
        sign = -1 if self.r_FL[unit, label] < 0 else 1
        return float(roc_auc_score(self.y_NL[rows, label], sign * (self.x_NF[rows, unit] != 0)))


@pytest.mark.parametrize(("seed", "shard_rows"), [(0, 100), (1, 7), (2, 300)])
@pytest.mark.parametrize("space", SPACES)
def test_the_table_agrees_with_scipy_and_scikit_learn(space: str, seed: int, shard_rows: int, tmp_path: Path) -> None:
    made = cohort(seed)
    found = both_evidence(feature_work(tmp_path, made, shard_rows), made.labels)[space]
    direct, table = Direct(made, space), found.table
    np.testing.assert_allclose(table["r"].to_pylist(), direct.r_FL, **EXACT)
    np.testing.assert_allclose(numbers(table, "entropy"), direct.entropy(), **EXACT)
    for row, best in zip(table.to_pylist(), direct.strength_FL.argmax(axis=1), strict=True):
        unit = row["feature"]
        x_N = direct.x_NF[direct.ok, unit].astype(float)
        assert (row["n_images"], row["n_active"], row["max"]) == (len(x_N), np.count_nonzero(x_N), x_N.max())
        assert row["frequency"] == pytest.approx((x_N != 0).mean())
        if np.isnan(direct.r_FL[unit]).all():
            undefined = ("best_label", "best_r", "best_p", "active_auroc", "auroc", "entropy", "mean_active")
            assert all(row[c] is None for c in undefined) and row["top_images"] == []
            continue
        assert row["mean_active"] == pytest.approx(x_N[x_N != 0].mean(), rel=1e-10)
        assert row["best_label"] == made.labels[best]
        assert row["best_r"] == pytest.approx(direct.r_FL[unit, best], abs=1e-10)
        assert row["auroc"] == pytest.approx(direct.auroc(unit, best), abs=1e-10)
        assert row["auroc_low"] <= row["auroc"] <= row["auroc_high"]
        assert (row["r_low"][best], row["r_high"][best]) == pytest.approx(direct.interval(unit, best), abs=1e-10)
        assert row["entropy_normalised"] == pytest.approx(row["entropy"] / np.log(len(made.labels)), abs=1e-10)
        if space == "raw":
            assert row["best_p"] is None and row["active_auroc"] is None
            continue
        assert row["best_p"] == pytest.approx(direct.fisher(unit, best))
        assert row["active_auroc"] == pytest.approx(direct.active_area(unit, best))


@pytest.mark.parametrize("space", SPACES)
def test_the_entropy_and_its_null_are_over_one_image_of_each_held_out_patient(space: str, tmp_path: Path) -> None:
    made = cohort(3)
    found = both_evidence(feature_work(tmp_path, made, permutations=3), made.labels)[space].entropy
    direct = Direct(made, space)
    draws = [np.nanmean(direct.entropy(order)) for order in shuffles(one_dataset(int(direct.heldout.sum())), 0, 3)]
    assert found["mean"] == pytest.approx(np.nanmean(direct.entropy()), abs=1e-10)
    assert (found["null_mean"], found["null_sd"]) == pytest.approx((np.mean(draws), np.std(draws, ddof=1)), abs=1e-10)
    assert found["units"] == np.isfinite(direct.entropy()).sum()


@pytest.mark.parametrize("space", SPACES)
def test_top_images_are_the_strongest_of_distinct_patients(space: str, tmp_path: Path) -> None:
    made = cohort(1)
    table = both_evidence(feature_work(tmp_path, made, 7), made.labels)[space].table
    x_NF, name = (made.z_NM if space == "sae" else made.x_ND), np.array(made.image_N)
    for row in table.to_pylist():
        best: dict[str, tuple[float, str]] = {}
        for image in np.flatnonzero(made.ok_N & (x_NF[:, row["feature"]] != 0)):
            mine = (float(x_NF[image, row["feature"]]), str(name[image]))
            best[made.patient_N[image]] = max(mine, best.get(made.patient_N[image], mine))
        expected = sorted(best.values(), reverse=True)[:4]
        assert list(zip(row["top_values"], row["top_images"], strict=True)) == expected


@pytest.mark.parametrize("space", SPACES)
def test_few_or_many_shards_give_the_same_table(space: str, tmp_path: Path) -> None:
    made = cohort(4)
    few, many = (both_evidence(feature_work(tmp_path, made, rows), made.labels)[space] for rows in (100, 7))
    for mine, others in zip(few.table.to_pylist(), many.table.to_pylist(), strict=True):
        for column, value in mine.items():
            same(value, others[column])
    same(to_json([*few.findings, *few.absences]), to_json([*many.findings, *many.absences]))
    same(few.entropy, many.entropy)


def same(a: object, b: object) -> None:
    """Equal, floats to 1e-12."""
    if isinstance(a, dict):
        a, b = list(a.items()), list(b.items())
    if isinstance(a, list | tuple):
        assert len(a) == len(b)
        for one, two in zip(a, b, strict=True):
            same(one, two)
    else:
        assert a == (pytest.approx(b, rel=1e-12, abs=1e-12, nan_ok=True) if isinstance(b, float) else b)


def test_presence_and_absence_of_a_label_each_have_the_unit_with_the_strongest_correlation(tmp_path: Path) -> None:
    made = cohort(5)
    for space, evidence in both_evidence(feature_work(tmp_path, made), made.labels).items():
        direct = Direct(made, space)
        for found, sign in ((evidence.findings, 1), (evidence.absences, -1)):
            assert [f.label for f in found] == made.labels
            for label, finding in enumerate(found):
                assert finding.present is (sign > 0) and finding.feature == np.nanargmax(sign * direct.r_FL[:, label])
                assert finding.r == pytest.approx(direct.r_FL[finding.feature, label], abs=1e-10)
                assert finding.auroc == pytest.approx(direct.auroc(finding.feature, label), abs=1e-10)
                assert (finding.r_low, finding.r_high) == pytest.approx(direct.interval(finding.feature, label))
                assert finding.auroc_low <= finding.auroc <= finding.auroc_high and not finding.by_dataset


def test_a_unit_of_absence_is_measured_as_one_whether_a_feature_or_a_dimension(tmp_path: Path) -> None:
    made = cohort(5)
    made.z_NM[:, 1] = np.where(made.y_NL[:, 0] == 1, 0, 2 + made.z_NM[:, 1])
    found = both_evidence(feature_work(tmp_path, made), made.labels)
    feature, dimension = found["sae"].absences[0], found["raw"].absences[0]
    assert feature.feature == 1 and feature.r < -0.8 and feature.auroc > 0.95 and feature.auroc_low > 0.7
    assert dimension.feature == 0 and dimension.r < -0.3 and dimension.auroc > 0.7 and dimension.auroc_low > 0.5
    row = found["sae"].table.to_pylist()[1]
    assert (row["best_label"], row["best_r"], row["auroc"]) == ("l0", feature.r, feature.auroc)


def test_a_label_with_which_nothing_goes_has_no_unit_of_its_presence(tmp_path: Path) -> None:
    made = cohort(5)
    made.z_NM[:] = np.where(made.y_NL[:, :1] == 1, 0, 2)
    found = both_evidence(feature_work(tmp_path, made), made.labels)["sae"]
    assert "l0" not in {f.label for f in found.findings} and found.absences[0].label == "l0"


def test_shuffled_labels_have_the_entropy_of_the_null(tmp_path: Path) -> None:
    made = cohort(6, images=1200, features=40, dims=40)
    order = np.random.default_rng(0).permutation(len(made.ok_N))
    shuffled = both_evidence(feature_work(tmp_path, replace(made, y_NL=made.y_NL[order]), 200), made.labels)
    for found in (e.entropy for e in shuffled.values()):
        assert abs(found["mean"] - found["null_mean"]) < 4 * found["null_sd"]


def numbers(table: pa.Table, column: str) -> np.ndarray:
    return np.array([np.nan if v is None else v for v in table[column].to_pylist()])


def strict_json(found: object) -> None:
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize("split", ["sae", "naming", "detection"])
def test_a_run_in_which_all_patients_have_one_role_has_nulls_and_no_crash(split: str, tmp_path: Path) -> None:
    made = cohort(9)
    manifest = made.manifest(40)
    work = feature_work(tmp_path, made, manifest=with_split(manifest, [split] * len(made.ok_N)))
    for found in both_evidence(work, made.labels).values():
        strict_json(to_json(found.findings))
        rows = found.table.to_pylist()
        assert all((row["best_label"] is None) == (split == "detection" or row["n_active"] == 0) for row in rows)
        assert all(row["auroc"] is None for row in rows), "detection alone has no label that discovery chose"
        assert all(row["entropy"] is None for row in rows) == (split == "sae")
        assert [found.entropy[mean] is None for mean in ("mean", "null_mean")] == [split == "sae"] * 2
        label_names(found.table, work.labels.discovery_patients(), made.labels)


def test_a_label_of_one_class_or_never_annotated_has_no_statistics(tmp_path: Path) -> None:
    made = cohort(10)
    made.y_NL[:, 1], made.y_NL[:, 2] = 1, np.nan
    work = feature_work(tmp_path, made)
    for found in both_evidence(work, made.labels).values():
        assert [f.label for f in found.findings] == ["l0"]
        assert np.isnan(np.array(found.table["r"].to_pylist())[:, 1:]).all()
        assert set(found.table["best_label"].to_pylist()) <= {"l0", None}
        assert found.table["entropy"].null_count == found.table.num_rows, "one label leaves nothing to be spread over"
        assert found.entropy["labels"] == 1 and found.entropy["mean"] is None and found.entropy["null_mean"] is None
    assert names_of(work, made.labels)["name"].to_pylist()[0] == "l0"
    assert work.labels.discovery_patients()[2] == 0


def test_a_label_of_one_class_on_the_test_patients_has_no_auroc(tmp_path: Path) -> None:
    made = cohort(11)
    split = made.manifest(40)["split"].to_numpy(zero_copy_only=False)
    made.y_NL[split == "detection", 0] = 0
    for found in both_evidence(feature_work(tmp_path, made), made.labels).values():
        finding = found.findings[0]
        assert np.isnan([finding.auroc, finding.auroc_low, finding.auroc_high]).all()
        assert finding.positives == 0 < finding.negatives and np.isfinite(finding.r)
        assert to_json(found.findings)[0]["auroc"] is None


def test_without_a_readable_detection_image_there_is_no_test_and_no_crash(tmp_path: Path) -> None:
    made = cohort(12)
    split = made.manifest(40)["split"].to_numpy(zero_copy_only=False)
    for found in both_evidence(feature_work(tmp_path, replace(made, ok_N=split != "detection")), made.labels).values():
        assert all(row["auroc"] is None for row in found.table.to_pylist())
        assert any(row["best_label"] for row in found.table.to_pylist())
        strict_json(to_json(found.findings))


def test_test_images_of_groups_are_put_in_manifest_order(tmp_path: Path) -> None:
    made = cohort(13)
    work = feature_work(tmp_path, made, 7)
    sums: Sums = work.compute(work.groups()[2]).sae.merge(work.compute(work.groups()[0]).sae)
    tests = gather_tests(sums, work.labels)
    rows = np.flatnonzero(work.labels.test_N & np.isin(work.labels.shard_N // GROUP, (0, 2)))
    assert sparse.issparse(tests.x_NF)
    np.testing.assert_array_equal(tests.x_NF.toarray(), made.z_NM[rows])
    np.testing.assert_array_equal(tests.y_NL, work.labels.y_NL[rows])


def test_a_run_without_test_patients_and_with_a_label_of_one_class_ends_in_a_report(tmp_path: Path) -> None:
    table = table_dataset(tmp_path / "data", 80)
    lines = table.read_text().splitlines()
    constant = [re.sub(r",\d,PA$", ",0,PA", line) for line in lines[1:]]
    table.write_text("\n".join([lines[0], *constant]))
    data = recipe_data(table, onnx_encoder(tmp_path / "e.onnx"), engine="loop")
    data["what"]["split"] = {"sae": 0.7, "naming": 0.2999, "detection": 0.0001}
    summary = run_recipe(parse_recipe(data), str(tmp_path / "root"))
    strict_json(summary)
    assert set(summary["findings"]) == {"bright"} and summary["findings"]["bright"]["auroc"] is None
    assert json.loads((tmp_path / "root/summary.json").read_text()) == summary
