"""Queries to small made runs whose answers can be written down."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from medsae_ray.core.artifacts import schema
from medsae_ray.core.artifacts.artifact import Artifact
from medsae_ray.core.naming import verdict
from medsae_ray.core.naming.alignment import Space
from medsae_ray.core.naming.vocabulary import unit
from medsae_ray.core.retrieval.name_texts import name_texts
from medsae_ray.core.retrieval.query import Library, TextSide
from tests.core.made import Cohort, activations_table, artifact

PATIENTS = ["p0", "p0", "p1", "p2", "p3", "p4"]
Z_NM = np.array(
    [[4.0, 0, 0, 0], [2.0, 2.0, 0, 0], [3.0, 0, 0, 0], [1.0, 2.0, 0, 0], [0, 1.0, 8.0, 0], [0, 0, 4.0, 0]],
    dtype=np.float32,
)


def cohort(ok: np.ndarray | None = None) -> Cohort:
    n = len(PATIENTS)
    readable = np.ones(n, dtype=bool) if ok is None else ok
    return Cohort(np.array(PATIENTS), np.zeros((n, 1)), np.zeros((n, 2), np.float32), Z_NM, readable)


def names(*rows: tuple[int, str, str, str | None]) -> pa.Table:
    keys = ("feature", "source", "name", "definition")
    base = {"status": "named", "alternatives": [], "attempts": 1, "evidence": ""}
    return pa.Table.from_pylist([base | dict(zip(keys, row, strict=True)) for row in rows], schema=schema.names())


def atlas() -> pa.Table:
    """Only what a library reads."""
    texts = {"name": ["fluid", "heart", "tube", "dead fluid"], "name_source": ["vlm"] * 4, "verdict": ["verified"] * 4}
    nothing = {"definition": pa.nulls(4, pa.string()), "detection_auroc": pa.nulls(4, pa.float64())}
    return pa.table({"feature": pa.array(range(4), pa.int32()), "n_active": [4, 3, 2, 0]} | texts | nothing)


def artifacts(root: Path, ok: np.ndarray | None = None) -> dict[str, Artifact]:
    made = cohort(ok)
    written = names((0, "vlm", "effusion", "fluid below"), (1, "vlm", "large heart", None), (2, "label", "tube", None),
                    (3, "label", "effusion effusion", None))  # fmt: skip
    tables = {"manifest": made.manifest(100), "activations": activations_table(made, np.arange(len(PATIENTS)))}
    tables |= {"atlas": atlas(), "names": written, "label_names": written.slice(0, 0), "sae": written}
    return {name: artifact(root, name, [table]) for name, table in tables.items()}


def test_a_name_finds_its_feature_and_the_strongest_image_of_each_patient(tmp_path: Path) -> None:
    answer = Library(artifacts(tmp_path)).ask("Effusions?")
    assert answer["way"] == "names" and [row["feature"] for row in answer["features"]] == [0]
    assert answer["features"][0]["name"] == "fluid" and answer["features"][0]["p"] is None
    shown = [(row["image_id"], row["score"]) for row in answer["images"]]
    assert shown == [("i00000", 1.0), ("i00002", 0.75), ("i00003", 0.25)]
    assert answer["images"][1]["features"] == [{"feature": 0, "activation": 3.0}]


def test_a_feature_of_absence_is_found_by_its_name_and_by_no_other(tmp_path: Path) -> None:
    found = artifacts(tmp_path)
    found["label_names"] = artifact(tmp_path, "label_names", [names((2, "label", "no effusion", None))])
    library = Library(found)
    assert [row["feature"] for row in library.ask("no effusion")["features"]] == [2]
    assert [row["feature"] for row in library.ask("effusion")["features"]] == [0]


def test_the_absence_of_something_else_is_not_wanted(tmp_path: Path) -> None:
    found = artifacts(tmp_path)
    found["names"] = artifact(tmp_path, "names", [names((0, "vlm", "lung lesion", None), (1, "vlm", "heart", None))])
    found["label_names"] = artifact(tmp_path, "label_names", [names((2, "label", "no lung opacity", None))])
    answer = Library(found).ask("heart, no lung lesion")
    assert [row["feature"] for row in answer["features"]] == [1] and answer["excluded"][0]["feature"] == 0


def test_words_that_negate_leave_images_out(tmp_path: Path) -> None:
    library = Library(artifacts(tmp_path))
    for query in (
        "heart without effusion",
        "heart, no effusion",
        "heart free of effusions",
        "absence of effusion, heart",
        "heart with no effusion",
    ):
        answer = library.ask(query)
        assert [row["feature"] for row in answer["features"]] == [1] and answer["excluded"][0]["feature"] == 0
        assert [row["image_id"] for row in answer["images"]] == ["i00004"], query
    only = library.ask("no large heart")
    assert only["features"] == [] and {row["image_id"] for row in only["images"]} == {"i00000", "i00002", "i00005"}
    assert {row["score"] for row in only["images"]} == {0.0}
    shown = [row["image_id"] for row in library.ask("no large heart", images=2)["images"]]
    assert shown == [row["image_id"] for row in only["images"]][:2]


def test_a_negation_that_cannot_be_followed_is_refused(tmp_path: Path) -> None:
    library = Library(artifacts(tmp_path))
    for query, why in (
        ("heart, no scoliosis", "no feature stands for 'scoliosis'"),
        ("not without effusion", "negat"),
        ("normal heart, no effusion", "no name says 'normal'"),
    ):
        answer = library.ask(query)
        assert why in str(answer["refused"]) and answer["images"] == [] == answer["features"]


def test_an_unreadable_image_is_no_image_without_something(tmp_path: Path) -> None:
    found = Library(artifacts(tmp_path, np.array([True, True, True, True, True, False]))).ask("no large heart")
    assert {row["image_id"] for row in found["images"]} == {"i00000", "i00002"}


def test_several_features_are_weighed_by_how_well_they_match(tmp_path: Path) -> None:
    library = Library(artifacts(tmp_path))
    answer = library.ask("fluid and a heart", images=3)
    weight = {row["feature"]: row["score"] for row in answer["features"]}
    share = weight[0] / (weight[0] + weight[1])
    wanted = {row: Z_NM[row, 0] / 4 * share + Z_NM[row, 1] / 2 * (1 - share) for row in range(6)}
    best = sorted((1, 2, 3, 4), key=lambda row: -wanted[row])[:3]
    assert [row["image_id"] for row in answer["images"]] == [f"i{row:05d}" for row in best]
    assert [row["score"] for row in answer["images"]] == pytest.approx([wanted[row] for row in best])
    assert [row["feature"] for row in library.ask("fluid and a heart", features=1)["features"]] == [
        max(weight, key=lambda f: weight[f])
    ]


def test_what_no_name_says_finds_nothing(tmp_path: Path) -> None:
    answer = Library(artifacts(tmp_path)).ask("scoliosis")
    assert answer["features"] == answer["images"] == []


def test_images_may_be_of_some_patients_only_and_must_be_readable(tmp_path: Path) -> None:
    ok = np.array([True, True, False, True, True, True])
    found = artifacts(tmp_path, ok)
    library, table = Library(found), found["manifest"].table()
    assert "i00002" not in {row["image_id"] for row in library.ask("effusion")["images"]}
    splits = dict(zip(table["image_id"].to_pylist(), table["split"].to_pylist(), strict=True))
    for split in ("sae", "naming", "detection"):
        rows = library.ask("effusion", split=split)["images"]
        wanted = {i for i in ("i00000", "i00003") if splits[i] == split}
        assert {row["image_id"] for row in rows} == wanted and {row["split"] for row in rows} <= {split}


def scores(*rows: tuple[int, str, str]) -> pa.Table:
    base: dict[str, Any] = {"n_pos": 0, "n_neg": 0, "failed": 0, "low_mass": 0, "shortcut_suspected": False}
    keys = ("feature", "source", "verdict")
    return pa.Table.from_pylist([base | dict(zip(keys, row, strict=True)) for row in rows], schema=verdict.scores())


def test_what_has_only_rejected_names_cannot_be_excluded(tmp_path: Path) -> None:
    """The names do not tell which images have it, so an answer might show what the query excludes."""
    found = artifacts(tmp_path)
    rejected = found | {"scores": artifact(tmp_path, "scores", [scores((0, "vlm", "rejected"))])}
    answer = Library(rejected).ask("heart, no effusion")
    assert answer["refused"] == "the test rejected the names for 'effusion', so it cannot be excluded"
    assert answer["images"] == [] and Library(rejected).ask("effusion")["images"], "it may be wanted"
    heart = found | {"scores": artifact(tmp_path / "heart", "scores", [scores((1, "vlm", "rejected"))])}
    large = heart | {"label_names": artifact(tmp_path / "large", "label_names", [names((2, "label", "large", None))])}
    assert "'large heart'" in str(Library(large).ask("effusion, no large heart")["refused"]), "no other says all of it"
    also = rejected | {"label_names": artifact(tmp_path / "also", "label_names", [names((0, "label", "fluid", None))])}
    assert Library(also).ask("heart, no fluid")["excluded"][0]["feature"] == 0, "another of its names is not rejected"
    absent = rejected | {"label_names": artifact(tmp_path, "label_names", [names((2, "label", "no effusion", None))])}
    assert [row["feature"] for row in Library(absent).ask("no effusion")["features"]] == [2]


def test_a_rejected_name_counts_only_where_there_is_no_other(tmp_path: Path) -> None:
    tables = {
        "names": names((0, "vlm", "edema", "haze"), (1, "vlm", "mass", None)),
        "label_names": names((0, "label", "fracture", None)),
        "scores": scores((0, "vlm", "rejected"), (0, "label", "verified"), (1, "vlm", "rejected")),
    }
    stored = {name: artifact(tmp_path, name, [table]) for name, table in tables.items()}
    assert {key: text.split() for key, text in name_texts(stored).whole.items()} == {0: ["fracture"], 1: ["mass"]}
    del stored["scores"]
    assert name_texts(stored).whole[0].split() == ["edema", "haze", "fracture"]


class Axes:
    """A text half that knows one word for each axis."""

    def encode(self, texts: list[str], *, batch_size: int = 64) -> np.ndarray:
        return unit(np.array([[text.count("x"), text.count("y"), 1.0] for text in texts])).astype(np.float32)


def test_with_a_text_half_features_come_by_their_cosine_and_its_p(tmp_path: Path) -> None:
    direction_FD = unit(np.array([[1.0, 0.2, 0], [0, 1, 0], [-1, 0, 0], [1, 0, 0]]))
    space = Space(np.zeros(3), direction_FD)
    null_KD = unit(np.random.default_rng(0).normal(size=(99, 3)))
    library = Library(artifacts(tmp_path), TextSide(Axes(), ["{}", "{}!"], space, null_KD))
    answer = library.ask("xxx")
    query_D = Axes().encode(["xxx"])[0]
    cosine_F = direction_FD @ query_D
    assert answer["way"] == "text half" and [row["feature"] for row in answer["features"]] == [
        0
    ]  # 3 is dead, 2 opposite
    assert answer["features"][0]["score"] == pytest.approx(cosine_F[0])
    assert answer["features"][0]["p"] == pytest.approx((1 + (null_KD @ query_D >= cosine_F[0]).sum()) / 100)
    assert [row["image_id"] for row in answer["images"]] == ["i00000", "i00002", "i00003"]
