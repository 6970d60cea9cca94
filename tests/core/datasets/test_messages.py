"""What is said of tables and files that are broken: where it is, and nothing of what is in them."""

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

from medsae_ray.config import Paths, parse_recipe
from medsae_ray.core.artifacts.patience import at_most
from medsae_ray.core.artifacts.store import Store
from medsae_ray.core.datasets.labels import CHEXPERT
from medsae_ray.core.datasets.rows import to_manifest
from medsae_ray.core.images.archives import fetch
from medsae_ray.core.images.sources import Folders
from medsae_ray.errors import DatasetError, ImageError
from tests.support.medical import dicom, ramp
from tests.support.planted import NAME, marked
from tests.support.usual import reading

SHARES = {"sae": 0.6, "naming": 0.2, "detection": 0.2}
MARKS = ",".join("1" for _ in CHEXPERT)
CHEX = f"Path,Sex,Age,Frontal/Lateral,AP/PA,{','.join(CHEXPERT)}\n"
NIH = "Image Index,Finding Labels,Patient ID,Patient Age,Patient Gender,View Position\n"
VINDR = "image_id,rad_id,Cardiomegaly,No finding\n"
TABLE = {"image": "path", "patient": "who", "labels": ["Edema"]}

# kind, its settings, its table, what the message has to say of the place.
BROKEN = [
    ("table", TABLE, f"path,who,Edema\n{NAME}.png,{NAME},1\n{NAME}2.png,{NAME},{NAME}\n", "data row 2"),
    ("table", TABLE, f"path,who,Edema\n{NAME}.png,{NAME},1\n{NAME}2.png,{NAME},77777123\n", "data row 2"),
    ("table", TABLE, f"path,who,Edema\n{NAME}.png,{NAME},1\n{NAME}.png,{NAME},1\n", "images 1 and 2"),
    ("table", TABLE, f"path,who,Edema\n{NAME}.png,{NAME},1\n{NAME}.png,{NAME},1,0\n", "Expected 3 columns, got 4"),
    ("table", TABLE, f"path,who,Edema\n{NAME}.png,,1\n", "data row 1"),
    ("table", TABLE, f"{NAME}.png,{NAME},1\n{NAME}2.png,{NAME},0\n", "no column 'path'"),
    ("chexpert", {}, f"{CHEX}{NAME}/a.jpg,F,6,Frontal,AP,{MARKS}\n", "data row 1"),
    ("chexpert", {}, f"{CHEX}a/patient00001/study1/{NAME}.jpg,F,6,{NAME},AP,{MARKS}\n", "data row 1"),
    ("nih-cxr14", {}, f"{NIH}a.png,Mass,1,5,M,LL\nb.png,Mass|{NAME},2,5,M,PA\n", "data row 2"),
    ("nih-cxr14", {}, f"{NIH}a.png,Mass,1,5,M,LL\nb.png,Mass,2,{NAME},M,PA\n", "data row 2"),
    ("vindr-cxr", {}, f"{VINDR}{NAME},{NAME},{NAME},1\n", "data row 1"),
    ("vindr-cxr", {}, f"{NAME},R1,1,0\n{NAME},R2,1,0\n", "no column 'image_id'"),
    ("totalsegmentator", {}, f"{NAME};41\n{NAME}2;42\n", "no column image_id"),
    ("totalsegmentator", {}, f"image_id;age\n{NAME};41;{NAME}\n", "Expected 2 columns, got 3"),
]


@pytest.mark.parametrize(("kind", "settings", "text", "place"), BROKEN, ids=[f"{b[0]}: {b[3]}" for b in BROKEN])
def test_a_broken_table_is_named_by_row_and_column(
    tmp_path: Path, kind: str, settings: dict[str, object], text: str, place: str
) -> None:
    (tmp_path / "t.csv").write_text(text)
    paths = {"table": str(tmp_path / "t.csv"), "images": str(tmp_path), "weights": "w"}
    source = {"kind": kind, "name": "d", **settings}
    what = {"dataset": source, "encoder": {"kind": "onnx", "size": 16}}
    (dataset,) = parse_recipe({"name": "r", "what": what, "how": {"paths": paths}}).what.sources
    with pytest.raises(DatasetError) as raised:
        to_manifest(dataset.rows(Paths(**paths)), SHARES, "s", 8)
    assert place in str(raised.value) and not marked(str(raised.value))


def test_values_of_a_split_that_lacks_a_part_are_not_repeated(tmp_path: Path) -> None:
    files = {
        "table": f"subject_id,study_id,{','.join(CHEXPERT)}\n1,2,{MARKS}\n",
        "metadata": "dicom_id,subject_id,study_id,ViewPosition\na,1,2,PA\n",
        "split": f"dicom_id,study_id,subject_id,split\na,2,1,{NAME}\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_bytes(gzip.compress(text.encode()))
    paths = {name: str(tmp_path / name) for name in files}
    what = {"dataset": {"kind": "mimic-cxr-jpg", "part": "train"}, "encoder": {"kind": "onnx", "size": 16}}
    recipe = parse_recipe({"name": "r", "what": what, "how": {"paths": paths | {"weights": "w"}}})
    with pytest.raises(DatasetError, match="no 'train'") as raised:
        recipe.what.sources[0].rows(recipe.how.paths)
    assert not marked(str(raised.value))


# file, what is made there, the reason.
FILES: list[tuple[str, Callable[[Path], object], str]] = [
    (f"{NAME}.png", lambda path: None, "missing"),
    (f"{NAME}.png", lambda path: path.mkdir(), "unreadable"),
    (f"{NAME}.png", lambda path: path.write_text(NAME), "not_an_image"),
    (f"{NAME}.png", lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n" + NAME.encode() * 9 + b"IEND"), "truncated"),
    (f"{NAME}.tif", lambda path: path.write_bytes(b"II*\0" + NAME.encode() * 9), "corrupt"),
    (f"{NAME}.dcm", lambda path: path.write_bytes(dicom(ramp(), patient=NAME)[:-9]), "truncated"),
    (f"{NAME}.dcm", lambda path: path.write_bytes(dicom(ramp(), patient=NAME, Rows=0)), "empty"),
    (f"{NAME}.zip!/{NAME}.dcm", lambda path: path.parents[0].with_name(f"{NAME}.zip").write_text(NAME), "corrupt"),
    (f"{NAME}://{NAME}/a.png", lambda path: None, "unreadable"),
    (f"{NAME}\0.png", lambda path: None, "unreadable"),
]


@pytest.mark.parametrize(("name", "make", "reason"), FILES, ids=[f[2] for f in FILES])
def test_a_file_that_cannot_be_read_is_not_named(
    tmp_path: Path, name: str, make: Callable[[Path], object], reason: str
) -> None:
    make(tmp_path / name)
    with pytest.raises(ImageError) as raised:
        reading().image(Store(str(tmp_path)), name)
    assert raised.value.reason == reason and not marked(str(raised.value))


def test_a_store_that_does_not_answer_does_not_name_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in (("AWS_ACCESS_KEY_ID", "x"), ("AWS_SECRET_ACCESS_KEY", "x"), ("AWS_MAX_ATTEMPTS", "1")):
        monkeypatch.setenv(variable, value)
    place = Store("s3://bucket/images?endpoint_override=127.0.0.1:9&scheme=http&region=us-east-1")
    with at_most(1), pytest.raises(OSError, match="an image") as raised:
        fetch(Folders({"north": place}), f"north/{NAME}/{NAME} 1.png")
    assert not marked(str(raised.value)) and raised.value.__cause__ is None
