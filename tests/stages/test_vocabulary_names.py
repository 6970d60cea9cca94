"""A run whose encoder has a text half: a small MedCLIP with random weights."""

import copy
import io
import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from medsae_ray import load_sae, open_artifact, query
from medsae_ray.config import parse_recipe
from medsae_ray.core.artifacts.artifact import Artifact
from medsae_ray.core.encoders.hub import snapshot
from medsae_ray.core.naming.vocabulary import embed_terms, unit
from medsae_ray.errors import EncoderError, RecipeError
from medsae_ray.finished import open_run
from medsae_ray.outputs.console import vocabulary_line
from medsae_ray.pipeline import run_recipe, run_stage
from medsae_ray.stages.vocabulary_names import text_half
from tests.core.encoders.small_hub import hub
from tests.core.small_medclip import DIM, TEMPLATES, TERMS, SmallMedclip, small_medclip
from tests.support.small import recipe_data, table_dataset


class Small(NamedTuple):
    data: dict[str, Any]
    root: Path
    medclip: SmallMedclip
    summary: dict[str, Any]

    def artifact(self, stage: str) -> Artifact:
        (folder,) = self.root.glob(f"{stage}-*")
        return open_artifact(folder)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Small:
    folder = tmp_path_factory.mktemp("vocabulary")
    medclip = small_medclip(folder / "medclip")
    data = recipe_data(table_dataset(folder / "data", 60), medclip.weights, engine="loop")
    data["what"]["encoder"] = {"kind": "medclip-vit"}
    data["what"]["vocabulary"] = {"terms": TERMS, "templates": TEMPLATES, "draws": 500, "q": 0.999}
    data["how"]["paths"]["tokenizer"] = str(medclip.tokenizer)
    return Small(data, folder / "root", medclip, run_recipe(parse_recipe(data), str(folder / "root")))


def changed(small: Small, **vocabulary: Any) -> dict[str, Any]:
    data = copy.deepcopy(small.data)
    data["what"]["vocabulary"] |= vocabulary
    return data


def test_every_feature_has_a_row_with_its_nearest_term_or_a_reason(small: Small) -> None:
    rows = small.artifact("vocabulary_names").table().to_pylist()
    assert [row["feature"] for row in rows] == list(range(24)) and {row["source"] for row in rows} == {"vocabulary"}
    named = [row for row in rows if row["status"] == "named"]
    assert small.summary["vocabulary_names"] == {"terms": 32, "named": len(named), "abstained": 24 - len(named)}
    away_VD = unit(text_embeddings(small) - text_embeddings(small).mean(axis=0))
    sae = load_sae(small.artifact("sae").store.uri)
    step_FD = unit(sae.decode(np.eye(24)) - sae.decode(np.zeros((1, 24))))
    for row in rows:
        if row["evidence"] != "active on no image":
            assert f"the nearest: {TERMS[int((away_VD @ step_FD[row['feature']]).argmax())]} " in row["evidence"]


def test_what_came_of_it_is_printed(small: Small) -> None:
    said = vocabulary_line(small.summary)
    found = small.summary["vocabulary_names"]
    assert said == f"{found['named']} features named from a vocabulary of 32 terms, {found['abstained']} abstained"
    tested = {"vocabulary_names": found | {"verified": 2, "rejected": 3}}
    assert vocabulary_line(tested) == f"{said}; of the names 2 verified, 3 rejected"


def text_embeddings(small: Small) -> np.ndarray:
    return embed_terms(small.medclip.texts(), TERMS, TEMPLATES)


def test_the_atlas_takes_the_names_that_labels_leave_open(small: Small) -> None:
    labels, words = (small.artifact(f"{s}_names").table()["name"].to_pylist() for s in ("label", "vocabulary"))
    wanted = [label or word for label, word in zip(labels, words, strict=True)]
    atlas = small.artifact("atlas").table().to_pylist()
    assert [row["name"] for row in atlas] == wanted and any(words)
    sources = {row["name_source"] for row in atlas if row["name"] in TERMS}
    assert sources == {"vocabulary"}


def test_terms_are_the_same_from_a_file_and_in_the_recipe(small: Small, tmp_path: Path) -> None:
    (tmp_path / "terms.txt").write_text("# places and things\n" + "\n\n".join(TERMS))
    data = changed(small, terms=None)
    data["how"]["paths"]["vocabulary"] = str(tmp_path / "terms.txt")
    assert open_run(parse_recipe(data), str(small.root)).atlas.name == small.artifact("atlas").name
    (tmp_path / "terms.txt").write_text("\n".join(TERMS[:-1]))
    with pytest.raises(RecipeError, match=r"what\.vocabulary\.terms and how\.paths\.vocabulary both"):
        parse_recipe({**data, "what": changed(small)["what"]})
    assert run_stage(parse_recipe(data), str(small.root), "sae").name == small.artifact("sae").name
    data["how"]["paths"]["vocabulary"] = str(tmp_path / "none.txt")
    with pytest.raises(RecipeError, match=r"how\.paths\.vocabulary: .*none\.txt cannot be read"):
        run_stage(parse_recipe(data), str(small.root), "vocabulary_names")


