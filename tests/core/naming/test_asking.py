import asyncio
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from medsae_ray.core.artifacts.store import Store
from medsae_ray.core.naming.asking import NamingGroups, addresses, at_most, detect, images_of, name_feature
from medsae_ray.core.naming.engine import BATCH, FAILED, ImageAnswers, Usage, Writing, Written, Wrote
from medsae_ray.core.naming.failures import Failures
from medsae_ray.core.naming.ledger import Ledger, answers_schema, replies
from medsae_ray.core.naming.pictures import BLANK, Pictures, picture
from medsae_ray.core.naming.plan import Concept, Need, Plan
from medsae_ray.errors import EngineError
from tests.core.naming.plain_engine import PlainEngine, brightness, reply
from tests.support.usual import naming_rules, reading

NEEDS = [
    Need(Concept("bright"), ["i0", "i1", "i2", BLANK]),
    Need(Concept("left", "the left half"), ["i2", "i3"]),
    Need(Concept("bright"), ["i3", "broken"]),
]


@pytest.fixture
def pictures(tmp_path: Path) -> Pictures:
    for number in range(6):
        Image.fromarray(np.full((40, 30), 40 * number, np.uint8)).save(tmp_path / f"i{number}.png")
    (tmp_path / "broken.png").write_bytes(b"not an image")
    uri_of = {name: f"{name}.png" for name in [*(f"i{n}" for n in range(6)), "broken"]}
    return Pictures(Store(str(tmp_path)), uri_of, 16, reading(max_pixels=1_000_000))


def ask(engine: PlainEngine, pictures: Pictures, ledger: Ledger, limit: int = 2) -> Plan:
    where = asyncio.run(addresses(engine.identity, pictures, images_of(NEEDS)))
    plan = Plan.of(NEEDS, where, ledger.load().answered())
    asyncio.run(detect(engine, plan, pictures, ledger, limit, lambda n: None))
    return plan


def test_every_question_is_asked_once_and_its_answer_kept(pictures: Pictures, tmp_path: Path) -> None:
    ledger, engine = Ledger(Store(str(tmp_path / "l")), answers_schema()), PlainEngine()
    plan = ask(engine, pictures, ledger)
    assert plan.unreadable == 1 and set(engine.questions.values()) == {1} and engine.questions.total() == 7
    rows = {(row["image_id"], row["name"]): row["p_yes"] for row in ledger.load().table.to_pylist()}
    assert rows == {
        **{(f"i{n}", "bright"): pytest.approx(40 * n / 255) for n in range(4)},
        **{(f"i{n}", "left"): pytest.approx(40 * n / 255) for n in (2, 3)},
        (BLANK, "bright"): pytest.approx(128 / 255),
    }


def test_what_was_answered_before_the_engine_broke_is_not_asked_again(pictures: Pictures, tmp_path: Path) -> None:
    ledger, broken, whole = (
        Ledger(Store(str(tmp_path / "l")), answers_schema()),
        PlainEngine(break_after=3),
        PlainEngine(),
    )
    with pytest.raises(ConnectionError):
        ask(broken, pictures, ledger)
    ask(whole, pictures, ledger)
    assert not set(broken.questions) & set(whole.questions)
    assert (broken.questions + whole.questions).total() == 7


def test_another_model_is_another_address(pictures: Pictures, tmp_path: Path) -> None:
    ledger, first, other = Ledger(Store(str(tmp_path / "l")), answers_schema()), PlainEngine(), PlainEngine()
    other.identity = "plain-2"
    ask(first, pictures, ledger)
    ask(other, pictures, ledger)
    assert first.questions == other.questions


class Failing(PlainEngine):
    """Answers the first `well` images, and fails all questions about the others."""

    def __init__(self, well: int, reason: str = "HTTP 400: too long (request 7f3a)") -> None:
        super().__init__()
        self.well, self.reason = well, reason

    async def ask(self, image: bytes, questions: list[str], priority: int = BATCH) -> ImageAnswers:
        self.well -= 1
        if self.well >= 0:
            return await super().ask(image, questions, priority)
        return ImageAnswers([FAILED._replace(failed=self.reason)] * len(questions), Usage(len(questions)))

    async def write(self, writing: Writing, priority: int = BATCH) -> Wrote:
        return Wrote(Written("", f"error: {self.reason}"), Usage(1))


def test_most_questions_failing_ends_the_run_and_their_failures_are_no_answers(
    pictures: Pictures, tmp_path: Path
) -> None:
    ledger = Ledger(Store(str(tmp_path / "l")), answers_schema())
    with pytest.raises(EngineError, match=r"[4-7] of 7 questions could not be answered, .* reason: HTTP 400: too long"):
        ask(Failing(1), pictures, ledger, limit=1)
    answered = ledger.load().answered()
    assert 0 < len(answered) < 4
    whole = PlainEngine()
    ask(whole, pictures, ledger)
    assert whole.questions.total() == 7 - len(answered) and len(ledger.load().answered()) == 7


