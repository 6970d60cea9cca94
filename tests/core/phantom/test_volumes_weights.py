"""The shipped encoder of slices: small, and organs, planes and modality are directions on people it has not seen."""

import numpy as np
import pytest
from numpy.typing import NDArray

from medsae_ray.core.analysis.auroc import auroc
from medsae_ray.core.datasets.windows import ct_window
from medsae_ray.core.encoders import load_encoder
from medsae_ray.core.encoders.checkpoint import resolve
from medsae_ray.core.images.decode import MAX_PIXELS
from medsae_ray.core.images.nifti import AXES, PLANES, Volume
from medsae_ray.core.phantom.volumes.people import Person, person
from medsae_ray.core.phantom.volumes.scan import Scan, draw, nifti

WEIGHTS = "builtin:phantom-volumes-encoder"
TOLD = ("liver", "heart", "brain", "hip_left", "lung_upper_lobe_right")
TARGETS = (*TOLD, *PLANES, "MR")
Floats = NDArray[np.float32]


def test_the_shipped_weights_are_small() -> None:
    assert resolve(WEIGHTS).stat().st_size < 1.5e6


@pytest.fixture(scope="module")
def embedded() -> tuple[Floats, NDArray[np.int64], NDArray[np.int64]]:
    """Embeddings, truths and patient numbers of slices of 60 scans of a seed that no model was trained on."""
    people = [person(11, number) for number in range(1, 61)]
    found = [row for who in people for row in slices(who, draw(who))]
    encoder = load_encoder("medclip-vit", WEIGHTS, threads=1)
    truth = np.array([truth for _, truth, _ in found])
    return encoder.encode([image for image, _, _ in found]), truth, np.array([number for _, _, number in found])


def slices(who: Person, scan: Scan) -> list[tuple[NDArray[np.uint8], list[int], int]]:
    """Three slices of each plane, with TARGETS."""
    volume = Volume(nifti(scan.volume, scan.affine))
    shown = {organ: Volume(nifti(scan.mask(organ), scan.affine)).present() for organ in TOLD}
    window = "p1:99" if who.modality == "MR" else ":".join(map(str, ct_window(who.study.name)))
    rows = []
    for plane in PLANES:
        count = volume.voxels_XYZ.shape[AXES[plane]]
        for index in (int(count * share) for share in (0.3, 0.5, 0.65)):
            truth = [int(shown[organ][plane][index]) for organ in TOLD]
            truth += [int(plane == one) for one in PLANES] + [int(who.modality == "MR")]
            rows.append((np.asarray(volume.image(plane, index, window, MAX_PIXELS)), truth, who.number))
    return rows


def test_a_direction_learnt_on_some_people_tells_organs_planes_and_modality_in_others(
    embedded: tuple[Floats, NDArray[np.int64], NDArray[np.int64]],
) -> None:
    x_ND, y_NK, number_N = embedded
    fit, test = number_N <= 40, number_N > 40
    z_ND = (x_ND - x_ND[fit].mean(0)) / x_ND[fit].std(0)
    ridge = np.linalg.solve(
        z_ND[fit].T @ z_ND[fit] + 30 * np.eye(z_ND.shape[1]), z_ND[fit].T @ (y_NK[fit] - y_NK[fit].mean(0))
    )
    areas = {name: auroc(z_ND[test] @ ridge[:, k], y_NK[test, k]).auc for k, name in enumerate(TARGETS)}
    assert min(areas.values()) > 0.9, areas
