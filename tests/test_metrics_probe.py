import json
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy import sparse

from medsae_ray.core.analysis.auroc import auroc
from medsae_ray.errors import ArtifactError
from medsae_ray.metrics import LinearProbe, probe
from tests.support.shared import SHARED, needs_shared

SAIL = SHARED / "data" / "sail"
TARGETS = ("sex=f", "plane=z", "age<50", "liver", "heart", "spleen")


@pytest.fixture(scope="module")
def expected() -> dict[str, dict[str, object]]:
    return json.loads((SAIL / "expected.json").read_text())["biomedparse"]["probes"]


@pytest.fixture(scope="module")
def codes() -> sparse.csr_array:
    stored = pq.read_table(SAIL / "codes_top5.parquet").to_pydict()
    return sparse.csr_array((stored["activation"], (stored["row"], stored["feature"])), shape=(995, 8192))


@pytest.fixture(scope="module")
def slices() -> dict[str, np.ndarray]:
    stored = pq.read_table(SAIL / "slices.parquet").to_pydict()
    organs = json.loads((SAIL / "organs.json").read_text())
    names = organs if isinstance(organs, list) else organs["organs"]
    shown = np.unpackbits(np.array(stored["organs"], dtype=np.uint8), axis=1)
    known = {name: shown[:, names.index(name)].astype(float) for name in ("liver", "heart", "spleen")}
    ages = np.array([np.nan if age is None else age for age in stored["age"]], dtype=float)
    return known | {
        "sex=f": np.array([sex == "f" for sex in stored["sex"]], dtype=float),
        "plane=z": np.array([plane == "z" for plane in stored["plane"]], dtype=float),
        "age<50": (ages < 50).astype(float),
        "fit": np.array([int(name[1:]) % 3 != 0 for name in stored["image_id"]]),
    }


def fitted(codes: sparse.csr_array, slices: dict[str, np.ndarray], target: str, kind: str) -> tuple[LinearProbe, float]:
    fit, y_N = slices["fit"], slices[target]
    found = probe(codes[fit], y_N[fit], codes[~fit], compat="sail" if kind == "as SAIL" else None)
    return found, auroc(found.scores, y_N[~fit]).auc


@needs_shared
@pytest.mark.skipif(not SAIL.is_dir(), reason="the codes of SAIL are not beside the project")
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("kind", ["as SAIL", "scaled"])
def test_probes_are_those_of_sail(
    codes: sparse.csr_array,
    slices: dict[str, np.ndarray],
    expected: dict[str, dict[str, object]],
    target: str,
    kind: str,
) -> None:
    wanted = expected[f"{kind}/{target}"]
    found, area = fitted(codes, slices, target, kind)
    assert area == pytest.approx(wanted["auc_converged"], abs=2e-3)
    # Of scaled codes scikit-learn's own fit had not converged when its iterations were used up: its objective is 1e-4
    # above this one's, and so are its weights, of up to 1.7, a little off.
    close = 1e-2 if kind == "as SAIL" else 5e-2
    for feature, weight in wanted["top"]:
        assert found.coefficients[feature] == pytest.approx(weight, abs=close)
    assert abs(np.count_nonzero(found.coefficients) - wanted["n_nonzero_converged"]) <= 2


@needs_shared
@pytest.mark.skipif(not SAIL.is_dir(), reason="the codes of SAIL are not beside the project")
@pytest.mark.parametrize("target", TARGETS)
def test_recovery_on_the_strongest_features_is_that_of_sail(
    codes: sparse.csr_array, slices: dict[str, np.ndarray], expected: dict[str, dict[str, object]], target: str
) -> None:
    wanted = expected[f"scaled/{target}"]
    strongest = [feature for feature, _ in wanted["top"]]
    for n, area in wanted["recovery"].items():
        columns = codes[:, strongest[: int(n)]]
        assert fitted(columns, slices, target, "scaled")[1] == pytest.approx(area, abs=2e-3)


def test_dense_and_sparse_values_give_one_probe_and_constants_none() -> None:
    rng = np.random.default_rng(0)
    x_NK = rng.gamma(1, 1, (200, 8)) * (rng.random((200, 8)) < 0.5)
    x_NK[:, 3] = 2
    y_N = np.where(rng.random(200) < 0.1, np.nan, (x_NK[:, 0] + rng.normal(0, 0.3, 200) > 0.6).astype(float))
    dense, thin = probe(x_NK, y_N, x_NK), probe(sparse.coo_array(x_NK), y_N, sparse.csc_array(x_NK))
    np.testing.assert_allclose(dense.coefficients, thin.coefficients, atol=1e-3)
    np.testing.assert_allclose(dense.scores, thin.scores, atol=1e-2)
    assert dense.coefficients[3] == 0 and np.argmax(np.abs(dense.coefficients)) == 0
    scaled_NK = x_NK / np.where(np.arange(8) == 3, 1, x_NK[~np.isnan(y_N)].std(axis=0))
    np.testing.assert_allclose(dense.scores, scaled_NK @ dense.coefficients + dense.intercept, atol=1e-6)
    as_sail = probe(x_NK, y_N, x_NK, compat="sail")
    np.testing.assert_allclose(as_sail.scores, x_NK @ as_sail.coefficients + as_sail.intercept, atol=1e-6)


@pytest.mark.parametrize(
    ("y", "words"), [([1, 1, 1], "needs both 0 and 1"), ([0, 1, 2], "nothing else"), ([0, 1], "do not match")]
)
def test_labels_that_cannot_be_fitted_are_refused(y: list[int], words: str) -> None:
    with pytest.raises(ArtifactError, match=words):
        probe(np.eye(3), y, np.eye(3))
    with pytest.raises(ArtifactError, match="'sail'"):
        probe(np.eye(3), [0, 1, 1], np.eye(3), compat="sial")  # type: ignore[arg-type]
    with pytest.raises(ArtifactError, match="NaN or infinite"):
        probe(np.full((3, 1), np.nan), [0, 1, 1], np.eye(3)[:, :1])


def test_the_import_is_light() -> None:
    heavy = "('torch', 'ray', 'pydantic', 'transformers', 'sklearn')"
    code = f"import sys, medsae_ray.metrics; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