def test_batches_do_not_change_names(small: Small, tmp_path: Path) -> None:
    data = copy.deepcopy(small.data)
    data["how"] |= {"embed": {"batch_size": 1}}
    run_recipe(parse_recipe(data), str(tmp_path))
    (folder,) = tmp_path.glob("vocabulary_names-*")
    here, there = (
        found.table().select(["feature", "name", "status"])
        for found in (open_artifact(folder), small.artifact("vocabulary_names"))
    )
    assert here.equals(there)
    stored = [np.load(io.BytesIO(a.file("texts"))) for a in (open_artifact(folder), small.artifact("vocabulary_names"))]
    np.testing.assert_allclose(stored[0], stored[1], atol=2e-6)
    np.testing.assert_allclose(stored[1], text_embeddings(small), atol=2e-6)


def test_a_tokenizer_by_id_is_the_one_in_the_folder(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = copy.deepcopy(small.data)
    data["how"]["paths"]["tokenizer"] = "owner/open"
    snapshot.cache_clear()
    with hub(small.medclip.tokenizer, tmp_path / "cache", monkeypatch):
        recipe = parse_recipe(data)
        assert open_run(recipe, str(small.root)).atlas.name == small.artifact("atlas").name
        np.testing.assert_array_equal(text_half(recipe).encode(TERMS[:3]), small.medclip.texts().encode(TERMS[:3]))
    snapshot.cache_clear()
    data["how"]["paths"]["tokenizer"] = str(tmp_path)
    with pytest.raises(EncoderError, match=r"none of vocab\.txt, tokenizer\.json"):
        open_run(parse_recipe(data), str(small.root))


def test_a_query_is_answered_by_the_text_half(small: Small) -> None:
    answer = query(parse_recipe(small.data), small.root, "left effusion", features=5)
    assert answer["way"] == "text half"
    text_D = unit(text_embeddings(small)[:1] - text_embeddings(small).mean(axis=0))[0]
    sae = load_sae(small.artifact("sae").store.uri)
    cosine_F = unit(sae.decode(np.eye(24)) - sae.decode(np.zeros((1, 24)))) @ text_D
    alive_F = np.array(small.artifact("atlas").table()["n_active"].to_pylist()) > 0
    order = [int(f) for f in np.argsort(-cosine_F) if alive_F[f]][:5]
    assert [row["feature"] for row in answer["features"]] == order
    assert [row["score"] for row in answer["features"]] == pytest.approx(cosine_F[order].tolist(), abs=1e-4)
    scores = [row["score"] for row in answer["images"]]
    assert len(scores) == 10 and scores == sorted(scores, reverse=True)
    assert len({row["image_id"] for row in answer["images"]}) == 10
    json.dumps(answer, allow_nan=False)


def test_weights_without_a_text_half_are_refused_before_anything_is_computed(small: Small, tmp_path: Path) -> None:
    data = copy.deepcopy(small.data)
    data["how"]["paths"]["weights"] = str(small.medclip.weights.with_name("image.safetensors"))
    with pytest.raises(EncoderError, match="no text half"):
        run_recipe(parse_recipe(data), str(tmp_path))
    assert not list(tmp_path.iterdir())


def test_a_stage_of_words_needs_a_vocabulary(small: Small, tmp_path: Path) -> None:
    data = copy.deepcopy(small.data)
    del data["what"]["vocabulary"], data["how"]["paths"]["tokenizer"]
    with pytest.raises(RecipeError, match=r"'vocabulary_names' needs what\.vocabulary"):
        run_stage(parse_recipe(data), str(tmp_path), "vocabulary_names")


def test_a_run_without_a_vocabulary_is_asked_by_names(small: Small, tmp_path: Path) -> None:
    data = copy.deepcopy(small.data)
    del data["what"]["vocabulary"], data["how"]["paths"]["tokenizer"]
    shutil.copytree(small.root, tmp_path / "root")
    summary = run_recipe(parse_recipe(data), str(tmp_path / "root"))
    assert [row["name"] for row in summary["stages"] if row["seconds"]] == ["atlas"]  # nothing else depends on it
    assert query(parse_recipe(data), tmp_path / "root", "bright")["way"] == "names"


def test_the_image_half_has_as_many_dimensions(small: Small) -> None:
    assert small.artifact("embeddings").schema.field("x").type.list_size == DIM
