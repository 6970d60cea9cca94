"""What a recipe asks of its vision-language model is held against the model before anything is computed."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from medsae_ray.config import Recipe, find_recipe, parse_recipe
from medsae_ray.engine.causes import explain
from medsae_ray.engine.session import check_engine, settings_of
from medsae_ray.engine.vllm_options import engine_arguments
from medsae_ray.errors import RecipeError
from medsae_ray.pipeline import run_recipe, run_stage


def recipe(naming: dict[str, Any] | None = None, **vlm: Any) -> Recipe:
    whole = yaml.safe_load(find_recipe("phantom").read_text())
    whole["what"]["naming"] |= naming or {}
    whole["how"]["vlm"] = {"model": "builtin:phantom-vlm", **vlm}
    return parse_recipe(whole)


def said(recipe: Recipe) -> str:
    stream = io.StringIO()
    check_engine(recipe, Console(file=stream, width=200))
    return stream.getvalue()


def test_left_out_the_length_is_the_models_own_and_a_line_says_so() -> None:
    assert settings_of(recipe()).max_model_len == 2048
    assert said(recipe()).startswith("how.vlm.max_model_len is 2048, all that builtin:phantom-vlm has")
    assert said(recipe(max_model_len=1024)) == "" and settings_of(recipe(max_model_len=1024)).max_model_len == 1024


def test_more_than_the_model_has_is_refused_before_the_first_stage(tmp_path: Path) -> None:
    for run in (run_recipe, lambda recipe, root: run_stage(recipe, root, "names")):
        with pytest.raises(RecipeError, match="max_model_len is 8192, and builtin:phantom-vlm takes at most 2048"):
            run(recipe(max_model_len=8192), str(tmp_path))
    assert not list(tmp_path.iterdir())


def test_more_images_than_a_prompt_has_room_for_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"12 images of 49 tokens each.*room for 512 tokens"):
        check_engine(recipe(max_model_len=512), Console(quiet=True))
    with pytest.raises(RecipeError, match=r"lower what\.naming\.positives"):
        check_engine(recipe({"positives": 30, "contrasts": 20}), Console(quiet=True))


def test_a_longer_model_has_8192_and_one_that_is_not_here_is_asked_where_it_is(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"max_position_embeddings": 131072}))
    long = recipe(model=str(tmp_path))
    assert settings_of(long).max_model_len == 8192 and said(long) == ""
    absent = settings_of(recipe(model="nobody/no-such-model"))
    assert absent.max_model_len is None
    assert engine_arguments(absent)["max_model_len"] == 8192
    at_url = recipe(model="any", url="http://localhost:1/v1", max_model_len=10**6)
    assert said(at_url) == ""


def test_what_vllm_says_of_a_setting_is_repeated_without_the_whole_configuration() -> None:
    pasted = (
        "pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig\n"
        "  Value error, User-specified max_model_len (8192) is greater than the derived max_model_len "
        f"(max_position_embeddings=2048.0). {'It must be used with caution. ' * 20}"
        "[type=value_error, input_value=ArgsKwargs((), {'model': '/a/b', 'x': 1}), input_type=ArgsKwargs]\n"
        "    For further information visit https://errors.pydantic.dev/2.14/v/value_error"
    )
    message = explain(pasted)
    assert "lower how.vlm.max_model_len" in message and "max_position_embeddings=2048" in message
    assert "ArgsKwargs" not in message and "/a/b" not in message and len(message) < 700
