"""The schemas that a chat may ask for: those of clients are taken, and none of those takes the engine long."""

import json
import time
from typing import Any, Literal

import pytest
from fastapi.testclient import TestClient
from pydantic import BaseModel, Field

from medsae_ray.core.naming.prompts import naming_schema
from medsae_ray.service.errors import Problem
from medsae_ray.service.schema_bounds import EXPRESSIONS, ITEMS, PROPERTIES, check_schema
from tests.service.conftest import Scripted
from tests.service.test_chat import post

TEXT = {"type": "string"}


class Spot(BaseModel):
    """A place."""

    side: Literal["left", "right"]
    size_mm: float | None = Field(default=None, ge=0, le=400)


class Report(BaseModel):
    """What a client of pydantic would ask for."""

    findings: list[Spot] = Field(max_length=20)
    by_name: dict[str, Spot] = {}
    summary: str = Field(max_length=500, pattern="^[A-Z].*$")
    next: "Report | None" = None


def nested(levels: int) -> dict[str, Any]:
    return TEXT if not levels else {"type": "array", "items": nested(levels - 1)}


def listed(times: int, items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "minItems": times, "maxItems": times, "items": items}


def wide(number: int, part: dict[str, Any], key: str = "properties") -> dict[str, Any]:
    return {"type": "object", key: {f"p{i}": part for i in range(number)}}


TAKEN = {
    "pydantic": Report.model_json_schema(),
    "a naming": naming_schema(16),
    "deep": nested(31),
    "wide": wide(PROPERTIES, TEXT),
    "wide with formats": wide(EXPRESSIONS, {"type": "string", "format": "uri"}),
    "wide with bounds": wide(EXPRESSIONS, {"type": "integer", "minimum": -(10**18), "maximum": 10**18}),
    "wide with patterns": wide(EXPRESSIONS, {"type": "string", "pattern": "^" + "(\\w|.e)?" * 40 + "$"}),
    "wide with steps": wide(PROPERTIES, {"type": "integer", "multipleOf": 97}),
    "long": listed(ITEMS // 2, TEXT | {"minLength": 100_000}),
    "lists in lists": listed(90, listed(100, TEXT)),
    "lists beside lists": {
        "type": "object",
        "properties": {f"p{i}": {"type": "array", "maxItems": 990 + i, "items": TEXT} for i in range(9)},
    },
    "any of many": wide(250, {"anyOf": [TEXT, {"type": "null"}]}),
    "a list that says nothing": {},
}


@pytest.mark.parametrize("kind", TAKEN)
def test_what_clients_write_is_taken_and_its_grammar_is_made_in_time(kind: str) -> None:
    check_schema(TAKEN[kind], "schema")
    llguidance = pytest.importorskip("llguidance")
    begun = time.process_time()
    grammar = llguidance.LLMatcher.grammar_from_json_schema(
        json.dumps(TAKEN[kind]), defaults={"whitespace_flexible": False}
    )
    assert llguidance.LLMatcher.validate_grammar(grammar, None) == ""
    assert (
        time.process_time() - begun < 0.25
    )  # of 16 callers at once none delays a neighbour by much more than a second


BOMB = {
    "type": "array", "minItems": 100_000, "maxItems": 1_000_000, "items": {"type": "string", "minLength": 100_000}
}  # fmt: skip
REFUSED = {
    "bomb": (BOMB, "maxItems"),
    "many items": (listed(ITEMS + 1, TEXT), "schema"),
    "lists in lists": (listed(101, listed(101, TEXT)), "items"),
    "lists beside lists": (wide(101, listed(100, TEXT)), "p100"),
    "wide": (wide(PROPERTIES + 1, TEXT), "schema"),
    "wide below": ({"items": [], "anyOf": [wide(200, TEXT), wide(200, TEXT)]}, "schema"),
    "formats": (wide(EXPRESSIONS + 1, {"type": "string", "format": "uri"}), f"p{EXPRESSIONS}"),
    "patterns beside formats": (
        {"prefixItems": [wide(40, {"format": "date"}), wide(40, {"pattern": "a"})]},
        f"p{EXPRESSIONS - 40}",
    ),
    "bounds of numbers": (wide(EXPRESSIONS + 1, {"type": "number", "exclusiveMinimum": 0}), f"p{EXPRESSIONS}"),
    "wide in two": ({"anyOf": [wide(200, TEXT), wide(200, TEXT)]}, "anyOf[1]"),
    "deep": (nested(32), "items"),
    "all of two": ({"allOf": [TEXT, TEXT]}, "allOf"),
    "any and one": ({"anyOf": [TEXT], "oneOf": [TEXT]}, "schema"),
    "any and more": ({"anyOf": [TEXT], "properties": {"a": TEXT}}, "schema"),
    "reference and more": ({"$ref": "#", "minLength": 3}, "schema"),
    "not": ({"not": TEXT}, "not"),
    "guidance's own": ({"x-guidance": {"lenient": True}}, "x-guidance"),
    "pattern of names": (wide(1, TEXT, "patternProperties"), "patternProperties"),
    "a large step": ({"type": "integer", "multipleOf": 99_991}, "multipleOf"),
    "no step": ({"type": "integer", "multipleOf": 0}, "multipleOf"),
    "no number": ({"type": "array", "maxItems": "9"}, "maxItems"),
    "negative": ({"type": "array", "maxItems": -1}, "maxItems"),
    "a flag": ({"type": "array", "maxItems": True}, "maxItems"),
    "no object": ({"properties": [TEXT]}, "properties"),
    "no schema": ({"items": 3}, "items"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_would_hold_up_the_engine_is_refused_with_its_place(kind: str) -> None:
    schema, where = REFUSED[kind]
    with pytest.raises(Problem) as problem:
        check_schema(schema, "schema")
    assert (problem.value.status, problem.value.code) == (422, "invalid_schema")
    assert problem.value.where and problem.value.where.endswith(where)


def test_a_bomb_does_not_reach_the_engine(naming_client: TestClient, engine: Scripted) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": BOMB}}
    begun = time.process_time()
    answer = post(naming_client, response_format=form)
    assert answer.status_code == 422 and "retry-after" not in answer.headers and not engine.chats
    assert answer.json()["error"]["where"] == "body.response_format.json_schema.schema.maxItems"
    assert time.process_time() - begun < 0.5
