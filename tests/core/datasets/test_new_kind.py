"""A new kind of dataset is one file, with its options and its reader, and one entry in DATASETS.

The recipe's type is put together when medsae_ray.config is imported, so the new kind is tried in a process of its own.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
FILE = '''
"""Dataset `kermany`: a text file with an image and its label a line."""

from dataclasses import dataclass
from typing import Annotated, Literal

import pyarrow as pa

from medsae_ray.core.datasets.base import Dataset, Paths
from medsae_ray.core.datasets.columns import file_data
from medsae_ray.core.datasets.rows import Rows
from medsae_ray.options import Limits


@dataclass(frozen=True, kw_only=True)
class KermanyDataset(Dataset):
    """Kermany's radiographs of children."""

    kind: Literal["kermany"]
    name: str = "kermany"
    most: Annotated[int, Limits(ge=1)] = 100
    """Lines that are read at most."""

    def rows(self, paths: Paths) -> Rows:
        """One row per line."""
        lines = file_data(paths.table, "table").decode().splitlines()[: self.most]
        images, marks = zip(*(line.split() for line in lines), strict=True)
        labels = {"Pneumonia": pa.array(map(int, marks), pa.int8())}
        return Rows(self.name, list(images), list(images), list(images), labels, {}, patients_known=False)
'''
ENTRY = (
    "import medsae_ray.core.datasets as known; from kermany import KermanyDataset as New; known.DATASETS += (New,)\n"
)
SCRIPT = """
import json, sys

from docs.gen import recipe as reference
from medsae_ray.config import load_recipe
from medsae_ray.errors import RecipeError
from medsae_ray.pipeline import run_stage

said = []
for file in sys.argv[2:]:
    try:
        load_recipe(file)
    except RecipeError as error:
        said.append(str(error))
manifest = run_stage(load_recipe(sys.argv[1]), "runs", "manifest")
rows = manifest.table(["image_id", "y_Pneumonia", "dataset"]).to_pylist()
print(json.dumps({"said": said, "rows": rows, "what": manifest.record.what, "page": reference.page()}))
"""


@pytest.fixture(scope="module")
def tried(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("kermany")
    (folder / "kermany.py").write_text(FILE)
    (folder / "lines.txt").write_text("a.png 1\nb.png 0\nc.png 1\nd.png 0\n")
    recipe = "name: n\nwhat:\n  dataset: {kind: kermany, %s}\n  encoder: {kind: medclip-vit}\nhow: {engine: loop%s}\n"
    table = ", paths: {table: lines.txt}"
    options = ("most: 3", "mst: 3", 'most: "3"', "most: true", "most: 0")
    given = [recipe % (option, table) for option in options] + [recipe % (options[0], "")]
    names = [f"{number}.yaml" for number in range(len(given))]
    for name, text in zip(names, given, strict=True):
        (folder / name).write_text(text)
    made = subprocess.run(
        [sys.executable, "-c", ENTRY + SCRIPT, *names],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{folder}"},
        capture_output=True,
        text=True,
    )
    assert made.returncode == 0, made.stderr
    found: dict[str, Any] = json.loads(made.stdout.splitlines()[-1])
    return found


def test_its_rows_become_a_manifest_that_is_named_by_its_options_and_its_file(tried: dict[str, Any]) -> None:
    marks = {"a.png": 1, "b.png": 0, "c.png": 1}
    assert tried["rows"] == [
        {"image_id": image, "y_Pneumonia": mark, "dataset": "kermany"} for image, mark in marks.items()
    ]
    assert tried["what"]["dataset"] == {"kind": "kermany", "name": "kermany", "most": 3}
    assert len(tried["what"]["table"]) == 64


def test_what_is_wrong_with_its_options_is_said_as_of_any_kind(tried: dict[str, Any]) -> None:
    assert [said.partition("\n")[2].strip() for said in tried["said"]] == [
        "what.dataset.mst: unknown key; did you mean 'most'?",
        "what.dataset.most: input should be a valid integer (found '3'; allowed: at least 1)",
        "what.dataset.most: input should be a valid integer (found True; allowed: at least 1)",
        "what.dataset.most: input should be greater than or equal to 1 (found 0; allowed: at least 1)",
        "a kermany dataset needs how.paths.table: CSV or Parquet file with the dataset's labels",
    ]


def test_its_options_stand_in_the_reference(tried: dict[str, Any]) -> None:
    _, _, section = tried["page"].partition("## `what.dataset` of kind `kermany`")
    section = section.partition("\n## ")[0]
    assert "Kermany's radiographs of children." in section
    assert "| `most` | integer, at least 1 | `100` | Lines that are read at most. |" in section
    assert "| `name` | text | `kermany` | " in section
