import copy
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import pytest

from medsae_ray.config import Judge, Sae, load_recipe, parse_recipe
from medsae_ray.core.sae.config import SAEConfig
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
        ("what.encoder", {"kind": "onnx", "size": 8, "tokens": "patch"}, "what.encoder.tokens: an onnx encoder gives"),
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
    recipe = set(Sae.model_fields) - {"auxk", "restarts"} | {"auxk_coefficient"}
    fixed = {"d_in", "auxk", "warmup_fraction", "decay_fraction", "dead_after_epochs"}
    assert recipe == {field.name for field in fields(SAEConfig)} - fixed
    own = {field.name for field in fields(SAEConfig) if field.default not in (None, MISSING)}
    for name in own - fixed - {"auxk_coefficient"}:
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
def test_patches_may_be_asked_for(kind: str) -> None:
    encoder = parse_recipe(changed("what.encoder", {"kind": kind, "tokens": "patch"})).what.encoder
    assert encoder.patches
    assert not parse_recipe(changed("what.encoder", {"kind": kind})).what.encoder.patches


def test_every_packaged_recipe_is_valid() -> None:
    import medsae_ray

    recipes = sorted((Path(medsae_ray.__file__).parent / "recipes").glob("*.yaml"))
    assert recipes and all(load_recipe(recipe).name for recipe in recipes)


def test_a_split_held_out_by_a_column_needs_its_values() -> None:
    data = copy.deepcopy(GOOD)
    data["what"]["split"] = {"held_out_by": "institute"}
    with pytest.raises(RecipeError, match="held_out_by names a column and held_out its values; give both or none"):
        parse_recipe(data)


@pytest.mark.parametrize("kind", ["chexpert", "mimic-cxr-jpg", "nih-cxr14", "vindr-cxr"])
def test_every_public_dataset_has_a_packaged_recipe(kind: str) -> None:
    assert load_recipe(f"{kind.removesuffix('-jpg')}-medclip").what.dataset.kind == kind


def test_an_unknown_recipe_name_lists_the_packaged_ones() -> None:
    with pytest.raises(RecipeError, match=r"one of .*table-onnx"):
        load_recipe("phantm")


def test_columns_that_a_judge_sees_have_one_order() -> None:
    one, other = (Judge(columns=columns) for columns in (["sex", "age"], ["age", "sex"]))
    assert one == other and one.columns == ["age", "sex"]
