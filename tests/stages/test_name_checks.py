import asyncio
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from medsae_ray.core.artifacts.store import Store
from medsae_ray.core.naming.engine import BATCH, ImageAnswers, Usage, YesNo
from medsae_ray.core.naming.ledger import Ledger, answers_schema
from medsae_ray.core.naming.pictures import Pictures
from medsae_ray.runtime.board import Board
from medsae_ray.stages.name_checks import TAKEN_BACK, checked
from tests.core.naming.plain_engine import PlainEngine, brightness
from tests.support.usual import reading

N = 20
SHOWN = [{"image_id": f"i{n}", "value": float(n >= N // 2)} for n in range(N)]
"""The brighter half is active."""


class Naming(PlainEngine):
    """To it "bright" is true of bright images, "glaring" of the brightest alone, and "round" means nothing."""

    async def ask(self, image: bytes, questions: list[str], priority: int = BATCH) -> ImageAnswers:
        light = brightness(image)
        p = {"bright": light, "glaring": float(light > 0.85), "round": 0.5}
        self.questions.update((light, question) for question in questions)
        said = [next(p[word] for word in p if word in question) for question in questions]
        return ImageAnswers([YesNo(value, 1.0) for value in said], Usage(len(questions)))


@pytest.fixture
def pictures(tmp_path: Path) -> Pictures:
    for n in range(N):
        Image.fromarray(np.full((20, 20), 12 * n, np.uint8)).save(tmp_path / f"i{n}.png")
    return Pictures(Store(str(tmp_path)), {f"i{n}": f"i{n}.png" for n in range(N)}, 16, reading(max_pixels=1_000_000))


def row(name: str, alternatives: list[str], feature: int = 0) -> dict[str, Any]:
    said = {"definition": f"it is {name}", "category": "exposure", "confidence": "high", "fraction_of_a": 1.0}
    known = {"feature": feature, "source": "vlm", "status": "named", "attempts": 1, "evidence": "{}"}
    return known | said | {"name": name, "alternatives": alternatives}


def run(rows: list[dict[str, Any]], pictures: Pictures, tmp_path: Path, shown: Any = None) -> tuple[list[Any], Naming]:
    engine, ledger = Naming(), Ledger(Store(str(tmp_path / "ledger")), answers_schema())
    checks = {row["feature"]: SHOWN for row in rows} if shown is None else shown
    open_bar = partial(Board().bar, "names")
    kept, _ = asyncio.run(checked(rows, checks, engine, engine.identity, pictures, ledger, 4, open_bar))
    return kept, engine


def test_a_wider_name_that_the_model_finds_again_takes_the_place_of_a_narrow_one(
    pictures: Pictures, tmp_path: Path
) -> None:
    (best,), engine = run([row("glaring", ["round", "bright"])], pictures, tmp_path)
    assert (best["name"], best["alternatives"], best["definition"]) == ("bright", ["glaring", "round"], None)
    assert "AUROC 1.00 on 20 images" in best["choice"] and "it first said 'glaring'" in best["choice"]
    assert engine.questions.total() == 3 * N


def test_the_first_name_stays_with_what_was_said_of_it_unless_another_is_better(
    pictures: Pictures, tmp_path: Path
) -> None:
    rows = [row("bright", ["glaring"], 0), row("bright", ["bright"], 1)]
    assert run(rows, pictures, tmp_path)[0] == rows


def test_names_none_of_which_is_found_again_are_taken_back(pictures: Pictures, tmp_path: Path) -> None:
    (none,), _ = run([row("round", ["Round!", "a round one"])], pictures, tmp_path)
    assert none["status"] == "abstained" and "name" not in none and none["evidence"].startswith(TAKEN_BACK)
    assert "'round' does not tell 10 other images" in none["evidence"] and "'a round one'" in none["evidence"]


def test_a_feature_without_images_to_check_on_keeps_its_first_name(pictures: Pictures, tmp_path: Path) -> None:
    rows = [row("round", ["bright"])]
    kept, engine = run(rows, pictures, tmp_path, {})
    assert kept == rows and not engine.questions
