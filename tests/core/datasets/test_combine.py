from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from medsae_ray.core.artifacts.store import Store
from medsae_ray.core.datasets.combine import combine
from medsae_ray.core.datasets.rows import Rows, label_matrix, to_manifest
from medsae_ray.core.images.sources import Folders
from medsae_ray.errors import DatasetError

SHARES = {"sae": 0.4, "naming": 0.3, "detection": 0.3}
MAPPED = {"Effusion": {"a": "Pleural Effusion", "b": "Effusion"}}


def dataset(name: str, labels: dict[str, list[int | None]], **more: object) -> Rows:
    n = len(next(iter(labels.values())))
    columns = {label: pa.array(values, pa.int8()) for label, values in labels.items()}
    images = [f"i{number}.png" for number in range(n)]
    return Rows(
        name, images, [f"p{number}" for number in range(n)], images, columns, {"sex": pa.array(["F"] * n)}, **more
    )


A = dataset("a", {"Pleural Effusion": [1, 0], "Edema": [1, None]}, study_id=["s1", "s2"])
B = dataset("b", {"Effusion": [0, -1, 1], "Edema": [0, 1, 1]}, patients_known=False)


def test_images_and_patients_of_two_datasets_are_never_the_same() -> None:
    rows = combine([A, B], MAPPED)
    assert rows.image_id == ["a/i0.png", "a/i1.png", "b/i0.png", "b/i1.png", "b/i2.png"]
    assert rows.patient_id[0] == "a/p0" and rows.patient_id[2] == "b/p0"
    assert rows.study_id == ["a/s1", "a/s2", None, None, None] and not rows.patients_known
    manifest = to_manifest(rows, SHARES, "s", 2)
    assert manifest["dataset"].to_pylist() == manifest["m_dataset"].to_pylist() == ["a"] * 2 + ["b"] * 3


def test_labels_meet_where_the_recipe_says_so_and_nowhere_else() -> None:
    labels = {name: values.to_pylist() for name, values in combine([A, B], MAPPED).labels.items()}
    assert labels == {
        "Effusion": [1, 0, 0, -1, 1],
        "a/Edema": [1, None, None, None, None],
        "b/Edema": [None, None, 0, 1, 1],
    }


def test_a_label_that_a_dataset_does_not_have_is_refused() -> None:
    with pytest.raises(DatasetError, match=r"dataset b has no label 'Effusions'; did you mean 'Effusion'\?"):
        combine([A, B], {"Effusion": {"b": "Effusions"}})


def test_two_labels_or_columns_never_share_a_name() -> None:
    with pytest.raises(DatasetError, match="'b/Edema' is the name of a label that stays apart"):
        combine([A, B], {"b/Edema": {"a": "Edema"}})
    other = replace(B, metadata={"dataset": B.metadata["sex"]})
    with pytest.raises(DatasetError, match="metadata column 'dataset'"):
        combine([A, other], MAPPED)


def test_each_dataset_has_its_own_policy_and_blanks_are_those_of_what_it_annotates() -> None:
    manifest = to_manifest(combine([A, B], MAPPED), SHARES, "s", 2)
    y_NL = label_matrix(manifest, {"a": "ignore", "b": "one"}, {"a": "zero", "b": "zero"})
    nan = np.nan
    expected = [[1, 1, nan], [0, 0, nan], [0, nan, 0], [1, nan, 1], [1, nan, 1]]
    np.testing.assert_equal(y_NL, expected)


def test_uris_start_at_the_folder_of_their_dataset(tmp_path: Path) -> None:
    for name in "ab":
        Store(str(tmp_path / name)).write("i0.png", name.encode())
    away = dataset("b", {"Effusion": [1, 1, 1]})
    away.uri[0] = str(tmp_path / "a" / "i0.png")
    rows = combine([A, away], {})
    folders = Folders({name: Store(str(tmp_path / name)) for name in "ab"})
    for uri in (rows.uri[0], rows.uri[2]):
        with folders.open_uri(uri) as stream:
            assert stream.read() == b"a"
    assert rows.uri[3] == "b/i1.png" and folders.is_local
    with pytest.raises(FileNotFoundError):
        folders.open_uri(rows.uri[3])
