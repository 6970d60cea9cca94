"""Names from a vocabulary go through the same test as all others; the engine is a server that speaks OpenAI's API."""

import json
import math
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from medsae_ray import open_artifact
from medsae_ray.config import parse_recipe
from medsae_ray.pipeline import run_recipe
from tests.core.small_medclip import TEMPLATES, TERMS, small_medclip
from tests.support.small import recipe_data, table_dataset


class Server(BaseHTTPRequestHandler):
    """Never has a name for a feature, and answers every question with p(yes) = 0.5."""

    asked: list[str]

    def do_GET(self) -> None:
        self._send({"data": [{"id": "tiny"}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.asked.append(body["messages"][0]["content"][-1]["text"])
        sure = [{"token": token, "logprob": math.log(0.5)} for token in ("yes", "no")]
        choice = {"message": {"content": "{}"}, "logprobs": {"content": [{"top_logprobs": sure}]}}
        self._send({"choices": [choice], "usage": {}})

    def _send(self, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *said: object) -> None:
        return


@pytest.fixture
def server() -> Iterator[tuple[str, list[str]]]:
    """Its URL, and the last texts of all requests."""
    asked: list[str] = []
    listening = ThreadingHTTPServer(("127.0.0.1", 0), type("Noting", (Server,), {"asked": asked}))
    thread = threading.Thread(target=listening.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{listening.server_port}/v1", asked
    listening.shutdown()
    thread.join()
    listening.server_close()


@pytest.mark.parametrize("labels", [["bright", "left"], []], ids=["labels", "no labels"])
def test_names_from_a_vocabulary_are_tested_like_all_others(
    tmp_path: Path, server: tuple[str, list[str]], labels: list[str]
) -> None:
    url, asked = server
    medclip = small_medclip(tmp_path / "medclip")
    data = recipe_data(table_dataset(tmp_path / "data", 200), medclip.weights, engine="loop")
    data["what"]["dataset"]["labels"] = labels
    data["what"] |= {
        "encoder": {"kind": "medclip-vit"},
        "split": {"sae": 0.3, "naming": 0.3, "detection": 0.4},
        "sae": {"width": 6, "k": 3, "epochs": 10, "batch_size": 16},
        "vocabulary": {"terms": TERMS, "templates": TEMPLATES, "draws": 200, "q": 0.999},
        "naming": {"positives": 3, "contrasts": 2, "attempts": 1, "image_size": 32,
                   "detection": {"positives": 10, "negatives": 10, "support": 10, "pool": 20}},
    }  # fmt: skip
    data["how"]["paths"]["tokenizer"] = str(medclip.tokenizer)
    data["how"]["vlm"] = {"model": "tiny", "url": url}
    summary = run_recipe(parse_recipe(data), str(tmp_path / "root"))

    tables = {
        s: open_artifact(next((tmp_path / "root").glob(f"{s}-*"))).table() for s in ("scores", "vocabulary_names")
    }
    named = {row["feature"]: row["name"] for row in tables["vocabulary_names"].to_pylist() if row["name"]}
    rows = [row for row in tables["scores"].to_pylist() if row["source"] == "vocabulary"]
    tested = [row for row in rows if row["verdict"] == ("untested" if labels else "rejected") and row["n_pos"]]
    assert len(rows) == 6 and tested and all(row["name"] == named[row["feature"]] for row in tested)
    assert all(row["auroc"] == 0.5 and row["n_pos"] == 10 for row in tested)
    assert {row["name"] for row in tested} <= {
        term for term in TERMS if any(f"visible? {term}." in text for text in asked)
    }
    # Without a label nothing says what the model can see, so its answers, all the same, are held against the controls.
    assert all("cannot see this data set" in row["reason"] for row in tested if labels)
    assert ("model_blind" if labels else "no_labels") in {warning["code"] for warning in summary["warnings"]}
    assert (
        summary["vocabulary_names"]["untested" if labels else "rejected"] >= len(tested)
        and summary["vocabulary_names"]["verified"] == 0
    )
    assert sum(summary["names"][kind] for kind in ("failed", "insufficient_support", "dead")) == 6
    page = (tmp_path / "root" / "report.html").read_text()
    assert "Name by the vocabulary" in page and tested[0]["name"] in page
    assert ("The data set has no labels, so the model's ceiling was not measured" in page) == (not labels)
    assert set(summary["findings"]) == set(labels)
