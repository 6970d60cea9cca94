"""Three datasets, listed out of order: the replication table against a recomputation by pandas and SciPy."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from scipy import stats

from medsae_ray.config import Recipe, parse_recipe
from medsae_ray.core.artifacts.artifact import Artifact, open_artifact
from medsae_ray.pipeline import run_recipe
from tests.support.small import SIZE, onnx_encoder, table_dataset

LISTED = ("zeta", "alpha", "mid")
OWN = {"zeta": ["bright", "left"], "alpha": ["left", "bright"], "mid": ["bright"]}
MAPPED = {"Left": {"zeta": "left", "alpha": "left"}}
KNOWN = {"Left": ("alpha", "zeta"), "alpha/bright": ("alpha",), "mid/bright": ("mid",), "zeta/bright": ("zeta",)}


def recipe(folder: Path, names: tuple[str, ...]) -> Recipe:
    columns = {"kind": "table", "image": "path", "patient": "patient"}
    paths = {name: {"table": str(folder / name / "labels.csv")} for name in names}
    return parse_recipe(
        {
            "name": "three",
            "what": {
                "datasets": [columns | {"name": name, "labels": OWN[name]} for name in names],
                "labels": MAPPED,
                "shard_rows": 32,
                "encoder": {"kind": "onnx", "size": SIZE},
                "sae": {"architecture": "batch_topk", "width": 8, "k": 2, "epochs": 30, "batch_size": 32, "lr": 3e-3},
                "features": {"top_images": 4, "permutations": 2},
            },
            "how": {"engine": "loop", "paths": {"weights": str(folder / "e.onnx"), "datasets": paths}},
        }
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("three")
    onnx_encoder(folder / "e.onnx")
    for seed, (name, images) in enumerate(zip(LISTED, (180, 240, 120), strict=True)):
        table_dataset(folder / name, images, seed)
    return folder


@pytest.fixture(scope="module")
def out(folder: Path) -> tuple[dict[str, Any], str]:
    console = Console(record=True, width=200, quiet=False, file=(folder / "said").open("w"))
    return run_recipe(recipe(folder, LISTED), str(folder / "run"), console), console.export_text()


def opened(folder: Path, summary: dict[str, Any], stage: str) -> Artifact:
    return open_artifact(str(folder / "run" / next(s["artifact"] for s in summary["stages"] if s["name"] == stage)))


def images(folder: Path, summary: dict[str, Any]) -> pd.DataFrame:
    """A row per image of discovery, its labels and its activations f0, f1, ...; all from Parquet files."""
    manifest = opened(folder, summary, "manifest").table().to_pandas()
    codes = opened(folder, summary, "activations").table().to_pandas()
    for feature in range(8):
        manifest[f"f{feature}"] = [
            dict(zip(at, values, strict=True)).get(feature, 0.0)
            for at, values in zip(codes["feature"], codes["value"], strict=True)
        ]
    return manifest[manifest["split"] != "detection"]


def pearson(rows: pd.DataFrame, feature: int, label: str) -> tuple[float, float, float, int]:
    known = rows[rows[f"y_{label}"].isin([0, 1])]
    n = known["patient_id"].nunique()
    if known[f"f{feature}"].nunique() < 2 or known[f"y_{label}"].nunique() < 2:
        return np.nan, np.nan, np.nan, n
    r = float(known[f"f{feature}"].astype(float).corr(known[f"y_{label}"].astype(float)))
    half = stats.norm.ppf(0.975) / np.sqrt(n - 3)
    return r, float(np.tanh(np.arctanh(r) - half)), float(np.tanh(np.arctanh(r) + half)), n


def expected(rows: pd.DataFrame) -> dict[tuple[str, str], pd.DataFrame]:
    """(dataset, label) -> r, low, high and n of each feature."""
    names = ["r", "low", "high", "n"]
    return {
        (dataset, label): pd.DataFrame([pearson(own, f, label) for f in range(8)], columns=names)
        for dataset, own in rows.groupby("dataset")
        for label in KNOWN
    }


def test_the_replication_table_is_what_pandas_finds(folder: Path, out: tuple[dict[str, Any], str]) -> None:
    summary, _ = out
    found = expected(images(folder, summary))
    findings = summary["replication"]["findings"]
    assert summary["replication"]["datasets"] == ["alpha", "mid", "zeta"]
    assert {(row["source"], row["label"]) for row in findings} == {(d, label) for label in KNOWN for d in KNOWN[label]}
    for row in findings:
        r = found[row["source"], row["label"]]["r"]
        assert row["feature"] == (r.idxmax() if row["present"] else r.idxmin())
        for dataset, shown in row["datasets"].items():
            one = found[dataset, row["label"]].loc[row["feature"]]
            for key in ("r", "low", "high"):
                assert (shown[key] is None) == np.isnan(one[key])
                assert shown[key] is None or shown[key] == pytest.approx(one[key], abs=1e-6)


def test_every_selected_pair_has_the_r_and_the_patients_of_its_own_datasets(
    folder: Path, out: tuple[dict[str, Any], str]
) -> None:
    summary, _ = out
    found = expected(images(folder, summary))
    table = opened(folder, summary, "replication").table().to_pandas()
    assert set(table["source"]) == set(LISTED)
    for row in table.itertuples():
        one = found[row.dataset, row.label].loc[row.feature]
        assert row.patients == one["n"] and (np.isnan(row.r) == np.isnan(one["r"]))
        assert np.isnan(row.r) or row.r == pytest.approx(one["r"], abs=1e-6)
    for source in LISTED:
        pairs = {(label, f) for label in KNOWN for f in range(8) if found[source, label]["r"].notna()[f]}
        told = [found[source, label].loc[f] for label, f in sorted(pairs)]
        p = [
            stats.beta(n / 2 - 1, n / 2 - 1, loc=-1, scale=2).sf(abs(r)) * 2
            for r, n in ((o["r"], o["n"]) for o in told)
        ]
        q = stats.false_discovery_control(p)
        chosen = {
            pair for pair, one, qi in zip(sorted(pairs), told, q, strict=True) if qi <= 0.05 and abs(one["r"]) >= 0.1
        }
        assert chosen == set(zip(*(table[table["source"] == source][c] for c in ("label", "feature")), strict=True))


def test_terminal_summary_and_report_say_it_with_the_label_of_several_datasets_first(
    folder: Path, out: tuple[dict[str, Any], str]
) -> None:
    summary, said = out
    assert summary["replication"]["findings"][0]["label"] == "Left"
    assert json.loads((folder / "run/summary.json").read_text())["replication"] == summary["replication"]
    lines = [" ".join(re.sub(r"\(.*?\)", "", line).split()) for line in said.splitlines()]
    for row in summary["replication"]["findings"]:
        name = row["label"] if row["present"] else f"no {row['label']}"
        values = (row["datasets"][dataset]["r"] for dataset in ("alpha", "mid", "zeta"))
        shown = " ".join("–" if r is None else f"{r:.2f}" for r in values)
        assert f"{name} {row['source']} {row['feature']} {shown} {row['verdict'].replace('_', ' ')}" in lines


def test_another_order_makes_the_same_artifacts(folder: Path, out: tuple[dict[str, Any], str]) -> None:
    summary, _ = out
    again = run_recipe(recipe(folder, ("mid", "zeta", "alpha")), str(folder / "run"))
    assert [s["artifact"] for s in again["stages"]] == [s["artifact"] for s in summary["stages"]]
    assert all(stage["seconds"] == 0 for stage in again["stages"])


def test_a_finding_has_its_auroc_in_each_dataset_that_annotates_it(
    folder: Path, out: tuple[dict[str, Any], str]
) -> None:
    summary, said = out
    left = summary["findings"]["Left"]
    assert left["by_dataset"].keys() == {"alpha", "zeta"}
    counts = [sum(area[key] for area in left["by_dataset"].values()) for key in ("positives", "negatives")]
    assert counts == [left["positives"], left["negatives"]] and "AUROC by dataset" in said
    assert summary["findings"]["mid/bright"]["by_dataset"].keys() == {"mid"}
