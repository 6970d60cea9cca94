"""Roles of patients by a salted hash, so that a patient's role depends on nothing but the patient and the salt.

If the hash leaves a role empty, as it may with few patients, the nearest patients by hash fill it.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
import pyarrow as pa

from medsae_ray.core.artifacts.metrics import Audit, PatientSizes, SplitCounts
from medsae_ray.core.artifacts.schema import SPLITS
from medsae_ray.errors import DatasetError


def uniform_hash(salt: str, key: str) -> float:
    """Compute a number in [0, 1) from 53 bits of BLAKE2b(salt, key)."""
    digest = hashlib.blake2b(f"{salt}\0{key}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / 2**53


def patient_splits(patients: Sequence[str], shares: Mapping[str, float], salt: str) -> list[str]:
    """Return the split of each row's patient. `shares` (split -> share of the patients) add up to 1.

    No split with a share is empty if there are as many patients as such splits: see `_fill`.
    """
    edges = np.cumsum([shares[name] for name in SPLITS])
    drawn = {patient: uniform_hash(salt, patient) for patient in set(patients)}
    last = len(SPLITS) - 1
    role = {p: SPLITS[min(int(np.searchsorted(edges, u, side="right")), last)] for p, u in drawn.items()}
    ends = {name: (float(end - shares[name]), float(end)) for name, end in zip(SPLITS, edges, strict=True)}
    _fill(role, drawn, {name: ends[name] for name in SPLITS if shares[name] > 0})
    return [role[patient] for patient in patients]


def _fill(role: dict[str, str], drawn: Mapping[str, float], ends: Mapping[str, tuple[float, float]]) -> None:
    """Give each empty split the patient whose hash is nearest to its part of [0, 1), from a split that has another.

    The order of the rows does not matter, and a split that the hash filled keeps all patients except those that an
    empty one needs: one more patient changes the roles of at most four others, and of none once the hash fills every
    split.
    """
    if len(role) < len(ends):
        return
    for name, (low, high) in ends.items():
        sizes = Counter(role.values())
        if not sizes[name]:
            spare = (patient for patient, split in role.items() if sizes[split] > 1)
            role[min(spare, key=lambda p: (max(low - drawn[p], drawn[p] - high), p))] = name


def hold_out(
    manifest: pa.Table, column: str, values: Sequence[str], shares: Mapping[str, float], salt: str
) -> pa.Table:
    """Return `manifest` with the patients of the given values, such as some institutions, as its split `detection`, and
    no others.

    All images of a patient follow the first one that has such a value. The others are divided in the ratio of sae to
    naming. Raises DatasetError for a missing column, or for a value that no patient has.
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
    others = sorted(set(patients.to_pylist()) - tested)
    role = dict(
        zip(others, patient_splits(others, {"sae": rest, "naming": 1 - rest, "detection": 0.0}, salt), strict=True)
    )
    split = [role.get(name, "detection") for name in patients.to_pylist()]
    at = manifest.column_names.index("split")
    return manifest.set_column(at, manifest.schema.field("split"), pa.array(split))


def index_images(images: Sequence[str], patients: Sequence[str], salt: str) -> list[bool]:
    """Return True for exactly one image of each patient (the one with the smallest hash).

    Intervals and null distributions assume independent rows, and several images of one patient are not independent.
    """
    smallest: dict[str, tuple[float, int]] = {}
    for row, (image, patient) in enumerate(zip(images, patients, strict=True)):
        candidate = (uniform_hash(salt, image), row)
        smallest[patient] = min(candidate, smallest.get(patient, candidate))
    chosen = {row for _, row in smallest.values()}
    return [row in chosen for row in range(len(images))]


def audit(manifest: pa.Table) -> Audit:
    """Count rows per split, and prove that no patient is in two. Raises DatasetError if one is.

    `overlap` has the number of patients that each two splits share. `images_per_patient` shows the weight that one
    patient can have: the median and maximum, and the maximum among patients of `sae` and `naming`, which correlations
    are computed on.
    """
    pairs = manifest.select(["patient_id", "split"]).group_by(["patient_id", "split"]).aggregate([])
    patients = pairs.group_by("patient_id").aggregate([([], "count_all")])
    shared = patients.filter(pa.compute.greater(patients["count_all"], 1)).num_rows
    if shared:
        raise DatasetError(f"{shared} patients are in more than one split")
    splits = manifest["split"].to_numpy(zero_copy_only=False)
    of_patients = pairs["split"].to_numpy(zero_copy_only=False)
    per_split = {
        s: SplitCounts(images=int((splits == s).sum()), patients=int((of_patients == s).sum())) for s in SPLITS
    }
    members = {s: set(pairs.filter(pa.array(of_patients == s))["patient_id"].to_pylist()) for s in SPLITS}
    overlap = {f"{a} and {b}": len(members[a] & members[b]) for a, b in combinations(SPLITS, 2)}
    return {
        "patients": patients.num_rows,
        "patients_in_two_splits": shared,
        "splits": per_split,
        "overlap": overlap,
        "images_per_patient": _sizes(manifest.select(["patient_id", "split"])),
    }


def _sizes(rows: pa.Table) -> PatientSizes:
    """Return the numbers of images per patient."""
    counts = rows.group_by(["patient_id", "split"]).aggregate([([], "count_all")])
    sizes = counts["count_all"].to_numpy()
    discovery = sizes[counts["split"].to_numpy(zero_copy_only=False) != SPLITS[-1]]
    return {
        "median": float(np.median(sizes)) if len(sizes) else 0.0,
        "most": int(sizes.max(initial=0)),
        "most_in_discovery": int(discovery.max(initial=0)),
    }
