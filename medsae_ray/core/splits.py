"""Roles of patients: a salted hash decides, so a patient's role depends on nothing but the patient and the salt."""

import hashlib
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pyarrow as pa

from medsae_ray.core.schema import SPLITS
from medsae_ray.errors import DatasetError


def uniform_hash(salt: str, key: str) -> float:
    """A number in [0, 1) from 53 bits of BLAKE2b(salt, key)."""
    digest = hashlib.blake2b(f"{salt}\0{key}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / 2**53


def patient_splits(patients: Sequence[str], shares: Mapping[str, float], salt: str) -> list[str]:
    """The split of each row's patient. `shares` (split -> share of the patients) add up to 1."""
    edges = np.cumsum([shares[name] for name in SPLITS])
    drawn = {patient: uniform_hash(salt, patient) for patient in set(patients)}
    last = len(SPLITS) - 1
    role = {p: SPLITS[min(int(np.searchsorted(edges, u, side="right")), last)] for p, u in drawn.items()}
    return [role[patient] for patient in patients]


def hold_out(
    manifest: pa.Table, column: str, values: Sequence[str], shares: Mapping[str, float], salt: str
) -> pa.Table:
    """`manifest` with the patients of some institutions, say, as its split `detection`, and no others.

    Every image of a patient goes with the first of them that has such a value. The others are shared out as sae is to
    naming. Raises DatasetError for a column that is not there, or a value that no patient has.
    """
    if f"m_{column}" not in manifest.column_names:
        known = ", ".join(name[2:] for name in manifest.column_names if name.startswith("m_"))
        raise DatasetError(f"what.split.held_out_by is {column!r}; the dataset's metadata are {known or 'none'}")
    found = manifest[f"m_{column}"]
    if missing := sorted(set(values) - set(found.unique().to_pylist())):
        raise DatasetError(f"what.split.held_out: no image has {column} {', '.join(map(repr, missing))}")
    patients = manifest["patient_id"]
    tested = set(patients.filter(pa.compute.is_in(found, value_set=pa.array(values))).to_pylist())
    rest = shares["sae"] / (shares["sae"] + shares["naming"])
    names = patients.to_pylist()
    others = patient_splits(names, {"sae": rest, "naming": 1 - rest, "detection": 0.0}, salt)
    split = ["detection" if name in tested else other for name, other in zip(names, others, strict=True)]
    at = manifest.column_names.index("split")
    return manifest.set_column(at, manifest.schema.field("split"), pa.array(split))


def index_images(images: Sequence[str], patients: Sequence[str], salt: str) -> list[bool]:
    """True for exactly one image of each patient (the one with the smallest hash).

    Intervals and null distributions assume independent rows, which several images of one patient are not.
    """
    smallest: dict[str, tuple[float, int]] = {}
    for row, (image, patient) in enumerate(zip(images, patients, strict=True)):
        candidate = (uniform_hash(salt, image), row)
        smallest[patient] = min(candidate, smallest.get(patient, candidate))
    chosen = {row for _, row in smallest.values()}
    return [row in chosen for row in range(len(images))]


def audit(manifest: pa.Table) -> dict[str, Any]:
    """Counts per split, and proof that no patient is in two. Raises DatasetError if one is.

    `overlap` has the number of patients that each two splits share.
    """
    pairs = manifest.select(["patient_id", "split"]).group_by(["patient_id", "split"]).aggregate([])
    patients = pairs.group_by("patient_id").aggregate([([], "count_all")])
    shared = patients.filter(pa.compute.greater(patients["count_all"], 1)).num_rows
    if shared:
        raise DatasetError(f"{shared} patients are in more than one split")
    splits = manifest["split"].to_numpy(zero_copy_only=False)
    of_patients = pairs["split"].to_numpy(zero_copy_only=False)
    per_split = {s: {"images": int((splits == s).sum()), "patients": int((of_patients == s).sum())} for s in SPLITS}
    members = {s: set(pairs.filter(pa.array(of_patients == s))["patient_id"].to_pylist()) for s in SPLITS}
    overlap = {f"{a} and {b}": len(members[a] & members[b]) for a, b in combinations(SPLITS, 2)}
    return {"patients": patients.num_rows, "patients_in_two_splits": shared, "splits": per_split, "overlap": overlap}
