"""Small copies of public datasets, made up, in the exact layout of the published ones."""

import csv
import gzip
from collections.abc import Sequence
from io import StringIO
from pathlib import Path

import numpy as np
from PIL import Image

from medsae_ray.core.datasets.chexpert import LABELS as CHEXPERT
from medsae_ray.core.datasets.nih import LABELS as NIH
from tests.support.medical import dicom

VINDR = ("Aortic enlargement", "Cardiomegaly", "Pleural effusion", "Nodule/Mass", "Other diseases", "No finding")
"""Some of VinDr-CXR's 28 labels."""


def picture(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    grey = np.random.default_rng(seed).integers(0, 255, (40, 32), dtype=np.uint8)
    if path.suffix == ".dicom":
        path.write_bytes(dicom(grey, PhotometricInterpretation=f"MONOCHROME{1 + seed % 2}"))
    else:
        Image.fromarray(grey).save(path)


def csv_text(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    stream = StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerows([header, *rows])
    return stream.getvalue()


def chexpert(folder: Path, images: int = 48) -> Path:
    """CheXpert-v1.0-small/train.csv: three images a patient, the third a lateral view of a second study."""
    rng = np.random.default_rng(1)
    rows = []
    for number in range(images):
        patient, third = 1 + number // 3, number % 3 == 2
        view = "lateral" if third else "frontal"
        place = f"train/patient{patient:05d}/study{1 + third}/view{1 + number % 3 % 2}_{view}.jpg"
        picture(folder / "CheXpert-v1.0-small" / place, number)
        labels = rng.choice(["1.0", "0.0", "-1.0", ""], len(CHEXPERT))
        labels[0] = rng.choice(["1.0", ""])
        about = ["Female" if patient % 2 else "Male", 40 + patient, view.capitalize(), "" if third else "AP"]
        rows.append([f"CheXpert-v1.0-small/{place}", *about, *labels])
    table = folder / "CheXpert-v1.0-small" / "train.csv"
    table.write_text(csv_text(["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *CHEXPERT], rows))
    return table


def mimic(folder: Path, images: int = 48) -> Path:
    """The three .csv.gz files: two studies a patient, two images a study, the last study without labels."""
    rng, views = np.random.default_rng(2), ("PA", "LATERAL", "AP", "")
    metadata, split, studies = [], [], {}
    for number in range(images):
        subject, study = 10000032 + number // 4 * 1000, 50414267 + number // 2
        dicom = f"{number:08x}-00000000-11111111-22222222-33333333"
        picture(folder / f"files/p{str(subject)[:2]}/p{subject}/s{study}/{dicom}.jpg", number)
        metadata.append(
            [dicom, subject, study, "CHEST (PA AND LAT)", views[number % 4], 3056, 2544, 21800506, 213014.5]
        )
        split.append([dicom, study, subject, ("train", "validate", "test")[number // 4 % 3]])
        studies[study] = [subject, study, *rng.choice(["1.0", "0.0", "-1.0", ""], len(CHEXPERT))]
    studies.popitem()
    columns = ["dicom_id", "subject_id", "study_id", "PerformedProcedureStepDescription", "ViewPosition"]
    texts = {
        "chexpert": csv_text(["subject_id", "study_id", *sorted(CHEXPERT)], list(studies.values())),
        "metadata": csv_text([*columns, "Rows", "Columns", "StudyDate", "StudyTime"], metadata),
        "split": csv_text(["dicom_id", "study_id", "subject_id", "split"], split),
    }
    for name, text in texts.items():
        (folder / f"mimic-cxr-2.0.0-{name}.csv.gz").write_bytes(gzip.compress(text.encode()))
    return folder / "mimic-cxr-2.0.0-chexpert.csv.gz"


def nih(folder: Path, images: int = 48, archives: bool = True, old: bool = True) -> Path:
    """Data_Entry_2017.csv: two images a patient; of 2017 (`old`: 058Y, Patient Gender) or of 2020 (58, Patient Sex).

    Its header has commas within names and one at the end.
    """
    rng, lines = np.random.default_rng(3), []
    for number in range(images):
        patient, age = 1 + number // 2, 20 + number
        name = f"{patient:08d}_{number % 2:03d}.png"
        place = f"images_{1 + number % 12:03d}/images" if archives else "images"
        picture(folder / place / name, number)
        chosen = rng.choice(NIH[:-1], rng.integers(0, 3), replace=False)
        about = f"{age:03d}Y" if old else str(age)
        lines.append(
            f"{name},{'|'.join(chosen) or 'No Finding'},{number % 2},{patient},{about},{'MF'[patient % 2]},"
            f"{('PA', 'AP')[number % 2]},2682,2749,0.143,0.143,"
        )
    header = "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    header += "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],"
    text = "\n".join([header if old else header.replace("Gender", "Sex"), *lines]) + "\n"
    (folder / "Data_Entry_2017.csv").write_text(text)
    return folder / "Data_Entry_2017.csv"


def table(folder: Path, labels: Sequence[str], images: int = 48) -> Path:
    """labels.csv as a table of one's own may be: two images a patient, uncertain and blank labels."""
    rng, rows = np.random.default_rng(5), []
    for number in range(images):
        picture(folder / f"i{number:03d}.png", number)
        about = [f"p{number // 2}", ("PA", "AP")[number % 2], "MF"[number % 2], 40 + number]
        rows.append([f"i{number:03d}.png", *about, *rng.choice(["1", "0", "-1", ""], len(labels))])
    (folder / "labels.csv").write_text(csv_text(["path", "patient_id", "view", "sex", "age", *labels], rows))
    return folder / "labels.csv"


def vindr(folder: Path, images: int = 48, suffix: str = ".png") -> Path:
    """annotations/image_labels_train.csv: three readings of each image, in random order of rows, and train/."""
    rng, rows = np.random.default_rng(4), []
    for number in range(images):
        name = f"{number:032x}"
        picture(folder / "train" / f"{name}{suffix}", number)
        readers = rng.choice(17, 3, replace=False)
        rows += [[name, f"R{1 + reader}", *(rng.random(len(VINDR)) < 0.4).astype(int)] for reader in readers]
    rng.shuffle(rows)
    table = folder / "annotations" / "image_labels_train.csv"
    table.parent.mkdir()
    table.write_text(csv_text([*("image_id", "rad_id"), *VINDR], rows))
    return table
