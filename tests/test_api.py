import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

import medsae_ray
from medsae_ray import errors
from medsae_ray.config import parse_recipe
from medsae_ray.pipeline import run_stage
from tests.support.small import onnx_encoder, recipe_data, table_dataset

ERRORS = {"ArtifactError", "DatasetError", "DivergedError", "EncoderError", "EngineError", "ImageError", "MedsaeError"}
ERRORS |= {"JudgementError", "NamingError", "ServiceError", "RecipeError", "ShardError"}


def test_the_public_names_are_these_and_no_more() -> None:
    functions = {"load_encoder", "load_recipe", "load_sae", "open_artifact", "query", "run", "similar"}
    assert set(medsae_ray.__all__) == ERRORS | functions | {"AsyncClient", "Client", "Recipe", "Sae", "__version__"}
    assert set(medsae_ray.__all__) <= set(dir(medsae_ray))
    assert all(getattr(medsae_ray, name).__doc__ for name in medsae_ray.__all__ if name != "__version__")
    with pytest.raises(AttributeError, match="no attribute 'Recipes'"):
        medsae_ray.Recipes  # noqa: B018


def test_every_error_is_exported_and_drawn_below_its_base() -> None:
    found = {name: error for name, error in vars(errors).items() if isinstance(error, type)}
    assert set(found) == ERRORS and all(getattr(medsae_ray, name) is error for name, error in found.items())
    drawn = re.findall(r"^( *(?:[│├└─]+ *)*)(\w+Error)", str(errors.__doc__), flags=re.MULTILINE)
    above: dict[int, str] = {}
    for branch, name in drawn:
        above[len(branch)] = name
        bases = [above[depth] for depth in sorted(above) if depth < len(branch)]
        assert found[name].__base__.__name__ == (bases[-1] if bases else "Exception")
        above = {depth: other for depth, other in above.items() if depth <= len(branch)}
    assert {name for _, name in drawn} == ERRORS


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = (
        "import sys, medsae_ray; print([m for m in ('ray', 'torch', 'transformers', 'pydantic') if m in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_core_needs_neither_ray_nor_pydantic() -> None:
    root = Path(medsae_ray.__file__).parent
    modules = [
        ".".join(("medsae_ray", *path.relative_to(root).with_suffix("").parts)) for path in root.glob("core/**/*.py")
    ]
    code = (
        "import sys, importlib; sys.modules['ray'] = sys.modules['pydantic'] = None; "
        f"[importlib.import_module(m.removesuffix('.__init__')) for m in {modules!r}]"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


def test_run_takes_a_recipe_and_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = recipe_data(table_dataset(tmp_path, 60), onnx_encoder(tmp_path / "e.onnx"), engine="loop")
    summary = medsae_ray.run(parse_recipe(data), tmp_path / "root")
    assert (tmp_path / "root" / "report.html").is_file() and summary["recipe"] == "small"
    assert capsys.readouterr().out == ""


def test_a_run_is_quiet_unless_progress_is_wanted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = recipe_data(table_dataset(tmp_path, 60), onnx_encoder(tmp_path / "e.onnx"), engine="loop")
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(data))
    recipe = medsae_ray.load_recipe(tmp_path / "small.yaml")
    assert isinstance(recipe, medsae_ray.Recipe)
    summary = medsae_ray.run(recipe, tmp_path / "root", progress=True)
    printed = capsys.readouterr().out
    assert "· sae: training the sparse autoencoder" in printed and "held-out R2" in printed
    assert medsae_ray.run(recipe, tmp_path / "root")["sae"] == summary["sae"] and capsys.readouterr().out == ""


def test_encoders_and_saes_take_arrays_and_give_arrays(tmp_path: Path) -> None:
    table, weights = table_dataset(tmp_path, 60), onnx_encoder(tmp_path / "e.onnx")
    sae = run_stage(parse_recipe(recipe_data(table, weights, engine="loop")), str(tmp_path / "root"), "sae")
    encoder = medsae_ray.load_encoder("onnx", str(weights), size=16)
    x = encoder.encode([np.full((20, 30), 128, np.uint8), tmp_path / "i0000.png"], batch_size=1)
    loaded = medsae_ray.load_sae(sae.store.uri)
    z = loaded.encode(x)
    assert x.dtype == z.dtype == np.float32 and z.shape == (2, 24) and (z >= 0).all()
    assert loaded.decode(z).shape == x.shape


@pytest.mark.parametrize("name", ["open_artifact", "load_sae"])
def test_what_is_not_there_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(medsae_ray.ArtifactError, match=r"has no record\.json\. Run its recipe again"):
        getattr(medsae_ray, name)(tmp_path / "sae-000000000000")


@pytest.fixture(scope="module")
def sae(tmp_path_factory: pytest.TempPathFactory) -> medsae_ray.Sae:
    folder = tmp_path_factory.mktemp("sae")
    data = recipe_data(table_dataset(folder, 60), onnx_encoder(folder / "e.onnx"), engine="loop")
    return medsae_ray.load_sae(run_stage(parse_recipe(data), str(folder / "root"), "sae").store.uri)


@pytest.mark.parametrize("call", ["encode", "decode"])
def test_what_is_no_row_of_numbers_is_refused_with_what_was_found(sae: medsae_ray.Sae, call: str) -> None:
    columns = {"encode": 12, "decode": 24}[call]
    good = np.linspace(0, 1, 3 * columns, dtype=np.float32).reshape(3, columns)
    nan, inf = good.copy(), good.copy()
    nan[1, 2], inf[2, 0] = np.nan, -np.inf
    for bad, message in (
        (good[:, :-1], rf"float32 \[3, {columns - 1}\]; .*\[rows, {columns}\] are wanted"),
        (good[0], rf"float32 \[{columns}\]; .*\[rows, {columns}\].* x\[None\]"),
        (good[None], rf"float32 \[1, 3, {columns}\]"),
        (torch.from_numpy(good)[:, :5], r"float32 \[3, 5\]"),
        (nan, r"hold NaN or Inf .*first at \[1, 2\]"),
        (torch.from_numpy(inf), r"hold NaN or Inf .*first at \[2, 0\]"),
        (good.astype(np.float64) * 1e300, "hold NaN or Inf"),
        (good > 0.5, "bool .*real numbers are wanted"),
        (good.astype(complex), "complex128 .*real numbers are wanted"),
        ([["a"] * columns], "real numbers are wanted"),
        ([[1.0], [1.0, 2.0]], "rows of different lengths"),
    ):
        with pytest.raises(ValueError, match=message):
            getattr(sae, call)(bad)


@pytest.mark.parametrize("call", ["encode", "decode"])
def test_rows_of_numbers_in_any_container_give_the_same(sae: medsae_ray.Sae, call: str) -> None:
    columns = {"encode": 12, "decode": 24}[call]
    whole = np.arange(2 * columns).reshape(2, columns) % 5
    wanted = getattr(sae, call)(whole.astype(np.float32))
    forms = [whole, whole.tolist(), torch.from_numpy(whole), torch.from_numpy(whole).bfloat16()]
    forms += [torch.from_numpy(whole).double().requires_grad_(), whole.astype(np.float16), np.asfortranarray(whole)]
    for form in forms:
        found = getattr(sae, call)(form)
        assert isinstance(found, torch.Tensor if isinstance(form, torch.Tensor) else np.ndarray)
        assert found.dtype in (np.float32, torch.float32) and not getattr(found, "requires_grad", False)
        np.testing.assert_array_equal(found, wanted)
    assert getattr(sae, call)(whole[:0]).shape == (0, wanted.shape[1])


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"split": "test"}, "split is 'test'; it may be one of sae, naming, detection"),
        ({"features": 0}, "features is 0; it must be a whole number from 1 to 1000"),
        ({"images": 1.5}, "images is 1.5"),
        ({"text": " "}, "words are needed"),
    ],
)
def test_a_query_in_wrong_words_is_refused(asked: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(medsae_ray.RecipeError, match=message):
        medsae_ray.query("phantom", tmp_path, **({"text": "bright"} | asked))
