"""What the terminal says of findings."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from medsae_ray.config import parse_recipe
from medsae_ray.core.artifacts.artifact import open_artifact
from medsae_ray.outputs.console import findings_table, monosemantic_table, untested_lines
from medsae_ray.pipeline import run_recipe
from tests.support.small import onnx_encoder, recipe_data, table_dataset


def unit(feature: int | None, r: float | None, auroc: float | None, **more: Any) -> dict[str, Any]:
    figures = {"feature": feature, "pearson": r, "auroc": auroc, "auroc_low": auroc, "auroc_high": auroc}
    return figures | {"positives": 10, "negatives": 10} | more


def finding(present: dict[str, Any], absent: dict[str, Any] | None) -> dict[str, Any]:
    probe = {"dimensions": {"auroc": 0.987}, "features": None, "means": {"auroc": 0.971}}
    return present | {"absence": absent, "dimension": {"auroc": 0.85}, "probe": probe}


def printed(*parts: Any) -> list[str]:
    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    for part in parts:
        console.print(part)
    return [" ".join(line.split()) for line in console.export_text().splitlines()]


def test_a_strong_feature_of_absence_has_a_line_of_its_own_and_a_weak_one_has_none() -> None:
    strong = finding(unit(36, 0.3, 0.73), unit(41, -0.94, 0.996))
    weak = finding(unit(3, 0.6, 0.62), unit(4, -0.2, 0.55))
    alone = finding(unit(None, None, None), unit(5, -0.1, 0.5))
    lines = printed(findings_table({"findings": {"pneumonia": strong, "[/pituitary]": weak, "No Finding": alone}}))
    assert "pneumonia 36 0.30 0.73 0.73 to 0.73 0.85 0.97 0.99 –" in lines
    assert "no pneumonia 41 -0.94 1.00 1.00 to 1.00" in lines
    assert "[/pituitary] 3 0.60 0.62 0.62 to 0.62 0.85 0.97 0.99 –" in lines
    assert not any(line.startswith("no [/pituitary]") for line in lines)
    assert "No Finding – – – – 0.85 0.97 0.99 –" in lines and any(line.startswith("Finding 5 -0.10") for line in lines)


def test_the_ten_best_stand_beside_their_chance() -> None:
    measured = {"found": {"top_10": 0.564}, "null": {"top_10": 0.026}}
    unknown = {"found": {"top_10": None}, "null": {"top_10": None}}
    of = {"score": measured, "similarity": measured, "purity": unknown, "entropy": measured}
    lines = printed(monosemantic_table({"monosemanticity": {"spaces": dict.fromkeys(("sae", "raw", "untrained"), of)}}))
    assert "untrained SAE 0.56 (0.03) 0.56 (0.03) – 0.56 (0.03)" in lines


def test_why_a_label_has_no_auroc_is_said() -> None:
    ards = finding(unit(1, 0.3, None, positives=0), None)
    absent = finding(unit(None, None, None, positives=None, negatives=None), unit(2, -0.6, None, negatives=0))
    said = untested_lines({"findings": {"ards": ards, "covid": absent, "edema": finding(unit(1, 0.3, 0.7), None)}})
    assert said == ["ards: 0 positives in the test, so no AUROC\ncovid: 0 negatives in the test, so no AUROC"]
    assert untested_lines({"findings": {}}) == []


@pytest.fixture(scope="module")
def one_label(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], str]:
    """A run with a single label, which a column of metadata repeats in words."""
    folder = tmp_path_factory.mktemp("one")
    table = table_dataset(folder / "data", 120)
    lines = table.read_text().splitlines()
    kinds = ["kind", *("ill" if line.split(",")[2] == "1" else "well" for line in lines[1:])]
    table.write_text("\n".join(f"{line},{kind}" for line, kind in zip(lines, kinds, strict=True)))
    data = recipe_data(table, onnx_encoder(folder / "e.onnx"), engine="loop")
    data["what"]["dataset"] |= {"labels": ["bright"], "metadata": ["view", "kind"]}
    console = Console(width=100, record=True, file=(folder / "said").open("w"))
    return folder, run_recipe(parse_recipe(data), str(folder / "root"), console), console.export_text()


def test_one_label_has_no_entropy_in_terminal_summary_and_report(one_label: tuple[Path, dict[str, Any], str]) -> None:
    folder, summary, said = one_label
    assert "one label: no entropy" in said and "0.000" not in said
    assert summary["entropy"]["labels"] == 1
    assert all(summary["entropy"][key] is None for key in ("sae", "raw", "null_mean", "null_sd"))
    assert "With one label there is no entropy." in (folder / "root/report.html").read_text()


def test_a_column_that_decides_the_label_is_said_once(one_label: tuple[Path, dict[str, Any], str]) -> None:
    _, summary, _ = one_label
    (warning,) = [w for w in summary["warnings"] if w["code"] == "column_decides_label"]
    assert warning["value"] == "kind" and "kind decides bright" in warning["message"]
    assert "ill" not in warning["message"].split() and "well" not in warning["message"].split()


def test_probes_of_the_summary_are_those_of_the_artifact_and_know_more_than_chance(
    one_label: tuple[Path, dict[str, Any], str],
) -> None:
    folder, summary, _ = one_label
    name = next(stage["artifact"] for stage in summary["stages"] if stage["name"] == "probes")
    rows = {row["space"]: row for row in open_artifact(str(folder / "root" / name)).table().to_pylist()}
    probe = summary["findings"]["bright"]["probe"]
    for kind, space in (("dimensions", "raw"), ("features", "sae"), ("means", "means")):
        assert probe[kind] == {key: rows[space][key] for key in ("auroc", "low", "high", "strength", "patients")}
    assert np.isfinite(probe["dimensions"]["auroc"]) and probe["dimensions"]["auroc"] > 0.8
