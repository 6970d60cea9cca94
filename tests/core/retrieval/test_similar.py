"""Similar images of small made runs: in many parts, beside the neighbours of one table, and without an answer."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from medsae_ray.core.artifacts.artifact import Artifact
from medsae_ray.core.retrieval.similar import Similar
from medsae_ray.metrics import neighbours
from tests.core.made import Cohort, activations_table, artifact, cohort


def artifacts(root: Path, made: Cohort, shard_rows: int = 30) -> dict[str, Artifact]:
    n, width = made.z_NM.shape
    active = ((made.z_NM > 0) & made.ok_N[:, None]).sum(0)
    atlas = {"feature": pa.array(range(width), pa.int32()), "n_images": [int(made.ok_N.sum())] * width,
             "n_active": active.tolist(), "name": [f"name {f}" for f in range(width)]}  # fmt: skip
    atlas |= {key: pa.nulls(width, pa.string()) for key in ("name_source", "definition", "verdict")}
    atlas |= {"detection_auroc": pa.nulls(width, pa.float64())}
    shards = np.split(np.arange(n), range(shard_rows, n, shard_rows))
    tables = {"manifest": [made.manifest(shard_rows)], "atlas": [pa.table(atlas)], "sae": [pa.table(atlas)]}
    tables["activations"] = [activations_table(made, rows) for rows in shards]
    return {name: artifact(root, name, parts) for name, parts in tables.items()}


def test_they_are_the_neighbours_that_share_a_feature(tmp_path: Path) -> None:
    made = cohort(images=100)
    z = np.where(made.ok_N[:, None], made.z_NM, 0)
    library = Similar(artifacts(tmp_path, made))
    asked = 0
    for row in np.flatnonzero((z > 0).sum(1) >= 2)[:10]:
        query = library.of_run(made.image_N[row])
        assert query is not None
        answer = library.ask(query, k=2, images=7)
        rows, cosines = neighbours(z, int(row), 2, made.patient_N, 7)
        kept = cosines > 0
        assert [image["image_id"] for image in answer["images"]] == [made.image_N[r] for r in rows[kept]]
        np.testing.assert_array_equal([image["similarity"] for image in answer["images"]], cosines[kept])
        features = [feature["feature"] for feature in answer["features"]]
        assert features == np.lexsort((np.arange(6), -z[row]))[:2].tolist()
        for image, found in zip(answer["images"], rows[kept], strict=True):
            known = [{"feature": f, "activation": float(z[found, f])} for f in features if z[found, f] > 0]
            assert image["features"] == known != []
        outside = library.of_activations("file.png", np.flatnonzero(z[row]).tolist(), z[row][z[row] > 0].tolist())
        elsewhere = library.ask(outside, k=2, images=1)
        assert elsewhere["image"] == "file.png" and elsewhere["images"][0]["similarity"] == pytest.approx(1)
        asked += 1
    assert asked


def test_only_patients_of_a_split(tmp_path: Path) -> None:
    made = cohort(images=100)
    library = Similar(artifacts(tmp_path, made))
    query = library.of_run(made.image_N[int(np.flatnonzero(made.ok_N & (made.z_NM[:, 0] > 0))[0])])
    assert query is not None
    answer = library.ask(query, k=1, split="detection")
    assert answer["images"] and {image["split"] for image in answer["images"]} == {"detection"}


def test_what_has_no_answer_says_why(tmp_path: Path) -> None:
    z = np.array([[1, 0, 2], [1, 0, 0], [1, 3, 0]], dtype=np.float32)
    made = Cohort(np.array(["a", "b", "c"]), np.zeros((3, 1)), np.zeros((3, 1), np.float32), z, np.ones(3, dtype=bool))
    library = Similar(artifacts(tmp_path, made))
    assert library.of_run("no such image") is None
    said = []
    for image, k in (("i00000", 1), ("i00001", 1)):
        query = library.of_run(image)
        assert query is not None
        answer = library.ask(query, k)
        assert answer["images"] == []
        said.append(str(answer["reason"]))
    assert "no image of another patient shares" in said[0]
    assert "no active feature" in said[1]
