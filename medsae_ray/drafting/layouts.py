"""The public datasets known by their files: CheXpert, MIMIC-CXR, NIH ChestX-ray14, VinDr-CXR, TotalSegmentator."""

import re

from medsae_ray.core.artifacts.store import Store
from medsae_ray.core.datasets.columns import file_data, read_table
from medsae_ray.core.datasets.organs import VOLUMES
from medsae_ray.drafting.lines import Found, guessed, value
from medsae_ray.errors import DatasetError

_NIH = re.compile(r"Data_Entry_2017.*\.csv")
_VINDR = re.compile(r"image_labels_(train|test)\.csv")
_MIMIC = re.compile(r"(mimic-cxr-2\.\d+\.\d+)-(chexpert|negbio)\.csv(\.gz)?")
_CHEXPERT = re.compile(r"(train|valid)\.csv")
_POLICIES = [
    "uncertain: ignore    # -1: ignore leaves these images out of a label's statistics, zero or one counts them",
    "blank: zero    # chosen: a finding that the report does not mention counts as absent; ignore leaves the image out",
]
_SCANS = 20
"""The folders that are searched for volumes."""


def known_layout(place: Store, name: str | None) -> Found | None:
    """Return the known dataset of the file `name`, or of the folder `place`; None if it is unknown.

    Raises DatasetError if one of its files is missing.
    """
    if name is not None:
        return _of_file(place, name)
    for folder in (place, *(place.child(inner) for inner in place.folders() if _may_hold(inner))):
        names = sorted(folder.names(), key=lambda one: ("chexpert" not in one, "train" not in one, one))
        if found := next((known for one in names if (known := _of_file(folder, one))), None):
            return found
    return _totalsegmentator(place)


def _may_hold(folder: str) -> bool:
    """Return True for folders within a download that hold its tables."""
    return folder == "annotations" or folder.startswith("CheXpert-v1.0")


def _of_file(folder: Store, name: str) -> Found | None:
    where = folder.address(name)
    if _NIH.fullmatch(name):
        return Found("NIH ChestX-ray14", ["kind: nih-cxr14"], [f"table: {value(where)}"])
    if found := _MIMIC.fullmatch(name):
        return _mimic(folder, name, found[1])
    if found := _VINDR.fullmatch(name):
        return _vindr(folder, where, found[1])
    if _CHEXPERT.fullmatch(name) and {"Path", "Frontal/Lateral"} <= set(_header(where)):
        return Found("CheXpert", ["kind: chexpert", *_views(), *_POLICIES], [f"table: {value(where)}"])
    return None


def _header(where: str) -> list[str]:
    names: list[str] = read_table(file_data(where, "table"), where).column_names
    return names


def _views() -> list[str]:
    return ["views: frontal    # chosen, as in the MedSAE paper; or lateral, or all"]


def _mimic(folder: Store, name: str, version: str) -> Found:
    names = folder.names()
    files = {key: [one for one in names if one.startswith(f"{version}-{key}.csv")] for key in ("metadata", "split")}
    if not files["metadata"]:
        raise DatasetError(f"{folder.uri} has {name} and no {version}-metadata.csv.gz, which describes its images")
    given = {"table": [name], **files}
    paths = [f"{key}: {value(folder.address(found[0]))}" for key, found in given.items() if found]
    return Found("MIMIC-CXR-JPG", ["kind: mimic-cxr-jpg", *_views(), *_POLICIES], paths)


def _vindr(folder: Store, where: str, part: str) -> Found:
    above = Store(folder.uri.rstrip("/").rpartition("/")[0])
    places = [place.child(part) for place in (folder, above) if part in place.folders()]
    images = places[0] if places else above.child(part)
    ends = sorted({"." + name.rpartition(".")[2] for name in images.names() if "." in name})
    found = "the ending of its files" if ends else "the published files end so; none was found"
    suffix = guessed(f"suffix: {value(next(iter(ends), '.dicom'))}", found)
    lines = ["kind: vindr-cxr", "votes: majority    # chosen: more than half of an image's readers; or any", suffix]
    lines.append("# The dataset names no patients: each image counts as a patient of its own.")
    place = f"images: {value(images.uri)}"
    why = "there is no such folder; name the one with the images"
    return Found("VinDr-CXR", lines, [f"table: {value(where)}", place if places else guessed(place, why)])


def _totalsegmentator(place: Store) -> Found | None:
    if not place.exists("meta.csv"):
        return None
    scans = place.folders()[:_SCANS]
    if not any(place.exists(f"{scan}/{volume}") for scan in scans for volume in VOLUMES):
        return None
    lines = [
        "kind: totalsegmentator",
        "planes: [axial, coronal, sagittal]",
        "every: 1    # take each slice; 4 takes a quarter",
    ]
    return Found("TotalSegmentator", lines, [f"images: {value(place.uri)}"])
