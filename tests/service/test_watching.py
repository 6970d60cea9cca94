"""What an operator sees of the service: figures, a line for each request, and pages that ask nobody else."""

import json
import logging
import re
from io import StringIO
from typing import Any

import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from medsae_ray.runtime.logs import JsonLines
from medsae_ray.service.app import make_app
from medsae_ray.service.desk import Desk
from tests.service.conftest import LIMITS, Small

PNG = {"content-type": "image/png"}


@pytest.fixture
def watched(small: Small) -> TestClient:
    return TestClient(make_app(Desk(small.run, None, LIMITS), None), "http://localhost", raise_server_exceptions=False)


def figures(client: TestClient) -> dict[tuple[str, ...], float]:
    families = text_string_to_metric_families(client.get("/metrics").text)
    return {(s.name, *map(str, s.labels.values())): s.value for f in families for s in f.samples}


def test_requests_refusals_and_batches_are_counted_by_route_and_code(watched: TestClient, small: Small) -> None:
    data = (small.images / "i0000.png").read_bytes()
    assert watched.post("/v1/encode", content=data, headers=PNG).status_code == 200
    assert watched.post("/v1/encode", content=b"x", headers=PNG).status_code == 415
    assert watched.get("/v1/features/3").status_code == watched.head("/v1/features/4").status_code == 200
    assert watched.get("/v1/patient-007").status_code == 404
    assert watched.get("/v1/features", headers={"host": "evil.example"}).status_code == 403
    seen = figures(watched)
    assert seen["medsae_http_requests_total", "/v1/encode", "200"] == 1
    assert seen["medsae_http_refusals_total", "image_not_an_image", "/v1/encode"] == 1
    assert seen["medsae_http_requests_total", "/v1/features/{feature}", "200"] == 2
    assert seen["medsae_http_refusals_total", "not_found", "none"] == 1
    assert seen["medsae_http_refusals_total", "wrong_host", "none"] == 1
    assert seen["medsae_encode_batch_size_sum",] == seen["medsae_encode_batch_size_count",] == 1
    assert seen["medsae_http_seconds_count", "/v1/encode"] == 2 and seen["medsae_http_under_way",] == 0
    assert not any("patient" in part for name in seen for part in name)


def test_calls_of_the_engine_are_counted_with_their_outcome_and_tokens() -> None:
    import asyncio

    from medsae_ray.errors import EngineError
    from medsae_ray.service.errors import Problem
    from tests.service.test_engine import WRITING, Moody, failing, link, picture, well

    good, bad = link(Moody(well)), link(Moody(failing(EngineError("gone"))))
    asyncio.run(good.ask(picture(1), ["?"]))
    asyncio.run(good.chat({"usage": {"prompt_tokens": 9, "completion_tokens": 4}}))
    bad.metrics = good.metrics
    with pytest.raises(Problem):
        asyncio.run(bad.write(WRITING))
    text = good.metrics.text().decode()
    assert 'medsae_engine_calls_total{call="ask",outcome="ok"} 1.0' in text
    assert 'medsae_engine_calls_total{call="write",outcome="engine_lost"} 1.0' in text
    assert 'medsae_engine_tokens_total{kind="output"} ' in text and "medsae_engine_under_way 0.0" in text


def test_every_request_has_a_line_without_anything_that_the_caller_wrote(watched: TestClient, small: Small) -> None:
    log, secret = StringIO(), "".join(("SEC", "RET"))
    handler = logging.StreamHandler(log)
    handler.setFormatter(JsonLines())
    logger = logging.getLogger("medsae_ray.access")
    logger.addHandler(handler)
    logger.setLevel("INFO")
    try:
        data = (small.images / "i0000.png").read_bytes()
        headers = {"user-agent": secret, "authorization": f"Bearer {secret}", "x-forwarded-for": secret}
        sent = watched.post(
            f"/v1/encode?top=3&{secret}=1", files={"image": (f"{secret}.png", data, "image/png")}, headers=headers
        )
        watched.get(f"/{secret}/{secret}", headers=headers)
        watched.get("/v1/features", params={"text": secret})
        watched.request(secret, "/v1/features")
    finally:
        logger.removeHandler(handler)
    lines: list[dict[str, Any]] = [json.loads(line)["request"] for line in log.getvalue().splitlines()]
    assert secret not in log.getvalue() and len(lines) == 4
    first = lines[0]
    assert (first["method"], first["route"], first["status"], first["code"]) == ("POST", "/v1/encode", 200, None)
    assert first["sent"] == len(sent.content) and first["received"] > len(data) and first["ms"] > 0
    assert [line["code"] for line in lines[1:]] == ["not_found", None, "method_not_allowed"]
    assert lines[3]["method"] == "other"


def test_the_documentation_asks_no_other_host(watched: TestClient) -> None:
    page = watched.get("/docs")
    assert page.status_code == 200 and "default-src 'self'" in page.headers["content-security-policy"]
    linked = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(linked) == 4 and not re.search(r"https?:|//|<script>", page.text)
    for path in linked:
        found = watched.get(f"/{path}")
        assert found.status_code == 200 and found.content, path
    assert "openapi.json" in watched.get("/docs/start.js").text
    assert watched.get("/docs/swagger-ui-es-bundle.js").status_code == 422


def test_every_answer_says_what_a_page_may_do_with_it(watched: TestClient) -> None:
    for path in ("/v1/features", "/nothing", "/v1/health/live"):
        headers = watched.get(path).headers
        assert headers["content-security-policy"].startswith("default-src 'self'")
        assert (headers["x-frame-options"], headers["referrer-policy"]) == ("DENY", "same-origin")
        assert headers["x-content-type-options"] == "nosniff" and "x-medsae-code" not in headers
        assert not [name for name in headers if name.startswith("access-control")]


def test_a_refused_upload_ends_its_connection_and_a_small_one_does_not(watched: TestClient) -> None:
    for size, closes in ((100, False), (2**17, True)):
        refused = watched.post("/v1/encode", content=bytes(size), headers=PNG | {"host": "evil.example"})
        assert refused.status_code == 403 and (refused.headers.get("connection") == "close") is closes
    chunked = watched.post("/v1/encode", content=iter([bytes(10)]), headers=PNG | {"host": "evil.example"})
    assert chunked.status_code == 403 and chunked.headers["connection"] == "close"


def test_the_words_of_libraries_are_not_passed_on(watched: TestClient) -> None:
    import zlib

    from tests.service.test_uploads import bomb, chunk

    text = chunk(b"zTXt", b"x\0\0" + zlib.compress(bytes(2**26)))
    whole = bomb(16, 16)
    swollen = whole[:33] + text + whole[33:]
    answer = watched.post("/v1/encode", content=swollen, headers=PNG)
    assert answer.status_code == 422
    assert not re.search(r"Error|PIL|Plugin|MAX_", answer.json()["error"]["message"])
