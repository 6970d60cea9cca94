"""Queries by a model behind a URL, from Python and on the command line, and over HTTP without an engine."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

import medsae_ray
from medsae_ray.cli import main
from medsae_ray.errors import RecipeError
from tests.engine.chat_server import chat_server
from tests.service.conftest import Small


def picking(body: dict[str, Any]) -> tuple[int, Any]:
    """Picks the names that the query says, and excludes those behind "no"."""
    listed, query = (part["text"] for part in body["messages"][0]["content"])
    names = {name: int(number) for number, name in re.findall(r"^(\d+)\. ([^\n]+)$", listed, flags=re.MULTILINE)}
    query = query.removeprefix("Query: ")
    wanted, _, out = query.partition("no ") if query not in names else (query, "", "")
    want, exclude = ([number for name, number in names.items() if name in text] for text in (wanted, out))
    if query in names:
        want = [names[query]]
    text = json.dumps({"want": want, "exclude": exclude, "unmet": []})
    return 200, {"choices": [{"message": {"content": text}}]}


def test_a_model_behind_a_url_picks_names(small: Small, capsys: pytest.CaptureFixture[str]) -> None:
    with chat_server(picking) as (url, asked):
        how = {"by": "model", "model": "tiny", "url": url}
        answer = medsae_ray.query(small.recipe, small.root, "bright", images=5, **how)  # type: ignore[arg-type]
        sail = medsae_ray.query(small.recipe, small.root, "bright", images=5, ranking="cosine", **how)  # type: ignore[arg-type]
        without = medsae_ray.query(small.recipe, small.root, "left, no bright", images=5, **how)  # type: ignore[arg-type]
    assert answer["way"] == "model" and answer["model"] == "tiny" and answer["refused"] is None
    assert {row["name"] for row in answer["features"]} == {"bright"} and len(answer["images"]) == 5
    assert sail["features"] == answer["features"] and sail["ranking"] == "cosine" and sail["images"]
    assert {row["name"] for row in without["excluded"]} == {"bright"}
    bright = {row["feature"] for row in without["excluded"]}
    table = {row["image_id"]: row["feature"] for row in small.run.artifacts["activations"].table().to_pylist()}
    assert without["images"] and not any(bright & set(table[row["image_id"]]) for row in without["images"])
    assert all("response_format" in body for body in asked)


def test_the_command_line_asks_the_same(small: Small, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "r.yaml").write_text(json.dumps(small.recipe.model_dump(mode="json", exclude_defaults=True)))
    command = ["query", str(tmp_path / "r.yaml"), "--root", str(small.root), "left, no bright", "--by", "model"]
    with chat_server(picking) as (url, _):
        assert main([*command, "--model", "tiny", "--url", url, "--images", "3"]) == 0
    printed = capsys.readouterr().out
    assert "by a model's picks" in printed and "inactive on each image: bright" in printed
    assert main(["query", str(tmp_path / "r.yaml"), "--root", str(small.root), "not without bright"]) == 0
    assert "this query is not answered" in capsys.readouterr().out


def test_without_a_model_there_is_a_reason(small: Small, client: TestClient) -> None:
    with pytest.raises(RecipeError, match=r"no how\.vlm to pick names with"):
        medsae_ray.query(small.recipe, small.root, "bright", by="model")
    for wrong in ({"by": "guess"}, {"ranking": "luck"}, {"url": "http://x/v1"}, {"model": "m", "url": "http://x"}):
        with pytest.raises(RecipeError):
            medsae_ray.query(small.recipe, small.root, "bright", **wrong)  # type: ignore[arg-type]
    answer = client.get("/v1/query", params={"text": "bright", "by": "model"})
    assert answer.status_code == 503 and answer.json()["error"]["code"] == "no_engine"
    refused = client.get("/v1/query", params={"text": "not without bright"}).json()
    assert "negates a negation" in refused["refused"] and refused["images"] == []
    cosine = client.get("/v1/query", params={"text": "bright", "ranking": "cosine"}).json()
    assert cosine["ranking"] == "cosine" and cosine["images"]
