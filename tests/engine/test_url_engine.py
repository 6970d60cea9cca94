"""A naming run on a server that does not do what it should ends at once, and nothing is taken for an answer."""

import math
from pathlib import Path
from typing import Any

import pytest

from medsae_ray.config import Recipe, parse_recipe
from medsae_ray.core.artifacts.store import Store
from medsae_ray.core.naming.ledger import Ledger, answers_schema
from medsae_ray.errors import EngineError
from medsae_ray.pipeline import run_recipe
from tests.core.naming.plain_engine import reply
from tests.engine.chat_server import Reply, chat_server
from tests.support.small import onnx_encoder, recipe_data, table_dataset


def sure(body: dict[str, Any]) -> tuple[int, Any]:
    """Names every feature alike, and says yes to everything with 0.5."""
    likely = [{"token": token, "logprob": math.log(0.5)} for token in ("yes", "no")]
    text = reply(per_image=["bright"] * 3) if "response_format" in body else "yes"
    return 200, {"choices": [{"message": {"content": text}, "logprobs": {"content": [{"top_logprobs": likely}]}}]}


def without_logprobs(body: dict[str, Any]) -> tuple[int, Any]:
    status, whole = sure(body)
    whole["choices"][0]["logprobs"] = None
    return status, whole


def refusing_schemas(body: dict[str, Any]) -> tuple[int, Any]:
    return (400, {"error": {"message": "no schemas here"}}) if "response_format" in body else sure(body)


def refusing_most(body: dict[str, Any]) -> tuple[int, Any]:
    words = str(body["messages"][0]["content"][-1])
    return sure(body) if "response_format" in body or "anything" in words else (200, {"choices": None})


def out_of_money_after(requests: int) -> Reply:
    left = iter(range(requests))

    def reply_to(body: dict[str, Any]) -> tuple[int, Any]:
        if next(left, None) is None:
            return 402, {"error": {"message": "Insufficient credits"}}
        return sure(body)

    return reply_to


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("data")
    data = recipe_data(table_dataset(folder / "data", 200), onnx_encoder(folder / "e.onnx"), engine="loop")
    data["what"] |= {
        "split": {"sae": 0.3, "naming": 0.3, "detection": 0.4},
        "sae": {"width": 6, "k": 3, "epochs": 2, "batch_size": 16},
        "naming": {"positives": 3, "contrasts": 2, "attempts": 1, "image_size": 32,
                   "detection": {"positives": 10, "negatives": 10, "support": 10, "pool": 20}},
    }  # fmt: skip
    return data


def recipe(data: dict[str, Any], url: str) -> Recipe:
    return parse_recipe(data | {"how": data["how"] | {"vlm": {"model": "tiny", "url": url, "in_flight": 2}}})


def made(root: Path, stage: str) -> bool:
    return bool(list(root.glob(f"{stage}-*/record.json")))


def answered(root: Path) -> int:
    books = [Ledger(Store(str(folder)), answers_schema()).load() for folder in root.glob("ledger/answers-*")]
    return sum(len(book.answered()) for book in books)


def test_a_server_without_log_probabilities_is_told_at_its_first_answer(data: dict[str, Any], tmp_path: Path) -> None:
    with (
        chat_server(without_logprobs) as (url, asked),
        pytest.raises(EngineError, match=f"{url} gives no log-probabilities for 'tiny'.*use a server that gives them"),
    ):
        run_recipe(recipe(data, url), str(tmp_path))
    assert len(asked) == 1 and not made(tmp_path, "names") and not list(tmp_path.glob("ledger/*/rows-*"))


def test_names_that_no_request_brings_are_not_kept_as_failed_names(data: dict[str, Any], tmp_path: Path) -> None:
    with (
        chat_server(refusing_schemas) as (url, _),
        pytest.raises(EngineError, match=r"features could not be answered.*HTTP 400: no schemas here"),
    ):
        run_recipe(recipe(data, url), str(tmp_path))
    assert not made(tmp_path, "names")


def test_answers_that_do_not_come_are_not_kept_as_failed_answers(data: dict[str, Any], tmp_path: Path) -> None:
    with (
        chat_server(refusing_most) as (url, _),
        pytest.raises(EngineError, match=r"questions could not be answered.*the reply has no answer"),
    ):
        run_recipe(recipe(data, url), str(tmp_path))
    assert not made(tmp_path, "names") and not made(tmp_path, "answers") and not answered(tmp_path)


def test_a_run_without_money_stops_and_goes_on_from_there(data: dict[str, Any], tmp_path: Path) -> None:
    with (
        chat_server(out_of_money_after(40)) as (url, _),
        pytest.raises(EngineError, match=r"no money or quota left.*Insufficient credits"),
    ):
        run_recipe(recipe(data, url), str(tmp_path))
    before = answered(tmp_path)
    assert 0 < before <= 40 and not made(tmp_path, "answers")
    with chat_server(sure) as (url, asked):
        summary = run_recipe(recipe(data, url), str(tmp_path))
    assert summary["names"]["failed"] == 0
    assert len(asked) < answered(tmp_path) + 10 and answered(tmp_path) > before
