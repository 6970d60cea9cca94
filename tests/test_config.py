import copy
import inspect
import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import TypeAdapter

from medsae_ray.config import How, Sae, load_recipe, parse_recipe
from medsae_ray.config.encoders import Encoder
from medsae_ray.core.encoders import ENCODERS
from medsae_ray.core.sae.config import SAEConfig, choices
from medsae_ray.core.sae.defaults import Spread, choose
from medsae_ray.errors import RecipeError

GOOD: dict[str, Any] = {
    "name": "x",
    "what": {
        "dataset": {"kind": "table", "name": "n", "image": "i", "labels": ["a"]},
        "encoder": {"kind": "medclip-vit"},
    },
    "how": {"paths": {"table": "t.csv"}},
}


def changed(path: str, value: Any) -> dict[str, Any]:
    data = copy.deepcopy(GOOD)
    *folders, last = path.split(".")
    place = data
    for folder in folders:
        place = place.setdefault(folder, {})
    place[last] = value
    return data


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("what.dataset.imagee", "x", "what.dataset.imagee: unknown key; did you mean 'image'"),
        ("what.sea", {}, "what.sea: unknown key; did you mean 'sae'"),
        ("how.embed.gpu", 1, "how.embed.gpu: unknown key; did you mean 'gpus'"),
        ("what.sae.lr", 5, "what.sae.lr: .*allowed: more than 0 and less than 1"),
        ("what.sae.k", 0, "what.sae.k: .*found 0; allowed: at least 1"),
        ("what.sae.width", "many", "what.sae.width: .*valid integer .found 'many'; allowed: at least 2"),
        ("what.sae", {"k": 100, "width": 10}, "k is 100, more than the 10 features"),
        ("what.sae", {"architecture": "matryoshka"}, "matryoshka needs levels"),
        ("what.sae", {"architecture": "matryoshka", "levels": [9, 8], "width": 8, "k": 2}, "not ascending"),
        ("what.sae", {"architecture": "matryoshka", "levels": [4, 8], "width": 9, "k": 2}, "is not width = 9"),
        ("what.sae", {"levels": [4, 8192]}, "levels has no effect on architecture batch_topk"),
        ("what.sae", {"architecture": "relu_l1", "patience": 3}, "patience has no effect on architecture relu_l1"),
        ("what.sae", {"whiten": 0.1, "normalisation": "l2"}, "whiten needs normalisation 'centre'"),
        (
            "what.encoder.kind",
            "medclip",
            "'medclip-vit', 'medclip-resnet', 'onnx', 'huggingface', 'dinov3', 'biomedparse'",
        ),
        ("what.encoder", {"kind": "huggingface"}, "huggingface needs how.paths.weights, a Hugging Face id"),
        ("what.encoder", {"kind": "biomedparse", "size": 1000}, "what.encoder.*size"),
        ("what.encoder", {"kind": "dinov3", "pool": "max"}, "'pooler', 'cls' or 'mean'"),
        ("what.encoder", {"kind": "onnx", "size": 8, "tokens": "patch"}, "what.encoder: an onnx encoder gives one emb"),
        ("what.dataset.uncertain", "maybe", "'ignore', 'zero' or 'one'"),
        ("what.split", {"sae": 0.9}, "sae \\+ naming \\+ detection is 1.3"),
        ("what.encoder", {"kind": "onnx", "size": 224}, "needs how.paths.weights"),
        ("how.paths", {}, "needs how.paths.table"),
        ("what.vocabulary", {"terms": ["one"]}, "what.vocabulary.terms: "),
        ("what.vocabulary", {"templates": ["a film"]}, "template 'a film' needs {} once"),
        ("how.paths.vocabulary", "terms.txt", "how.paths.vocabulary is for what.vocabulary"),
        ("what", 3, "what: .*found 3"),
        ("what.dataset", {"name": "n", "image": "i"}, "what.dataset.kind: is missing"),
        ("what.dataset.labels", ["a", "b", "a "], "what.dataset.labels: 'a' is listed twice"),
        ("what.dataset.metadata", ["v", "v"], "what.dataset.metadata: 'v' is listed twice"),
        ("what.dataset.name", "a\nb", "a dataset is called 'a.nb'; its `name` is shown"),
        ("what.sae.auxk", float("inf"), "what.sae.auxk: input should be a finite number"),
        ("how.train.memory_gb", float("nan"), "how.train.memory_gb: input should be a finite number"),
        ("name", [["x" * 10**6] * 10**4] * 100, "name: .*found .{0,9000}$"),
    ],
)
def test_a_wrong_recipe_is_refused_with_what_is_allowed(path: str, value: Any, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        parse_recipe(changed(path, value))


@pytest.mark.parametrize(
    ("encoder", "weights", "said"),
    [
        ({"kind": "onnx", "size": 32}, "e.onnx", r"needs an encoder with a text half \(medclip\), onnx has none"),
        ({"kind": "dinov3"}, None, r"text half \(medclip\), dinov3 has none"),
        ({"kind": "medclip-vit"}, "builtin:phantom-encoder", "builtin:phantom-encoder has none"),
    ],
)
def test_a_vocabulary_needs_a_text_half(encoder: dict[str, Any], weights: str | None, said: str) -> None:
    data = changed("what.vocabulary", {})
    assert parse_recipe(data).what.vocabulary is not None
    data["what"]["encoder"], data["how"]["paths"]["weights"] = encoder, weights
    with pytest.raises(RecipeError, match=said):
        parse_recipe(data)


def test_terms_come_from_one_place() -> None:
    data = changed("what.vocabulary", {"terms": ["a", "b"]})
    data["how"]["paths"]["vocabulary"] = "terms.txt"
    with pytest.raises(RecipeError, match=r"what\.vocabulary\.terms and how\.paths\.vocabulary both give the terms"):
        parse_recipe(data)


SAIL = {"selection": "per_level", "ks": [2, 4], "compat": "sail", "normalisation": "l2"}


@pytest.mark.parametrize(
    "sae",
    [
        {"architecture": "relu_l1"},
        {"architecture": "topk"},
        {"architecture": "batch_topk"},
        {"architecture": "jumprelu", "target_l0": 8.0},
        {"architecture": "gated"},
        {"architecture": "matryoshka", "levels": [128, 8192]},
        {"architecture": "matryoshka", "levels": [128, 8192]} | SAIL,
    ],
)
def test_every_architecture_of_a_recipe_is_one_that_can_be_trained(sae: dict[str, Any]) -> None:
    settings = parse_recipe(changed("what.sae", sae)).what.sae.settings()
    config = SAEConfig.from_dict(choose(settings, 100_000, Spread(512)) | {"d_in": 512})
    assert config.architecture == sae["architecture"]
    for name, value in sae.items():
        assert getattr(config, name) == (tuple(value) if isinstance(value, list) else value)


def test_a_recipe_and_the_sae_have_the_same_settings() -> None:
    recipe = set(Sae.model_fields) - {"auxk"} | {"auxk_coefficient"}
    fixed = {"d_in", "auxk", "warmup_fraction", "decay_fraction", "dead_after_epochs"}
    assert recipe == {field.name for field in fields(SAEConfig)} - fixed
    for name in {*choices(SAEConfig), "bandwidth", "seed"} - {"architecture"}:
        assert Sae.model_fields[name].default == getattr(SAEConfig, name), name


def test_a_missing_key_is_named() -> None:
    data = copy.deepcopy(GOOD)
    del data["what"]["encoder"]
    with pytest.raises(RecipeError, match=r"what\.encoder: is missing"):
        parse_recipe(data)


def test_every_wrong_key_is_named_at_once() -> None:
    data = changed("what.sae", {"lr": 5, "k": 0})
    with pytest.raises(RecipeError, match=r"(?s)what\.sae\.k.*what\.sae\.lr"):
        parse_recipe(data)


def test_a_recipe_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        parse_recipe(GOOD).what.sae.k = 3  # type: ignore[misc]


def test_numbers_in_scientific_notation_are_numbers(tmp_path: Path) -> None:
    text = "name: x\nwhat:\n  dataset: {kind: phantom}\n  encoder: {kind: medclip-vit}\n  sae: {lr: 1e-3, l1: 5e-2}\n"
    (tmp_path / "r.yaml").write_text(text)
    assert load_recipe(tmp_path / "r.yaml").what.sae.lr == 0.001


def test_relative_paths_start_at_the_recipes_folder(tmp_path: Path) -> None:
    text = (
        "name: x\nwhat:\n  dataset: {kind: table, name: n, image: i, labels: [a]}\n  encoder: {kind: onnx, size: 32}\n"
    )
    (tmp_path / "r.yaml").write_text(text + "how: {paths: {table: t.csv, images: s3://bucket/x, weights: e.onnx}}\n")
    paths = load_recipe(tmp_path / "r.yaml").how.paths
    assert paths.table == str(tmp_path / "t.csv") and paths.images == "s3://bucket/x"


def test_a_hugging_face_id_is_kept_unless_it_is_a_folder_beside_the_recipe(tmp_path: Path) -> None:
    text = "name: x\nwhat:\n  dataset: {kind: phantom}\n  encoder: {kind: %s}\nhow: {paths: {weights: %s}}\n"

    def weights(kind: str, given: str) -> str | None:
        (tmp_path / "r.yaml").write_text(text % (kind, given))
        return load_recipe(tmp_path / "r.yaml").how.paths.weights

    assert weights("dinov3", "owner/name@v1") == "owner/name@v1"
    assert weights("dinov3", "./owner/name") == weights("medclip-vit", "owner/name") == str(tmp_path / "owner/name")
    (tmp_path / "owner" / "name").mkdir(parents=True)
    assert weights("dinov3", "owner/name") == str(tmp_path / "owner/name")


@pytest.mark.parametrize("kind", ["medclip-vit", "medclip-resnet", "onnx", "huggingface", "dinov3", "biomedparse"])
def test_the_options_of_an_encoder_are_those_that_it_takes(kind: str) -> None:
    size = {"size": 64} if kind == "onnx" else {}
    model = TypeAdapter[Any](Encoder).validate_python({"kind": kind} | size)
    parameters = inspect.signature(ENCODERS[kind]).parameters
    assert set(type(model).model_fields) - {"kind", "tokens"} == set(parameters) - {"weights", "device", "threads"}
    for name, value in model.options().items():
        assert name == "size" or parameters[name].default == value, name


def test_identifiers_are_hashed_if_the_recipe_says_so() -> None:
    assert parse_recipe(GOOD).what.hashed == []
    assert parse_recipe(changed("what.privacy", {"hash_ids": True})).what.hashed == ["n"]
    assert parse_recipe(changed("what.privacy", {"hash_ids": False})).what.hashed == []


def test_the_files_of_each_dataset_and_the_key_start_at_the_recipes_folder(tmp_path: Path) -> None:
    text = "name: x\nwhat:\n  datasets: [{kind: phantom}, {kind: nih-cxr14}]\n  encoder: {kind: medclip-vit}\n"
    how = "how: {id_key: {file: key}, paths: {datasets: {nih-cxr14: {table: a/Data_Entry_2017.csv}}}}\n"
    (tmp_path / "r.yaml").write_text(text + how)
    found = load_recipe(tmp_path / "r.yaml").how
    assert found.paths.datasets["nih-cxr14"].table == str(tmp_path / "a/Data_Entry_2017.csv")
    assert found.id_key.file == str(tmp_path / "key")


@pytest.mark.parametrize("kind", ["medclip-vit", "dinov3", "biomedparse"])
def test_patches_may_be_asked_for_and_are_no_option_of_the_encoder(kind: str) -> None:
    encoder = parse_recipe(changed("what.encoder", {"kind": kind, "tokens": "patch"})).what.encoder
    assert encoder.patches and "tokens" not in encoder.options()
    assert not parse_recipe(changed("what.encoder", {"kind": kind})).what.encoder.patches


def test_every_packaged_recipe_is_valid() -> None:
    import medsae_ray

    recipes = sorted((Path(medsae_ray.__file__).parent / "recipes").glob("*.yaml"))
    asked = {recipe: yaml.safe_load(recipe.read_text()) for recipe in recipes}
    known = [recipe for recipe in recipes if asked[recipe]["what"]["encoder"]["kind"] in ENCODERS]
    assert known and all(load_recipe(recipe).name for recipe in known)
    for recipe in set(recipes) - set(known):  # an encoder that is still to come: the rest is valid
        asked[recipe]["what"]["encoder"] = {"kind": "medclip-vit"}
        assert parse_recipe(asked[recipe]).name


def test_a_split_held_out_by_a_column_needs_its_values() -> None:
    data = copy.deepcopy(GOOD)
    data["what"]["split"] = {"held_out_by": "institute"}
    with pytest.raises(RecipeError, match="held_out_by names a column and held_out its values; give both or none"):
        parse_recipe(data)


@pytest.mark.parametrize("kind", ["chexpert", "mimic-cxr-jpg", "nih-cxr14", "vindr-cxr"])
def test_every_public_dataset_has_a_packaged_recipe(kind: str) -> None:
    assert load_recipe(f"{kind.removesuffix('-jpg')}-medclip").what.dataset.kind == kind


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
        ("{k: 4}", "{k: 010}", "010 is 8 in YAML.*write 8"),
        ("size: 32", "size: 1:30", "1:30 is 90 in YAML"),
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


def test_an_unknown_recipe_name_lists_the_packaged_ones() -> None:
    with pytest.raises(RecipeError, match=r"one of .*table-onnx"):
        load_recipe("phantm")
