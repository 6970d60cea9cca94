import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medsae_ray.core.artifacts.schema import SPLITS
from medsae_ray.core.datasets.rows import Rows, to_manifest
from medsae_ray.core.datasets.splits import audit, hold_out, index_images, patient_splits, uniform_hash
from medsae_ray.errors import DatasetError

SHARES = {"sae": 0.6, "naming": 0.2, "detection": 0.2}


def roles(patients: list[str], shares: dict[str, float], salt: str) -> dict[str, str]:
    return dict(zip(patients, patient_splits(patients, shares, salt), strict=True))


def by_hash_alone(patient: str, shares: dict[str, float], salt: str) -> str:
    u = uniform_hash(salt, patient)
    ends = np.cumsum([shares[name] for name in SPLITS])[:2]
    return SPLITS[int((u >= ends).sum())]


PATIENTS = st.lists(st.text(min_size=1, max_size=4), min_size=1, max_size=60)
PARTS = st.tuples(*[st.floats(0.01, 1)] * 3).map(
    lambda parts: {name: part / sum(parts) for name, part in zip(SPLITS, parts, strict=True)}
)


@given(PATIENTS, PARTS, st.text(max_size=3), st.randoms())
def test_splits_depend_on_no_order(patients: list[str], shares: dict[str, float], salt: str, rng) -> None:
    shuffled = rng.sample(patients, len(patients))
    assert roles(patients, shares, salt) == roles(shuffled, shares, salt)


@given(PATIENTS, PARTS, st.text(max_size=3))
def test_from_three_patients_on_no_split_is_empty(patients: list[str], shares: dict[str, float], salt: str) -> None:
    found = roles(patients, shares, salt)
    assert len(set(found.values())) == 3 or len(found) < 3


@given(PATIENTS, PARTS, st.text(max_size=3))
def test_the_hash_alone_decides_where_it_leaves_no_split_empty(
    patients: list[str], shares: dict[str, float], salt: str
) -> None:
    found, alone = roles(patients, shares, salt), {p: by_hash_alone(p, shares, salt) for p in patients}
    moved = [p for p in alone if found[p] != alone[p]]
    empty = 3 - len(set(alone.values()))
    assert len(moved) == (empty if len(alone) >= 3 else 0)


@given(PATIENTS, PARTS, st.text(max_size=3), st.text(min_size=5, max_size=6))
def test_another_patient_moves_few(patients: list[str], shares: dict[str, float], salt: str, another: str) -> None:
    few, more = roles(patients, shares, salt), roles([*patients, another], shares, salt)
    assert sum(few[p] != more[p] for p in few) <= 4


def test_a_split_without_a_share_stays_empty() -> None:
    shares = {"sae": 0.99, "naming": 0.01, "detection": 0.0}
    assert set(patient_splits(["a", "b", "c"], shares, "s")) == {"sae", "naming"}


def test_the_audit_says_how_many_images_one_patient_has() -> None:
    rows = [("a", "sae", 5), ("b", "naming", 1), ("c", "naming", 2), ("d", "detection", 9)]
    table = pa.table({"patient_id": [p for p, _, n in rows for _ in range(n)],
                      "split": [s for _, s, n in rows for _ in range(n)]})  # fmt: skip
    assert audit(table)["images_per_patient"] == {"median": 3.5, "most": 9, "most_in_discovery": 5}


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
