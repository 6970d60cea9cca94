import asyncio

import pytest

from medsae_ray.core.naming.attempts import Reply, Tried, until_named
from medsae_ray.core.naming.engine import Writing, Written
from medsae_ray.core.naming.prompts import naming_message, naming_schema
from tests.core.naming.plain_engine import reply
from tests.support.usual import naming_rules

A, B = [b"a1", b"a2"], [b"b1"]


def tried(*replies: Written, attempts: int = 3) -> tuple[Tried, list[int]]:
    asked: list[int] = []

    async def reply_to(attempt: int) -> Reply:
        asked.append(attempt)
        return Reply.of(replies[min(attempt, len(replies) - 1)])

    return asyncio.run(until_named(naming_rules(attempts=attempts), 2, reply_to)), asked


def test_the_first_attempt_is_greedy_and_each_has_a_seed_of_its_own() -> None:
    rules = naming_rules(temperature=0.4, max_tokens=99, seed=7)
    first, second = (rules.writing(A, B, attempt) for attempt in (0, 1))
    assert first == Writing(naming_message(A, B), naming_schema(2), 7, 0.0, 99)
    assert second == first._replace(seed=8, temperature=0.4)


def test_attempts_end_with_the_first_answer_that_fits() -> None:
    found, asked = tried(Written("no json", "stop"), Written(reply(), "stop"), Written("never asked", "stop"))
    assert asked == [0, 1] and found.name is not None
    assert (found.name.name, found.reply, found.attempts, found.problem) == ("bright image", reply(), 2, None)


@pytest.mark.parametrize(
    ("last", "text", "problem"),
    [
        (Written("{", "length"), "{", "cut off: "),
        (Written("{", "stop"), "{", ""),
        (Written("", "error: ValueError: too long"), None, "error: ValueError: too long"),
    ],
)
def test_the_last_attempt_says_why_there_is_no_name(last: Written, text: str | None, problem: str) -> None:
    found, asked = tried(last, attempts=2)
    assert asked == [0, 1] and found[:3] == (None, text, 2)
    assert found.problem is not None and found.problem.startswith(problem) and len(found.problem) > 10
