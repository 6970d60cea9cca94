"""Who the made-up patients are and what is written down about them."""

import hashlib
import json
from dataclasses import asdict

import numpy as np
import pytest

from medsae_ray.core.phantom import FINDINGS, LABELS, METADATA, TRAINING_SEEDS, Study, patient
from medsae_ray.core.phantom.cohort import LUNG_OPACITY_CHILDREN
from medsae_ray.core.phantom.render import place, render
from tests.support.usual import hospital


@pytest.fixture(scope="module")
def studies() -> list[Study]:
    return [study for number in range(2000) for study in patient(7, number)]


def rate(studies: list[Study], finding: str) -> float:
    return float(np.mean([study.truth[finding] for study in studies]))


def test_the_same_seed_and_number_give_the_same_studies() -> None:
    assert patient(7, 12) == patient(7, 12)


def test_another_seed_or_number_gives_other_people() -> None:
    def people(seed: int, first: int) -> list[tuple[str, int]]:
        return [(s.sex, s.age) for number in range(first, first + 20) for s in patient(seed, number)[:1]]

    assert people(7, 0) != people(8, 0)
    assert people(7, 0) != people(7, 100)


def test_identifiers_name_patient_and_study() -> None:
    many = next(p for p in (patient(7, n) for n in range(100)) if len(p) == 3)
    number = many[0].number
    assert [study.image_id for study in many] == [f"p{number:05d}-s{k}" for k in (1, 2, 3)]
    assert {study.patient_id for study in many} == {f"p{number:05d}"}


def test_a_patient_keeps_sex_age_and_chronic_findings() -> None:
    for number in range(100):
        studies = patient(7, number)
        assert len({(s.sex, s.age, s.truth["Cardiomegaly"], s.truth["Pleural Other"]) for s in studies}) == 1


def test_labels_are_chexperts_in_its_order() -> None:
    assert len(LABELS) == 14 and LABELS[0] == "No Finding" and LABELS[-1] == "Support Devices"
    assert LABELS[1:] == FINDINGS


def test_lung_opacity_holds_whenever_one_of_its_children_does(studies: list[Study]) -> None:
    for study in studies:
        assert study.truth["Lung Opacity"] >= max(study.truth[child] for child in LUNG_OPACITY_CHILDREN)
    assert any(s.truth["Lung Opacity"] and not any(s.truth[c] for c in LUNG_OPACITY_CHILDREN) for s in studies)


def test_no_finding_is_never_zero_and_excludes_every_finding(studies: list[Study]) -> None:
    for study in studies:
        assert study.labels["No Finding"] == (None if any(study.truth.values()) else 1)


def test_an_annotation_that_is_given_is_true(studies: list[Study]) -> None:
    for study in studies:
        assert all(study.labels[name] in (study.truth[name], -1, None) for name in FINDINGS)


def test_about_three_percent_are_uncertain_and_ten_blank(studies: list[Study]) -> None:
    values = [study.labels[name] for study in studies for name in FINDINGS]
    assert values.count(-1) / len(values) == pytest.approx(0.03, abs=0.005)
    assert values.count(None) / len(values) == pytest.approx(0.10, abs=0.01)


def test_every_finding_is_neither_rare_nor_common(studies: list[Study]) -> None:
    for finding in set(FINDINGS) - {"Lung Opacity"}:
        assert 0.06 <= rate(studies, finding) <= 0.25, finding
    assert 0.30 <= rate(studies, "Lung Opacity") <= 0.50  # a parent is at least as common as its children together
    assert 0.20 <= np.mean([study.labels["No Finding"] == 1 for study in studies]) <= 0.50


def test_findings_keep_the_company_they_should(studies: list[Study]) -> None:
    for finding, company in [
        ("Cardiomegaly", "Edema"),
        ("Edema", "Pleural Effusion"),
        ("Pleural Effusion", "Atelectasis"),
        ("Pneumonia", "Consolidation"),
        ("Fracture", "Pneumothorax"),
    ]:
        with_it = rate([study for study in studies if study.truth[finding]], company)
        assert with_it > 1.4 * rate([study for study in studies if not study.truth[finding]], company)


