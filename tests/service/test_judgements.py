import csv
import io
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from fastapi.testclient import TestClient

from medsae_ray.core.artifacts.store import Store
from medsae_ray.core.judgements.log import Log
from medsae_ray.service.app import make_app
from medsae_ray.service.desk import Desk
from medsae_ray.service.middleware import digest
from tests.service.conftest import LIMITS, Small
from tests.support.served import served

VOTE = {"reader": "r1", "feature": 2, "kind": "vote", "value": "agree"}
TOKEN = "correct-horse-battery"


@pytest.fixture
def judged(small: Small, tmp_path: Path) -> Desk:
    """The small run below a root of its own, as judgements are kept there."""
    root = tmp_path / "root"
    shutil.copytree(small.root, root)
    artifacts = {name: replace(a, store=Store(str(root)).child(a.name)) for name, a in small.run.artifacts.items()}
    return Desk(replace(small.run, artifacts=artifacts), None, LIMITS)


@pytest.fixture
def judges(judged: Desk) -> Iterator[TestClient]:
    with TestClient(make_app(judged, None), "http://localhost", raise_server_exceptions=False) as client:
        yield client


def log_of(desk: Desk) -> Log:
    return Log(Store(desk.run.atlas.store.uri.rpartition("/")[0]))


def test_a_judgement_is_kept_with_its_run_and_its_time(judges: TestClient, judged: Desk) -> None:
    answer = judges.post("/v1/judgements", json=VOTE | {"reason": "clear\nto see"})
    assert answer.status_code == 200
    kept = answer.json()
    name = judges.get("/v1/features/2").json()["name"]
    assert (kept["atlas"], kept["sae"], kept["name"]) == (judged.run.atlas.name, judged.run.sae.name, name)
    assert kept["reason"] == "clear to see" and kept["at"].endswith("+00:00") and kept["study"] is None
    (stored,) = log_of(judged).read().judgements
    assert stored.key == kept["key"] and stored.value == "agree"
    assert judges.get("/v1/judgements?feature=2").json() == {"judgements": [kept], "unreadable": 0}
    assert judges.get("/v1/judgements?feature=3").json()["judgements"] == []
    assert judges.get("/v1/judgements?reader=r2").json()["judgements"] == []


def test_a_repeated_request_counts_once_and_another_with_its_key_is_refused(judges: TestClient) -> None:
    sent = VOTE | {"key": "an-own-key"}
    first, again = judges.post("/v1/judgements", json=sent), judges.post("/v1/judgements", json=sent)
    assert first.json() == again.json() and len(judges.get("/v1/judgements").json()["judgements"]) == 1
    other = judges.post("/v1/judgements", json=sent | {"value": "disagree"})
    assert other.status_code == 409 and other.json()["error"]["code"] == "key_taken"


@pytest.mark.parametrize(
    ("change", "status", "where"),
    [({"reader": " "}, 422, "body.reader"), ({"value": "maybe"}, 422, "body.value"), ({"kind": "x"}, 422, "body.kind"),
     ({"kind": "rename", "value": "x" * 121}, 422, "body.value"), ({"key": "no"}, 422, "body.key"),
     ({"feature": -1}, 422, "body.feature"), ({"extra": 1}, 422, "body.extra"), ({"feature": 24}, 404, None),
     ({"study": "none"}, 404, None), ({"reason": ""}, 422, "body.reason"),
     ({"kind": "not_a_finding"}, 422, "body.value")],
)  # fmt: skip
def test_what_cannot_be_kept_is_refused_with_its_place(
    judges: TestClient, change: dict[str, Any], status: int, where: str | None
) -> None:
    answer = judges.post("/v1/judgements", json=VOTE | change)
    assert answer.status_code == status and answer.json()["error"].get("where") == where
    assert judges.get("/v1/judgements").json()["judgements"] == []


