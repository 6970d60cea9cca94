"""What a study looks like, and what each finding adds to it."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from medsae_ray.core.phantom import FINDINGS, Study, patient
from medsae_ray.core.phantom.canvas import SIZE
from medsae_ray.core.phantom.render import render

ALL = slice(None)
PLACES = {"top": (slice(112), ALL), "bottom": (slice(112, None), ALL), "middle": (ALL, slice(80, 144))}


def healthy(count: int) -> list[Study]:
    studies = [study for number in range(60) for study in patient(3, number)]
    return [study for study in studies if not any(study.truth.values())][:count]


def added(study: Study, finding: str) -> NDArray[np.float64]:
    """How much brighter `finding` makes each pixel of a healthy study."""
    with_it = replace(study, truth=study.truth | {finding: 1})
    return render(with_it).astype(float) - render(study)


def test_a_radiograph_is_grey_bytes_of_the_declared_size() -> None:
    image = render(patient(7, 0)[0])
    assert image.dtype == np.uint8 and image.shape == (SIZE, SIZE)


def test_rendering_is_deterministic_and_differs_between_studies() -> None:
    studies = next(p for p in (patient(7, n) for n in range(100)) if len(p) > 1)
    assert np.array_equal(render(studies[0]), render(studies[0]))
    assert not np.array_equal(render(studies[0]), render(studies[1]))


def test_lungs_are_darker_than_the_mediastinum_and_the_film_outside_is_dark() -> None:
    for study in healthy(6):
        image = render(study).astype(float)
        lungs, heart = image[70:110, 60:80].mean(), image[90:140, 105:120].mean()
        assert lungs < heart - 60 and np.percentile(image, 1) < 40


@pytest.mark.parametrize("finding", FINDINGS)
def test_each_finding_leaves_a_visible_sign_and_little_elsewhere(finding: str) -> None:
    for study in healthy(3):
        change = np.abs(added(study, finding))
        assert (change > 12).sum() > 60, "a sign of at least 60 pixels"
        assert (change > 12).mean() < 0.45, "most of the film stays as it was"


@pytest.mark.parametrize(
    ("finding", "where"),
    [
        ("Cardiomegaly", "bottom"),
        ("Enlarged Cardiomediastinum", "top"),
        ("Enlarged Cardiomediastinum", "middle"),
        ("Pleural Effusion", "bottom"),
        ("Atelectasis", "bottom"),
    ],
)
def test_a_shadow_lies_where_it_belongs(finding: str, where: str) -> None:
    for study in healthy(3):
        change = np.maximum(added(study, finding) - 8, 0)
        assert change[PLACES[where]].sum() > 0.7 * change.sum()


def test_a_pneumothorax_darkens_and_an_effusion_brightens() -> None:
    for study in healthy(3):
        assert added(study, "Pneumothorax").sum() < 0 < added(study, "Pleural Effusion").sum()


def test_edema_is_on_both_sides() -> None:
    for study in healthy(3):
        change = np.maximum(added(study, "Edema"), 0)
        assert 0.25 < change[:, :112].sum() / change.sum() < 0.75


def test_removing_one_finding_leaves_the_others_as_they_are() -> None:
    study = healthy(1)[0]
    both = replace(study, truth=study.truth | {"Cardiomegaly": 1, "Support Devices": 1})
    alone = replace(study, truth=study.truth | {"Support Devices": 1})
    change = np.abs(render(both).astype(float) - render(alone))
    assert np.median(change[:70]) == 0  # the tubes above the heart did not move


def test_the_markers_are_burned_in() -> None:
    study = healthy(1)[0]
    marked = render(replace(study, portable_marker=1)).astype(float) - render(replace(study, portable_marker=0))
    rows, columns = np.nonzero(marked)
    assert 100 < len(rows) < 800 and np.ptp(rows) < 20 and np.ptp(columns) < 60
    emergency = render(replace(study, scanner="B"))
    assert emergency[:, :3].mean() < 12 and emergency[:, -3:].mean() < 12  # collimated
