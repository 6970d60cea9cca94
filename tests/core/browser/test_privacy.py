import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from medsae_ray.core.browser.privacy import SMALL, common_labels, common_values, people


def test_a_count_of_few_people_is_not_said() -> None:
    assert people(1) == people(SMALL - 1) == f"< {SMALL}"
    assert people(0) == "0" and people(SMALL) == str(SMALL) and people(None) == "–"


def test_a_label_that_few_patients_have_or_lack_is_unknown() -> None:
    patient_N = np.arange(40) // 2
    y_NL = np.zeros((40, 4))
    y_NL[:20, 0] = 1  # 10 patients
    y_NL[:18, 1] = 1  # 9 patients
    y_NL[:30, 2] = 1  # 5 patients lack it
    shown = common_labels(y_NL, patient_N)
    assert (shown[:, [0, 3]] == y_NL[:, [0, 3]]).all() and np.isnan(shown[:, [1, 2]]).all()


@given(st.lists(st.tuples(st.sampled_from(["a", "b", None]), st.integers(0, 15)), max_size=60))
def test_a_shown_value_is_shared_by_enough_patients(rows: list[tuple[str | None, int]]) -> None:
    values, patients = [value for value, _ in rows], np.array([patient for _, patient in rows], dtype=int)
    shown = common_values(values, patients)
    for value in {"a", "b"}:
        having = {patient for found, patient in rows if found == value}
        kept = [found for found in shown if found == value]
        assert len(kept) == (values.count(value) if len(having) >= SMALL else 0)