def test_nobody_writes_from_another_site_or_without_the_token(judges: TestClient, judged: Desk) -> None:
    for headers in ({"origin": "https://evil.example"}, {"sec-fetch-site": "cross-site"}):
        assert judges.post("/v1/judgements", json=VOTE, headers=headers).status_code == 403
        assert judges.post("/v1/studies", json={"name": "x"}, headers=headers).status_code == 403
    with TestClient(make_app(judged, digest(TOKEN))) as locked:
        assert locked.post("/v1/judgements", json=VOTE).status_code == 401
        assert locked.post("/v1/judgements", json=VOTE, headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200
    assert len(log_of(judged).read().judgements) == 1


def test_the_export_has_every_judgement_of_this_run(judges: TestClient, judged: Desk) -> None:
    for feature in (2, 3):
        judges.post("/v1/judgements", json=VOTE | {"feature": feature})
    (first, _) = log_of(judged).read().judgements
    log_of(judged).add(replace(first, key="of-another-run", atlas="atlas-ffffffffffff"))
    for form in ("csv", "jsonl", "parquet"):
        answer = judges.get(f"/v1/judgements/export?form={form}")
        assert answer.status_code == 200 and answer.headers["content-disposition"].endswith(f'.{form}"')
    rows = list(csv.DictReader(io.StringIO(judges.get("/v1/judgements/export").text)))
    assert [row["feature"] for row in rows] == ["2", "3"]
    assert judges.get("/v1/judgements/export?form=xlsx").status_code == 422


def test_a_store_that_cannot_be_written_is_told_without_its_path(judges: TestClient, judged: Desk) -> None:
    folder = Path(judged.run.atlas.store.uri).parent / "judgements"
    folder.write_text("a file where the folder should be")
    answer = judges.post("/v1/judgements", json=VOTE)
    assert answer.status_code == 503 and answer.json()["error"]["code"] == "store_lost"
    assert answer.headers["retry-after"] == "2" and "/" not in answer.json()["error"]["message"]


@pytest.fixture
def tested(judged: Desk) -> Desk:
    """The run as if the names of 12 features had been tested: those of even number are verified."""
    table = judged.atlas._table
    given = ["verified" if n % 2 == 0 else "rejected" if n < 12 else None for n in range(table.num_rows)]
    at = table.column_names.index("verdict")
    judged.atlas._table = table.set_column(at, table.schema.field("verdict").with_nullable(True), pa.array(given))
    return judged


def test_a_study_runs_from_its_draw_to_the_agreement(tested: Desk) -> None:
    with TestClient(make_app(tested, None), "http://localhost", raise_server_exceptions=False) as client:
        study = client.post("/v1/studies", json={"name": "pilot", "seed": 7, "size": 10})
        assert study.status_code == 200 and len(study.json()["features"]) == 10
        assert client.post("/v1/studies", json={"name": "pilot", "seed": 7, "size": 10}).json() == study.json()
        other = client.post("/v1/studies", json={"name": "pilot", "seed": 8, "size": 10})
        assert other.status_code == 409 and other.json()["error"]["code"] == "name_taken"
        for reader, wrong in (("a", ()), ("b", (0, 1))):
            seen = []
            while (shown := client.get(f"/v1/studies/pilot?reader={reader}").json())["next"]:
                feature = shown["next"]["feature"]
                assert "verdict" not in shown["next"] and shown["left"] == 10 - len(seen)
                right = (feature % 2 == 0) != (len(seen) in wrong)
                sent = VOTE | {"feature": feature, "value": "agree" if right else "disagree"}
                sent |= {"reader": reader, "study": "pilot", "blind": True}
                assert client.post("/v1/judgements", json=sent).status_code == 200
                seen.append(feature)
            assert sorted(seen) == sorted(study.json()["features"])
        found = client.get("/v1/judgements/agreement?study=pilot&blind=true").json()
        outside = next(f for f in range(24) if f not in study.json()["features"])
        answer = client.post("/v1/judgements", json=VOTE | {"feature": outside, "study": "pilot"})
        assert answer.status_code == 422 and answer.json()["error"]["where"] == "body.feature"
    assert found["votes"] == {"a": 10, "b": 10} and found["pairs"][0]["agree"] == 0.8
    assert found["model"][0]["kappa"] == 1.0 and found["model"][1]["agree"] == 0.8
    assert found["readers"]["low"] < found["readers"]["kappa"] <= found["readers"]["high"]


def test_a_study_of_more_features_than_have_a_tested_name_is_refused(judges: TestClient) -> None:
    answer = judges.post("/v1/studies", json={"name": "pilot", "size": 500})
    assert answer.status_code == 422 and answer.json()["error"]["where"] == "body.size"
    assert judges.get("/v1/studies/none?reader=a").status_code == 404


def test_the_requests_of_the_guide_are_answered(tested: Desk, tmp_path: Path) -> None:
    text = (Path(__file__).resolve().parents[2] / "docs/guide/judgements.md").read_text()
    shown = re.findall(r"^curl (?:.*\\\n)*.*$", text, flags=re.MULTILINE)
    app = make_app(tested, digest(TOKEN))
    paths = [path for path in app.openapi()["paths"] if "/judgements" in path or "/studies" in path]
    as_described = [re.sub(r"/studies/\w+", "/studies/{name}", command) for command in shown]
    assert not [path for path in paths if not any(re.search(rf"{re.escape(path)}(?![/\w])", c) for c in as_described)]
    with served(app) as url:
        for command in shown:
            there = command.replace("http://127.0.0.1:8000", url).replace("curl -s", "curl -sS --fail-with-body")
            there = there.replace('"size": 20', '"size": 10')
            environment = {**os.environ, "MEDSAE_TOKEN": TOKEN}
            done = subprocess.run(["bash", "-c", there], cwd=tmp_path, env=environment, capture_output=True, text=True)
            assert done.returncode == 0, (command, done.stdout, done.stderr)
    assert (tmp_path / "judgements.csv").read_text().startswith("key,reader,at")
