import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import medsae_ray
from medsae_ray.config import parse_recipe
from medsae_ray.stages.pipeline import run_stage
from tests.small import onnx_encoder, recipe_data, table_dataset


def test_the_public_names_are_these_and_no_more() -> None:
    errors = {"ArtifactError", "DatasetError", "EncoderError", "ImageError", "MedsaeError", "RecipeError", "ShardError"}
    assert set(medsae_ray.__all__) == errors | {"load_encoder", "load_sae", "open_artifact", "query", "run"}
    assert all(getattr(medsae_ray, name).__doc__ for name in medsae_ray.__all__)
    assert all(issubclass(getattr(medsae_ray, name), medsae_ray.MedsaeError) for name in errors)


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


def test_run_takes_a_recipe_and_a_folder(tmp_path: Path) -> None:
    data = recipe_data(table_dataset(tmp_path, 60), onnx_encoder(tmp_path / "e.onnx"), engine="loop")
    summary = medsae_ray.run(parse_recipe(data), tmp_path / "root")
    assert (tmp_path / "root" / "report.html").is_file() and summary["recipe"] == "small"


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
