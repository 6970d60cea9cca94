"""What is exported gives the same codes and reconstructions in the real libraries, and theirs give the same here.

The libraries live in environments of their own, which `make bench-peers` sets up.
"""

import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from medsae_ray.api import load_sae
from medsae_ray.core.artifacts.store import Store
from medsae_ray.core.sae.formats.convert import export_sae, import_sae
from tests.core.sae.test_formats import HELD, artifact, rows, trained

ROOT = Path(__file__).resolve().parents[3]
THEIRS = {
    "saelens": ("standard", "topk", "jumprelu", "gated", "batchtopk", "matryoshka_batchtopk"),
    "dictionary_learning": (
        "AutoEncoder",
        "AutoEncoderTopK",
        "BatchTopKSAE",
        "MatryoshkaBatchTopKSAE",
        "JumpReluAutoEncoder",
        "GatedAutoEncoder",
    ),
    "sparsify": ("topk",),
}
OURS = [(name, kind) for name in THEIRS for kind in HELD[name]]


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A library's folder of ours-KIND and theirs-KIND, encoded and decoded by the library in one process."""
    asked: dict[str, Path] = {}

    def folder_of(library: str) -> Path:
        if not (ROOT / ".peers" / library / ".done").exists():
            pytest.skip(f"{library} is not there; `make bench-peers` installs it")
        if library not in asked:
            folder = tmp_path_factory.mktemp(library)
            ask(library, folder)
            asked[library] = folder
        return asked[library]

    return folder_of


def ask(library: str, folder: Path) -> None:
    for kind in HELD[library]:
        with tempfile.TemporaryDirectory() as root:
            export_sae(artifact(trained(kind), Path(root)), library, Store(str(folder / f"ours-{kind}")))
    for kind in THEIRS[library]:
        (folder / f"theirs-{kind}").mkdir()
    np.save(folder / "x.npy", rows(200, seed=6).numpy())
    python, script = ROOT / ".peers" / library / "bin" / "python", Path(__file__).with_name("peer.py")
    done = subprocess.run([python, script, library, folder], capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize(("library", "kind"), OURS)
@torch.no_grad()
def test_what_is_exported_gives_the_same_codes_there(library: str, kind: str, peer: Callable[[str], Path]) -> None:
    folder = peer(library) / f"ours-{kind}"
    sae = trained(kind).sae
    z_NM = sae.encode(rows(200, seed=6))
    np.testing.assert_allclose(np.load(folder / "z.npy"), z_NM, atol=1e-5, rtol=1e-5)
    np.testing.assert_allclose(np.load(folder / "x_hat.npy"), sae.decode(z_NM), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("library", "kind"), [(library, kind) for library, kinds in THEIRS.items() for kind in kinds])
def test_what_is_imported_gives_the_same_codes_here(
    library: str, kind: str, peer: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = peer(library) / f"theirs-{kind}"
    z = np.load(folder / "z.npy")
    found = import_sae(library, Store(str(folder)), Store(str(tmp_path)))
    sae = load_sae(found.store.uri)
    assert 0 < (z > 0).sum() < z.size
    np.testing.assert_allclose(sae.encode(rows(200, seed=6).numpy()), z, atol=1e-5, rtol=1e-5)
    np.testing.assert_allclose(sae.decode(z), np.load(folder / "x_hat.npy"), atol=1e-5, rtol=1e-5)
