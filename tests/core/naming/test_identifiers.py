"""Columns that no model may be shown, by their names and by their values."""

import pytest

from medsae_ray.core.naming.identifiers import named_as_identifier, valued_as_identifier


@pytest.mark.parametrize(
    "name",
    ["patient_id", "PatientID", "Patient ID", "study_uid", "StudyInstanceUID", "path", "image_path", "Path", "uri",
     "accession", "Accession Number", "mrn", "patient", "study", "image", "file_name", "name", "Patient Name",
     "subject", "StudyDate", "date of birth date", "id"],
)  # fmt: skip
def test_names_of_identifiers_are_refused(name: str) -> None:
    assert named_as_identifier(name)


@pytest.mark.parametrize(
    "name", ["sex", "age", "Patient Age", "PatientSex", "institute", "kvp", "study_type", "marker"]
)
def test_names_of_properties_are_taken(name: str) -> None:
    assert not named_as_identifier(name)


@pytest.mark.parametrize(
    ("value", "kind"),
    [("p10/s50414267.jpg", "names of files"), ("a/b/c", "paths"), ("1.2.840.113619.2.55", "DICOM's identifiers"),
     ("MRN 00123456", "long numbers"), ("2014-03-02", "dates"), ("3/12/1999", "dates"), ("DOE^JANE", "names of people"),
     ("a@b.org", "addresses of mail"), ("9f86d081884c7d65", "hashes"), ("word " * 20, "free text"), ("C:\\x", "paths")],
)  # fmt: skip
def test_one_value_that_names_somebody_is_enough(value: str, kind: str) -> None:
    assert valued_as_identifier(["PA", None, value, "AP"], 500) == kind


def test_a_value_for_each_patient_is_an_identifier_and_a_quantity_is_none() -> None:
    assert valued_as_identifier([f"x{n}" for n in range(60)], 100) == "values of one patient each"
    assert valued_as_identifier([str(n) for n in range(1000, 1100)], 100) == "values of one patient each"
    assert valued_as_identifier([str(n % 90) for n in range(100)], 100) is None, "ages"
    assert valued_as_identifier([f"{n / 7:.3f}" for n in range(100)], 100) is None, "doses"
    assert valued_as_identifier(["PA", "AP", None, "", " F "] * 30, 150) is None
    assert valued_as_identifier(["PA/AP", "supine"], 30) is None and valued_as_identifier([], 0) is None
