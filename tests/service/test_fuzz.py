"""Requests made from the service's own description, and hostile ones: never a 5xx, always what the description says."""

import asyncio
import random
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from medsae_ray.service.app import make_app
from medsae_ray.service.desk import Desk
from tests.service.conftest import LIMITS
from tests.service.hostile import hostile
from tests.support.hostile_folder import hostile_folder

CHECKS = [not_a_server_error, content_type_conformance, response_schema_conformance, status_code_conformance]


@pytest.fixture
def app(naming_desk: Desk) -> FastAPI:
    return make_app(naming_desk, None)


def test_what_the_description_allows_is_answered_as_it_says(app: FastAPI) -> None:
    described = schemathesis.openapi.from_asgi("/openapi.json", app, headers={"host": "localhost"})
    operations = [found.ok() for found in described.get_all_operations()]
    assert len(operations) == 20
    for operation in operations:
        cases = operation.as_strategy()

        @settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
        @given(cases)
        def check(case: Any) -> None:
            case.call_and_validate(headers={"host": "localhost"}, checks=CHECKS)

        check()


def test_hostile_files_are_refused_in_the_one_shape(app: FastAPI, tmp_path: Path) -> None:
    """DICOM files among them: bombs, code streams that claim too much, nested and cut ones."""
    hostile_folder(tmp_path, 150, 3)
    files = [path for name in ("dicom", "images") for path in sorted((tmp_path / name).rglob("*")) if path.is_file()]
    with TestClient(app, "http://localhost", raise_server_exceptions=False) as client:
        answers = [client.post("/v1/encode", files={"image": path.read_bytes()}) for path in files]
    assert len(files) > 100 and {200, 413, 415, 422} == {answer.status_code for answer in answers}
    assert all(set(answer.json()["error"]) <= {"code", "message", "where"} for answer in answers if answer.is_error)


def test_hostile_requests_are_refused_in_the_one_shape(app: FastAPI) -> None:
    asked = [hostile(draw, None, LIMITS.body) for draw in [random.Random(5)] for _ in range(400)]

    async def send_all() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return [await client.request(h.method, h.path, headers=h.headers, content=h.body) for h in asked]

    answers = asyncio.run(send_all())
    for one, answer in zip(asked, answers, strict=True):
        assert answer.status_code < 500, one
        if answer.status_code >= 400 and one.method != "HEAD":
            assert set(answer.json()["error"]) <= {"code", "message", "where"}, one
    assert {200, 400, 404, 405, 413, 415, 422} <= {answer.status_code for answer in answers}
