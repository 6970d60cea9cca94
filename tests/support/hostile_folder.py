"""Three datasets full of hostile files, and what each of them must count as.

`dicom/` is a folder for the kind `dicom`, `images/` with table.csv one for `table`, `volumes/` one for
`totalsegmentator`. Each has one good file, so that a manifest can be made.
"""

import os
from collections import Counter
from pathlib import Path

import numpy as np

from tests.support.hostile_files import DICOM_FILES, GOOD, IMAGE_FILES, VOLUME_FILES, Maker, picture
from tests.support.medical import nifti


def hostile_folder(root: Path, count: int, seed: int) -> dict[str, Counter[str]]:
    """Makes about `count` files; gives for each of the three datasets what must be counted, `good` rows among it."""
    share = count // 5
    return {
        "dicom": _dicom(root / "dicom", 3 * share, seed),
        "images": _images(root / "images", share, seed),
        "volumes": _volumes(root / "volumes", share, seed),
    }


def _dicom(folder: Path, count: int, seed: int) -> Counter[str]:
    maker, expected = Maker(folder, seed), Counter({GOOD: 1, "link_loop": 2, "missing": 1, "not_a_file": 1})
    folder.mkdir(parents=True)
    (folder / "good.dcm").write_bytes(maker.small())
    (folder / "loop").symlink_to(folder)
    (folder / "self").symlink_to(folder / "self")
    (folder / "gone.dcm").symlink_to(folder / "nowhere")
    os.mkfifo(folder / "pipe.dcm")
    for number in range(count - 4):
        name, make, reason = DICOM_FILES[number % len(DICOM_FILES)]
        place = folder / f"{number % 7}" / f"{number:04d}-{name}"
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(make(maker))
        expected[reason] += 1
    return expected


def _images(folder: Path, count: int, seed: int) -> Counter[str]:
    maker, expected = Maker(folder, seed), Counter({GOOD: 1, "unreadable": 4, "missing": 2})
    folder.mkdir(parents=True)
    (folder / "good.png").write_bytes(picture(maker, "PNG"))
    (folder / "self.png").symlink_to(folder / "self.png")
    (folder / "zero.png").symlink_to("/dev/zero")
    (folder / "folder.png").mkdir()
    (folder / "broken.png").symlink_to(folder / "nowhere")
    os.mkfifo(folder / "pipe.png")
    names = ["good.png", "self.png", "zero.png", "folder.png", "broken.png", "pipe.png", "../../nowhere/up.png"]
    for number in range(count - 6):
        name, make, reason = IMAGE_FILES[number % len(IMAGE_FILES)]
        names.append(f"{number:04d}-{name}")
        (folder / names[-1]).write_bytes(make(maker))
        expected[reason] += 1
    lines = [f"{name},p{number},{number % 2}" for number, name in enumerate(names)]
    (folder / "table.csv").write_text("\n".join(["path,patient,label", *lines]))
    return expected


def _volumes(folder: Path, count: int, seed: int) -> Counter[str]:
    maker, expected = Maker(folder, seed), Counter({GOOD: 9, "mask truncated": 1, "mask mask_of_other_size": 1})
    lines = ["image_id;age;gender;institute;study_type", "s0000;50;f;A;ct thorax"]
    masks = folder / "s0000" / "segmentations"
    masks.mkdir(parents=True)
    (folder / "s0000" / "ct.nii.gz").write_bytes(nifti(np.ones((3, 3, 3), np.int16)))
    (masks / "liver.nii.gz").write_bytes(nifti(np.ones((3, 3, 3), np.uint8)))
    (masks / "spleen.nii.gz").write_bytes(nifti(np.ones((2, 3, 3), np.uint8)))
    (masks / "heart.nii.gz").write_bytes(nifti(np.ones((3, 3, 3), np.uint8))[:-20])
    for number in range(count - 2):
        _, make, reasons = VOLUME_FILES[number % len(VOLUME_FILES)]
        place = folder / f"s{number + 1:04d}"
        place.mkdir()
        (place / "ct.nii.gz").write_bytes(make(maker))
        lines.append(f"{place.name};50;f;A;ct thorax")
        expected.update(reasons)
    (folder / "meta.csv").write_text("\n".join(lines))
    return expected
