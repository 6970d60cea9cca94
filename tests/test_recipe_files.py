"""Recipes as files: YAML that is not what it seems, and paths and addresses that lead nowhere."""

import json
from pathlib import Path
from typing import Any

import pytest

from medsae_ray.config import How, load_recipe, parse_recipe
from medsae_ray.errors import RecipeError
from tests.test_config import changed


@pytest.mark.parametrize(("text", "message"), [("- 1", "holds list"), ("a: [", "is not YAML")])
def test_a_file_that_is_no_recipe_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(RecipeError, match=message):
        load_recipe(tmp_path / "r.yaml")


RECIPE = """name: x
what:
  dataset: {kind: table, name: n, image: i, labels: [a]}
  encoder: {kind: onnx, size: 32}
  sae: &sae {k: 4}
how: {paths: {table: t.csv, weights: e.onnx}}
"""


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("how:", "what: {}\nhow:", "key 'what' comes twice, in lines 2 and 6"),
        ("  sae: &sae {k: 4}", "  sae: {k: 4}\n  sae: {k: 4}", "key 'sae' comes twice, in lines 5 and 6"),
        ("{k: 4}", "{k: 4, width: 64, k: 4}", "key 'k' comes twice, in lines 5 and 5"),
        ("{k: 4}", '{k: 4, "k": 8}', "key 'k' comes twice"),
        ("weights: e.onnx}", "weights: e.onnx, table: u.csv}", "key 'table' comes twice, in lines 6 and 6"),
        ("labels: [a]", "labels: [a, {b: 1, b: 2}]", "key 'b' comes twice"),
        ("labels: [a]", "labels: [a], values: {1: 1, 1.0: 0}", "key '1.0' comes twice"),
        ("labels: [a]", "labels: [a], values: {9: 1, '9': 0}", "a word is listed twice, with quotes and without"),
        ("size: 32", "size: 1:30", "what.encoder.size: .*valid integer .found '1:30'"),
        ("  sae:", "  privacy: {hash_ids: yes}\n  sae:", "hash_ids: .*boolean .found 'yes'; allowed: true and false"),
        ("labels: [a]", "labels: [a], values: {True: 1}", "takes for true, false or null needs quotes"),
        ("labels: [a]", "labels: [!!bool a]", "not YAML that makes sense"),
        (RECIPE, "%YAML 1.1\n---\n" + RECIPE, "says '%YAML 1.1', and a recipe is YAML 1.2; remove that line"),
        (RECIPE, "%YAML 1.3\n---\n" + RECIPE, "says '%YAML 1.3'"),
        ("  sae: &sae {k: 4}", "  sae: &sae {k: 4}\n  sweep: {each: [{<<: *sae, k: 8, k: 9}]}", "key 'k' comes twice"),
        ("  sae:", "\tsae:", "not with tabs"),
        ("sae: &sae {k: 4}", "sae: 2026-02-31", "not YAML that makes sense"),
        (RECIPE, "", "is empty; a recipe is a mapping"),
        (RECIPE, "# nothing\n", "is empty; a recipe is a mapping"),
        (RECIPE, "[" * 5000, "not YAML"),
        (RECIPE, RECIPE + "---\n" + RECIPE, "is not YAML"),
        (RECIPE, "{1: 2, null: 3}", "keys should be strings"),
    ],
)
def test_yaml_that_is_not_what_it_seems_is_refused(tmp_path: Path, old: str, new: str, said: str) -> None:
    (tmp_path / "r.yaml").write_text(RECIPE.replace(old, new))
    with pytest.raises(RecipeError, match=said):
        load_recipe(tmp_path / "r.yaml")


def test_words_are_words_and_numbers_are_numbers(tmp_path: Path) -> None:
    labels = "labels: [no, off, y, NO, On, yes], values: {no: 0, y: 1, 1e1: null}"
    text = RECIPE.replace("labels: [a]", labels).replace("size: 32", "size: 032").replace("{k: 4}", "{k: 4, lr: 1e-3}")
    (tmp_path / "r.yaml").write_text("%YAML 1.2\n---\n" + text)
    what = load_recipe(tmp_path / "r.yaml").what
    assert what.dataset.labels == ["no", "off", "y", "NO", "On", "yes"]
    assert what.dataset.values == {"no": 0, "y": 1, "10.0": None}
    assert what.encoder.size == 32 and what.sae.lr == 0.001


