"""Runs that have no label to speak of come to a report all the same."""

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medsae_ray.config import parse_recipe
from medsae_ray.core.retrieval.query import BY_NAMES
from medsae_ray.finished import library_of, open_run
from medsae_ray.pipeline import run_recipe
from medsae_ray.service.atlas import Atlas, Query
from tests.support.medical import dicom
from tests.support.small import onnx_encoder, recipe_data, table_dataset


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("data")
    return table_dataset(folder, 40), onnx_encoder(folder / "e.onnx")


def recipe(data: tuple[Path, Path], labels: list[str] | None, **sae: Any) -> dict[str, Any]:
    found = recipe_data(*data, engine="loop")
    found["what"]["dataset"].pop("labels")
    found["what"]["dataset"] |= {} if labels is None else {"labels": labels}
    found["what"]["sae"] |= {"epochs": 2, "batch_size": 8, **sae}
    return found


def rewritten(table: Path, name: str, **values: str) -> Path:
    """The table with other values in some columns."""
    rows = list(csv.DictReader(table.open()))
    with (table.parent / name).open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(row | values for row in rows)
    return table.parent / name


def dicoms(folder: Path, patients: int) -> Path:
    folder.mkdir()
    rng = np.random.default_rng(patients)
    for number in range(patients):
        pixels = rng.integers(0, 4096, (40, 40)).astype(np.uint16)
        named = {"patient": f"P{number}", "SOPInstanceUID": f"1.2.{number}", "StudyInstanceUID": f"1.3.{number}"}
        (folder / f"{number}.dcm").write_bytes(dicom(pixels, **named))
    return folder


def ran(data: dict[str, Any], root: Path) -> tuple[dict[str, Any], str]:
    """The summary and the text of the report."""
    summary = run_recipe(parse_recipe(data), str(root))
    assert summary == json.loads((root / "summary.json").read_text())
    return summary, (root / "report.html").read_text()


def unjudged(summary: dict[str, Any], labels: int) -> None:
    """No unit has a score by labels, all have their similarity."""
    found = summary["monosemanticity"]
    assert found["labels"] == labels and found["coherence_null"] is None and found["similarity_null"] > 0
    for figures in found["spaces"].values():
        assert figures["score"]["units"] == figures["entropy"]["units"] == 0 < figures["similarity"]["units"]
        assert set(figures["score"]["found"].values()) == set(figures["score"]["null"].values()) == {None}


@pytest.mark.parametrize("labels", [None, []], ids=["no key", "an empty list"])
def test_a_table_without_labels_is_shown_by_its_images(
    data: tuple[Path, Path], tmp_path: Path, labels: list[str] | None
) -> None:
    summary, page = ran(recipe(data, labels), tmp_path)
    assert summary["findings"] == {} and set(summary["entropy"].values()) == {None, 0}
    unjudged(summary, 0)
    assert {w["code"] for w in summary["warnings"]} - {"copied_features", "likeness_unknown"} == {"no_labels"}
    assert "no correlation with a label could order them" in page and "The data set has no labels" in page
    assert "With no label that varies there is no entropy" in page
    assert "findings that hold" not in page and "Correlation with labels" not in page and "AUROC for" not in page
    assert page.count("<article") > 5 and page.count('<img src="data:image') > 10


def test_cards_without_labels_start_with_the_feature_that_varies_most(data: tuple[Path, Path], tmp_path: Path) -> None:
    _, page = ran(recipe(data, []), tmp_path)
    (activations,) = tmp_path.glob("activations-*")
    from medsae_ray import open_artifact
    from medsae_ray.core.artifacts.columns import activation_matrix

    x_NF = activation_matrix(open_artifact(activations).table(), 24).toarray()
    order = [int(number) for number in re.findall(r'<article id="feature-(\d+)"', page)]
    assert (
        order[0] == x_NF.var(axis=0).argmax()
        and np.corrcoef(x_NF.var(axis=0)[order], -np.arange(len(order)))[0, 1] > 0.5
    )


def test_what_reads_a_finished_run_needs_no_labels(data: tuple[Path, Path], tmp_path: Path) -> None:
    wanted = recipe(data, [])
    ran(wanted, tmp_path)
    finished = open_run(parse_recipe(wanted), str(tmp_path))
    atlas = Atlas(finished.atlas)
    total, rows = atlas.page(Query(sort="best_r", descending=True))
    assert total == 24 and rows[0]["best_label"] is None
    assert atlas.one(0)["correlations"] == [] and atlas.one(0)["auroc"] is None
    assert library_of(finished).ask("anything", 3, 10, None)["way"] == BY_NAMES


@pytest.mark.parametrize(
    ("values", "known"),
    [({"bright": "", "left": ""}, 0), ({"bright": "1", "left": ""}, 0), ({"bright": "0", "left": "0"}, 0)],
    ids=["blank", "present or not mentioned", "absent"],
)
def test_labels_that_never_vary_are_shown_as_such(
    data: tuple[Path, Path], tmp_path: Path, values: dict[str, str], known: int
) -> None:
    table = rewritten(data[0], f"{'-'.join(map(str, values.values()))}.csv", **values)
    summary, page = ran(recipe((table, data[1]), ["bright", "left"]), tmp_path)
    assert len(summary["findings"]) == known and "Before you believe" in page
    assert ("unmentioned_never_absent" in [w["code"] for w in summary["warnings"]]) == (values["bright"] == "1")


def test_one_label_has_no_entropy(data: tuple[Path, Path], tmp_path: Path) -> None:
    summary, page = ran(recipe(data, ["left"]), tmp_path)
    assert list(summary["findings"]) == ["left"] and summary["entropy"]["sae"] is None
    unjudged(summary, 1)
    assert "With one label there is no entropy" in page


@pytest.mark.parametrize("patients", [6, 60])
def test_a_folder_of_dicom_goes_to_a_report(data: tuple[Path, Path], tmp_path: Path, patients: int) -> None:
    wanted = recipe(data, [], width=8, k=2, batch_size=2)
    wanted["what"]["dataset"] = {"kind": "dicom", "name": "ct"}
    wanted["how"]["paths"] = {"images": str(dicoms(tmp_path / "ct", patients)), "weights": str(data[1])}
    summary, page = ran(wanted, tmp_path / "run")
    (audit,) = (tmp_path / "run").glob("manifest-*/audit-*.json")
    splits = json.loads(audit.read_text())["splits"]
    assert all(split["patients"] for split in splits.values())
    assert ("<article" in page and "small_training" in [w["code"] for w in summary["warnings"]]) or patients > 6


@pytest.mark.parametrize("labels", [([], []), (["bright"], []), (["bright"], ["left"])])
def test_several_datasets_need_no_label_in_common(
    data: tuple[Path, Path], tmp_path: Path, labels: tuple[list[str], list[str]]
) -> None:
    wanted = recipe(data, [])
    base = wanted["what"].pop("dataset")
    names = ("zeta", "alpha")
    wanted["what"]["datasets"] = [base | {"name": n, "labels": own} for n, own in zip(names, labels, strict=True)]
    wanted["how"]["paths"] = {"weights": str(data[1]), "datasets": {name: {"table": str(data[0])} for name in names}}
    summary, page = ran(wanted, tmp_path)
    assert set(summary["findings"]) <= {f"zeta/{x}" for x in labels[0]} | {f"alpha/{x}" for x in labels[1]}
    assert set(summary["replication"]["pairs"]) == set(names) and 'id="replication"' in page
    assert all(row["verdict"] in ("untested", "not_selected") for row in summary["replication"]["findings"])
