import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medsae_ray.core.datasets.rows import Rows, to_manifest
from medsae_ray.core.splits import audit, hold_out, index_images, patient_splits
from medsae_ray.errors import DatasetError

SHARES = {"sae": 0.6, "naming": 0.2, "detection": 0.2}


@given(st.lists(st.text(min_size=1, max_size=4), min_size=1, max_size=60), st.text(max_size=3), st.randoms())
def test_a_patients_split_depends_on_nothing_but_patient_and_salt(patients: list[str], salt: str, rng) -> None:
    of = dict(zip(patients, patient_splits(patients, SHARES, salt), strict=True))
    shuffled = [*rng.sample(patients, len(patients)), "another"]
    assert all(of.get(p, s) == s for p, s in zip(shuffled, patient_splits(shuffled, SHARES, salt), strict=True))


def test_shares_are_met() -> None:
    splits = np.array(patient_splits([f"p{i}" for i in range(20_000)], SHARES, "salt"))
    assert all(abs((splits == name).mean() - share) < 0.015 for name, share in SHARES.items())


def test_another_salt_gives_another_split() -> None:
    patients = [f"p{i}" for i in range(100)]
    assert patient_splits(patients, SHARES, "a") != patient_splits(patients, SHARES, "b")


@given(st.lists(st.integers(0, 5), min_size=1, max_size=40), st.randoms())
def test_each_patient_has_one_index_image_whatever_the_order(patients: list[int], rng) -> None:
    images = [f"i{n}" for n in range(len(patients))]
    order = rng.sample(range(len(patients)), len(patients))

    def chosen(rows: list[int]) -> set[str]:
        flags = index_images([images[r] for r in rows], [str(patients[r]) for r in rows], "s")
        return {images[r] for r, flag in zip(rows, flags, strict=True) if flag}

    assert chosen(list(range(len(patients)))) == chosen(order)
    assert len(chosen(order)) == len(set(patients))


def test_the_audit_counts_and_refuses_a_patient_in_two_splits() -> None:
    good = pa.table({"patient_id": ["a", "a", "b"], "split": ["sae", "sae", "naming"]})
    assert audit(good)["splits"]["sae"] == {"images": 2, "patients": 1}
    assert audit(good)["patients_in_two_splits"] == 0
    with pytest.raises(DatasetError, match="1 patients are in more than one split"):
        audit(pa.table({"patient_id": ["a", "a"], "split": ["sae", "naming"]}))


@given(st.lists(st.tuples(st.integers(0, 8), st.sampled_from("ABC")), min_size=1, max_size=40), st.text(max_size=3))
def test_who_was_ever_at_a_held_out_institution_is_tested_on_and_no_one_else(
    rows: list[tuple[int, str]], salt: str
) -> None:
    patients, institutes = [str(p) for p, _ in rows], [i for _, i in rows]
    names, shares = [f"i{n}" for n in range(len(rows))], {"sae": 0.5, "naming": 0.3, "detection": 0.2}
    made = to_manifest(Rows("d", names, patients, names, {}, {"institute": pa.array(institutes)}), shares, salt, 8)
    if "A" not in institutes:
        with pytest.raises(DatasetError, match="no image has institute 'A'"):
            hold_out(made, "institute", ["A"], shares, salt)
        return
    split = hold_out(made, "institute", ["A"], shares, salt)
    tested = {p for p, i in zip(patients, institutes, strict=True) if i == "A"}
    assert {p for p, s in zip(patients, split["split"].to_pylist(), strict=True) if s == "detection"} == tested
    assert audit(split)["patients_in_two_splits"] == 0 and split.schema == made.schema