def test_a_merged_key_may_be_given_anew(tmp_path: Path) -> None:
    shared = RECIPE.replace("how:", "  sweep: {each: [{<<: *sae, k: 8}, *sae]}\nhow:")
    (tmp_path / "r.yaml").write_text(shared)
    sweep = load_recipe(tmp_path / "r.yaml").what.sweep
    assert sweep is not None and sweep.each == [{"k": 8}, {"k": 4}]


def test_a_recipe_is_utf_8_with_any_line_ends(tmp_path: Path) -> None:
    file, text = tmp_path / "r.yaml", RECIPE.replace("name: x", "name: Bögen")
    for data in (text.encode("utf-8-sig"), text.replace("\n", "\r\n").encode()):
        file.write_bytes(data)
        assert load_recipe(file).name == "Bögen"
    for encoding, said in (("latin-1", r"no UTF-8 text.* in line 1\b.*save it as UTF-8"), ("utf-16", "is UTF-16 text")):
        file.write_bytes(text.encode(encoding))
        with pytest.raises(RecipeError, match=said):
            load_recipe(file)


def test_home_and_variables_are_read_in_every_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("DATA", "/data set")
    data = changed("what.vocabulary", {})
    data["what"]["encoder"] = {"kind": "medclip-vit"}
    given = ("table", "images", "weights", "vocabulary", "tokenizer")
    data["how"] = {
        "paths": {key: f"~/{key}" for key in given},
        "cache": {"folder": "${DATA}/cache", "gb": 1},
        "train": {"scratch": "~/scratch"},
        "id_key": {"file": "$DATA/key"},
    }
    (tmp_path / "r.yaml").write_text(json.dumps(data))
    for how in (load_recipe(tmp_path / "r.yaml").how, parse_recipe(data).how):
        assert [getattr(how.paths, key) for key in given] == [f"/home/me/{key}" for key in given]
        assert how.cache is not None and how.cache.folder == "/data set/cache" and how.id_key.file == "/data set/key"
        assert how.train.scratch == "/home/me/scratch"
    several = {"datasets": {"n": {"table": "~/t.csv", "images": "s3://$BUCKET/x"}}}
    monkeypatch.setenv("BUCKET", "archive")
    assert How.model_validate({"paths": several}).paths.datasets["n"].images == "s3://archive/x"


@pytest.mark.parametrize(
    "url", ["", "h:8000/v1", "ftp://h/v1", "http://h:99999/v1", "http://h:port/v1", "http://h/v1?x=1", "http://a b/v1"]
)
def test_the_address_of_a_server_is_one(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        RecipeError, match=r"how\.vlm\.url: (it has to be an address|its host or port is none|it is empty)"
    ):
        parse_recipe(changed("how.vlm", {"model": "m", "url": url}))
    monkeypatch.setenv("SERVER", "10.0.0.1:8000")
    vlm = parse_recipe(changed("how.vlm", {"model": "m", "url": "http://${SERVER}/v1 "})).how.vlm
    assert vlm is not None and vlm.url == "http://10.0.0.1:8000/v1"


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        ("how.paths.table", "$NOT_SET_HERE/t.csv", "how.paths.table: the environment variable NOT_SET_HERE is not set"),
        ("how.paths.table", "~no such user/t.csv", "how.paths.table: ~ stands for a user's folder"),
        ("how.paths.table", "${DATA:-/data}/t.csv", r"how.paths.table: of a shell's \$\{...\} only"),
        ("how.paths.table", "C:\\data\\t.csv", "how.paths.table: it is a path of Windows"),
        ("how.paths.table", "D:/t.csv", "how.paths.table: it is a path of Windows"),
        ("how.paths.table", "\\\\server\\t.csv", "how.paths.table: it is a path of Windows"),
        ("how.paths.images", " ", "how.paths.images: it is empty: leave it out"),
        ("how.paths.table", "t\0.csv", "how.paths.table: no path has a null character"),
        ("how.cache", {"folder": "cache", "gb": 1}, "how.cache.folder: it has to be a folder from the root"),
        ("how.train", {"scratch": "scratch"}, "how.train.scratch: it has to be a folder from the root"),
    ],
)
def test_a_path_that_leads_nowhere_is_refused(place: str, value: Any, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        parse_recipe(changed(place, value))


def test_a_colon_makes_no_uri_of_a_path(tmp_path: Path) -> None:
    folder = tmp_path / "a$b"
    folder.mkdir()
    (folder / "r.yaml").write_text(RECIPE.replace("t.csv", '"10:30.csv"'))
    assert load_recipe(folder / "r.yaml").how.paths.table == str(folder / "10:30.csv")