def test_a_few_questions_that_fail_are_kept_with_their_reason_and_asked_again(
    pictures: Pictures, tmp_path: Path
) -> None:
    ledger = Ledger(Store(str(tmp_path / "l")), answers_schema())
    ask(Failing(4), pictures, ledger, limit=1)
    failed = {row["failed"] for row in ledger.load().table.to_pylist() if row["failed"]}
    assert failed == {"HTTP 400: too long (request 7f3a)"}
    again = PlainEngine()
    ask(again, pictures, ledger)
    assert 0 < again.questions.total() < 4 and len(ledger.load().answered()) == 7


def test_failures_before_any_answer_end_a_long_run_soon_and_one_cause_is_one() -> None:
    failures = Failures("questions", 10_000)
    failures.add(f"HTTP 400: request req_{i:04x}a failed after {i} ms" for i in range(19))
    with pytest.raises(EngineError, match=r"20 of 10000 questions could not be answered, 20 of them"):
        failures.add(["HTTP 400: request req_9f failed after 3 ms"])
    going = Failures("questions", 100, answered=1)
    going.add(["x"] * 50 + [None])
    with pytest.raises(EngineError, match="51 of 100"):
        going.add(["x"])


@pytest.mark.parametrize("limit", [1, 3])
def test_no_more_images_than_the_limit_are_under_way(pictures: Pictures, tmp_path: Path, limit: int) -> None:
    engine = PlainEngine()
    ask(engine, pictures, Ledger(Store(str(tmp_path / "l")), answers_schema()), limit)
    assert engine.most == limit


def test_after_an_error_nothing_more_is_begun_and_what_is_under_way_is_finished() -> None:
    done: list[int] = []

    async def work(item: int) -> int:
        if item == 2:
            raise ValueError("two")
        await asyncio.sleep(0.01 * item)
        return item

    with pytest.raises(ValueError, match="two"):
        asyncio.run(at_most(3, range(100), work, done.append))
    assert done == [0, 1]


def name(engine: PlainEngine, pictures: Pictures, ledger: Ledger, **rules: Any) -> Any:
    known = {row["address"]: row for row in ledger.load().table.to_pylist()}
    groups = NamingGroups(7, ["i4", "i5"], ["i0"])
    return asyncio.run(name_feature(engine, groups, pictures, ledger, known, naming_rules(**rules)))


def test_a_name_is_asked_for_again_until_it_fits_the_schema(pictures: Pictures, tmp_path: Path) -> None:
    ledger = Ledger(Store(str(tmp_path / "l")), replies())
    engine = PlainEngine(["no json", reply(name=""), reply()])
    named = name(engine, pictures, ledger)
    assert named.tried.name.name == "bright image" and named.tried.attempts == 3 and named.usage.requests == 3
    assert engine.temperatures == [0.0, 0.7, 0.7]
    again = name(PlainEngine(["never asked"]), pictures, ledger)
    assert again.tried.name == named.tried.name and again.usage.requests == 0


def test_a_name_that_never_fits_is_a_failure_with_its_last_reply(pictures: Pictures, tmp_path: Path) -> None:
    ledger = Ledger(Store(str(tmp_path / "l")), replies())
    named = name(PlainEngine(["no json"]), pictures, ledger, attempts=2)
    assert named.tried[:3] == (None, "no json", 2) and "JSON" in named.tried.problem
    assert ledger.load().table.num_rows == 2


def test_a_name_that_no_request_came_back_with_says_why(pictures: Pictures, tmp_path: Path) -> None:
    ledger = Ledger(Store(str(tmp_path / "l")), replies())
    failed = name(Failing(0), pictures, ledger, attempts=2)
    assert failed.failed == "error: HTTP 400: too long (request 7f3a)" and failed.tried.name is None
    assert name(PlainEngine(["no json"]), pictures, ledger, attempts=2).failed is None
    assert name(PlainEngine(), pictures, ledger, attempts=2).failed is None


def test_pictures_are_small_grey_and_free_of_metadata(tmp_path: Path) -> None:
    image = Image.new("RGB", (300, 200), (200, 10, 10))
    image.save(tmp_path / "a.jpg", comment=b"Jane Doe")
    png = Pictures(Store(str(tmp_path)), {"a": "a.jpg"}, 64, reading(max_pixels=1_000_000)).png("a")
    assert png is not None and b"Jane" not in png
    with Image.open(io.BytesIO(png)) as made:
        assert made.size == (64, 43) and made.mode == "L" and not made.info
    assert 0 < brightness(png) < 1


def test_a_picture_leaves_the_image_that_it_is_made_of_alone() -> None:
    for mode in ("L", "RGB"):
        image = Image.new(mode, (300, 200))
        image.info["comment"] = "Jane Doe"
        assert b"Jane" not in picture(image, 64)
        assert image.size == (300, 200) and image.info