def test_the_two_shortcuts_go_with_their_findings(studies: list[Study]) -> None:
    devices = [study.portable_marker for study in studies if study.truth["Support Devices"]]
    others = [study.portable_marker for study in studies if not study.truth["Support Devices"]]
    assert np.mean(devices) == pytest.approx(0.85, abs=0.05) and np.mean(others) < 0.08
    fractures = [study.scanner == "B" for study in studies if study.truth["Fracture"]]
    assert np.mean(fractures) > 0.8 and np.mean([study.scanner == "B" for study in studies]) < 0.4


def test_metadata_are_text_columns() -> None:
    study = patient(7, 0)[0]
    metadata = study.metadata()
    assert tuple(metadata) == METADATA and all(isinstance(value, str) for value in metadata.values())
    assert metadata["view"] in ("AP", "PA") and metadata["sex"] in ("F", "M") and 18 <= int(metadata["age"]) <= 95


def test_training_seeds_are_far_from_those_of_runs() -> None:
    assert 7 not in TRAINING_SEEDS and len(TRAINING_SEEDS) > 1000


def test_the_usual_hospital_is_what_it_always_was() -> None:
    """Runs, weights and figures of the default recipe rest on these draws."""
    first = [study for number in range(6) for study in patient(7, number)]
    fields = [{k: v for k, v in asdict(study).items() if k != "film"} for study in first]
    assert hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:16] == "b3b68f73118cc28d"
    films = np.stack([render(study) for study in first[:3]]).astype(float)
    np.testing.assert_allclose(films.mean(axis=(1, 2)), [128.560, 131.380, 134.119], atol=0.002)
    np.testing.assert_allclose(
        films[:, 40:200:40, 60], [[146, 63, 51, 148], [190, 64, 46, 103], [185, 65, 76, 149]], atol=1
    )


def test_prevalence_scales_findings_and_leaves_people_as_they_are() -> None:
    fewer = [study for number in range(1000) for study in patient(7, number, hospital(prevalence=0.5))]
    usual = [study for number in range(1000) for study in patient(7, number)]
    assert [(s.sex, s.age, s.view) for s in fewer] == [(s.sex, s.age, s.view) for s in usual]
    assert rate(fewer, "Pneumonia") == pytest.approx(rate(usual, "Pneumonia") / 2, abs=0.02)
    assert all(s.truth["Pneumonia"] >= f.truth["Pneumonia"] for s, f in zip(usual, fewer, strict=True))


@pytest.mark.parametrize("marker", ["random", "never"])
def test_a_marker_that_is_no_shortcut_says_nothing_of_devices(marker: str) -> None:
    studies = [study for number in range(1500) for study in patient(7, number, hospital(marker=marker))]
    with_devices, without = (
        float(np.mean([s.portable_marker for s in studies if s.truth["Support Devices"] == y])) for y in (1, 0)
    )
    expected = 0.25 if marker == "random" else 0.0
    assert with_devices == pytest.approx(expected, abs=0.05) and without == pytest.approx(expected, abs=0.05)
    usual = [study for number in range(1500) for study in patient(7, number)]
    assert [s.truth for s in studies] == [s.truth for s in usual]


def test_a_soft_film_shows_the_same_person_flatter_and_darker() -> None:
    for number in range(3):
        usual, soft = (render(patient(7, number, hospital(film=film))[0]) for film in ("standard", "soft"))
        assert np.corrcoef(usual.ravel(), soft.ravel())[0, 1] > 0.95
        assert soft.std() < 0.9 * usual.std() and soft.mean() < usual.mean()


def test_a_findings_place_is_where_it_was_drawn() -> None:
    study = next(s for n in range(200) for s in patient(7, n) if s.truth["Pleural Effusion"] and s.truth["Fracture"])
    effusion, fracture = place(study, "Pleural Effusion"), place(study, "Fracture", render(study))
    rows = np.flatnonzero(effusion.any(1))
    assert effusion.shape == (224, 224) and 0.005 < effusion.mean() < 0.2
    assert rows.min() > 90  # fluid lies below
    assert 0 < fracture.mean() < 0.1 and (effusion & fracture).sum() < 0.3 * fracture.sum()
    healthy = next(name for name, planted in study.truth.items() if not planted)
    assert not place(study, healthy).any()
