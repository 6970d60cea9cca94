"""`--set`: what its texts mean."""

from pathlib import Path
from typing import Any

import pytest

from medsae_ray.config import load_recipe, read_change
from medsae_ray.config.changes import changed


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("[1, 2]", [1, 2]),
        ("null", None),
        ("", None),
        ("a=b", "a=b"),
        ("{k: 2}", {"k": 2}),
        ("no", "no"),
    ],
)
def test_values_are_read_as_a_recipe_reads_them(text: str, value: Any) -> None:
    assert read_change(f"what.sae.k={text}") == ("what.sae.k", value)


def test_parts_that_are_not_there_are_made_and_the_rest_stays() -> None:
    data = {"what": {"sae": {"k": 3, "lr": 0.1}, "naming": None}, "how": {}}
    new = changed(data, map(read_change, ["what.sae.k=4", "what.naming.attempts=2", "what.sae.k=5"]))
    assert new == {"what": {"sae": {"k": 5, "lr": 0.1}, "naming": {"attempts": 2}}, "how": {}}
    assert data["what"]["sae"]["k"] == 3  # type: ignore[index]


def test_a_path_starts_where_the_command_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "e.onnx").touch()
    monkeypatch.chdir(tmp_path)
    given = ["how.paths.table=labels.csv", "how.paths.images=s3://b/i", "how.paths.weights=data/e.onnx"]
    paths = load_recipe("table-onnx", list(map(read_change, given))).how.paths
    assert paths.table == str(tmp_path / "labels.csv") and paths.weights == str(tmp_path / "data" / "e.onnx")
    assert paths.images == "s3://b/i"


def test_a_hugging_face_id_stays_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    given = ["what.encoder={kind: huggingface}", "how.paths.weights=microsoft/rad-dino"]
    assert load_recipe("table-onnx", list(map(read_change, given))).how.paths.weights == "microsoft/rad-dino"
