"""The shipped encoder: it loads by name, is small, and tells planted findings apart on people it was not trained on."""

import numpy as np
import pytest
from numpy.typing import NDArray

from medsae_ray.core.analysis.auroc import auroc
from medsae_ray.core.encoders import load_encoder
from medsae_ray.core.encoders.checkpoint import resolve
from medsae_ray.core.phantom import FINDINGS, patient
from medsae_ray.core.phantom.render import render

WEIGHTS = "builtin:phantom-encoder"


@pytest.fixture(scope="module")
def embedded() -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
    """Embeddings, truths and patient numbers of 220 patients of a seed that no model was trained on."""
    studies = [study for number in range(220) for study in patient(11, number)[:1]]
    encoder = load_encoder("medclip-vit", WEIGHTS, threads=1)
    images = [render(study) for study in studies]
    truth = np.array([[study.truth[name] for name in FINDINGS] for study in studies])
    return encoder.encode(images), truth, np.array([study.number for study in studies])


def test_the_shipped_weights_are_small() -> None:
    assert resolve(WEIGHTS).stat().st_size < 6e6


def test_embeddings_are_finite_and_differ_between_people(
    embedded: tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]],
) -> None:
    x_ND = embedded[0]
    assert np.isfinite(x_ND).all() and (x_ND.std(0) > 1e-3).mean() > 0.9


def test_a_direction_learnt_on_some_patients_tells_findings_in_others(
    embedded: tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]],
) -> None:
    x_ND, y_NF, number_N = embedded
    fit, test = number_N < 140, number_N >= 140
    z_ND = (x_ND - x_ND[fit].mean(0)) / x_ND[fit].std(0)
    ridge = np.linalg.solve(
        z_ND[fit].T @ z_ND[fit] + 30 * np.eye(z_ND.shape[1]), z_ND[fit].T @ (y_NF[fit] - y_NF[fit].mean(0))
    )
    areas = {name: auroc(z_ND[test] @ ridge[:, k], y_NF[test, k]).auc for k, name in enumerate(FINDINGS)}
    assert sum(area > 0.9 for area in areas.values()) >= 6, areas
