"""What the README shows is run: its Python, its command lines, and its tree."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from medsae_ray.cli import _parser
from medsae_ray.config import find_recipe, parse_recipe

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_the_python_runs_on_a_small_phantom_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = yaml.safe_load(find_recipe("phantom").read_text())
    recipe["what"]["dataset"]["patients"] = 60
    recipe["what"]["sae"] |= {"epochs": 3, "batch_size": 16}
    del recipe["what"]["naming"], recipe["how"]["vlm"]
    recipe["how"]["engine"] = "loop"
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(recipe))
    monkeypatch.chdir(tmp_path)
    for name in ("one.png", "two.png"):
        Image.fromarray(np.full((50, 40), 90, np.uint8)).save(name)
    (code,) = blocks("python")
    shown: dict[str, object] = {}
    exec(code.replace('("phantom"', '("small.yaml"'), shown)
    x, z = shown["x"], shown["z"]
    assert isinstance(x, np.ndarray) and isinstance(z, np.ndarray) and x.dtype == np.float32
    assert z.shape == (2, recipe["what"]["sae"]["width"])


def test_the_encoder_of_a_recipe_is_one_that_exists() -> None:
    (shown,) = [block for block in map(yaml.safe_load, blocks("yaml")) if "encoder" in block.get("what", {})]
    data = yaml.safe_load(find_recipe("phantom").read_text())
    data["what"]["encoder"] = shown["what"]["encoder"]
    data["how"]["paths"] = shown["how"]["paths"]
    assert parse_recipe(data).what.encoder.kind == "huggingface"


def test_every_command_line_is_one_that_exists() -> None:
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    medsae = [shlex.split(line, comments=True)[1:] for line in lines if line.startswith(".venv/bin/medsae")]
    assert len(medsae) == 9
    for arguments in medsae:
        _parser().parse_args(arguments)
    targets = [line.split()[1] for line in lines if line.startswith("make ")]
    assert targets and all(f"\n{target}:" in (ROOT / "Makefile").read_text() for target in targets)


def test_the_tree_names_what_is_there() -> None:
    (tree,) = [block for block in blocks("text") if "medsae_ray/\n" in block]
    folder = ROOT
    for line in tree.splitlines():
        name = line.split()[0]
        folder = ROOT / "medsae_ray" if line.startswith("  ") else ROOT
        assert (folder / name).exists(), name


def test_every_named_file_exists() -> None:
    assert all((ROOT / path).exists() for path in re.findall(r"`((?:medsae_ray|jobs|benchmarks)/[\w./-]+)`", README))
