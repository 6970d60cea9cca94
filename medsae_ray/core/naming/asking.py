"""Requests to an engine: many at once within a bound, and each answer stored before the next request.

Answers in the ledger are not requested again, so a killed run continues where it stopped.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, NamedTuple, TypeVar

from medsae_ray.core.naming.attempts import NamingRules, Reply, Tried, until_named
from medsae_ray.core.naming.engine import Engine, ImageAnswers, Usage, YesNo, total
from medsae_ray.core.naming.failures import Failures
from medsae_ray.core.naming.ledger import Ledger
from medsae_ray.core.naming.pictures import Pictures
from medsae_ray.core.naming.plan import Addresses, ImageQuestions, Need, Plan, reply_address
from medsae_ray.core.naming.prompts import detection_prompt, question

T = TypeVar("T")
R = TypeVar("R")


async def at_most(limit: int, items: Iterable[T], work: Callable[[T], Awaitable[R]], done: Callable[[R], None]) -> None:
    """Run `work` on every item, `limit` at a time; `done` gets each result.

    After an error no more items are begun, but those under way are finished, so that no answer is lost; then the first
    error is raised.
    """
    source, errors = iter(items), list[Exception]()

    async def worker() -> None:
        while not errors:
            try:
                done(await work(next(source)))
            except StopIteration:
                return
            except Exception as error:
                errors.append(error)

    await asyncio.gather(*(worker() for _ in range(limit)))
    if errors:
        raise errors[0]


async def addresses(
    identity: str,
    pictures: Pictures,
    image_ids: Iterable[str],
    limit: int = 8,
    step: Callable[[], None] = lambda: None,
) -> Addresses:
    """Return the addresses of answers about these images, each made once to be hashed, with a call of `step`."""
    sha_of: dict[str, str] = {}

    async def hashed(image_id: str) -> tuple[str, str | None]:
        return image_id, await asyncio.to_thread(pictures.sha, image_id)

    def keep(found: tuple[str, str | None]) -> None:
        step()
        if found[1] is not None:
            sha_of[found[0]] = found[1]

    await at_most(limit, sorted(set(image_ids)), hashed, keep)
    return Addresses(identity, detection_prompt(), sha_of)


async def detect(
    engine: Engine, plan: Plan, pictures: Pictures, ledger: Ledger, limit: int, step: Callable[[ImageAnswers], None]
) -> Usage:
    """Ask all open questions of a plan, image by image; `step` gets the answers about each.

    Raises EngineError once most questions of the plan, including those of earlier runs, have failed.
    """
    spent: list[Usage] = []
    failures = Failures("questions", plan.needed, plan.needed - len(plan))

    async def ask(item: ImageQuestions) -> ImageAnswers:
        image = await asyncio.to_thread(pictures.png, item.image_id)
        assert image is not None, "a plan holds readable images only"
        asked = await engine.ask(image, [question(*concept) for concept in item.concepts])
        rows = [
            {"address": a, "image_id": item.image_id, **c._asdict(), **answer._asdict()}
            for a, c, answer in zip(item.addresses, item.concepts, asked.answers, strict=True)
        ]
        await asyncio.to_thread(ledger.append, rows)
        return asked

    def done(asked: ImageAnswers) -> None:
        spent.append(asked.usage)
        step(asked)
        failures.add(_failed(answer) for answer in asked.answers)

    await at_most(limit, plan, ask, done)
    return total(spent)


def _failed(answer: YesNo) -> str | None:
    return answer.failed or ("p(yes) is not a number" if answer.p_yes != answer.p_yes else None)


class NamingGroups(NamedTuple):
    """The images that one feature is named from."""

    feature: int
    group_a: list[str]
    group_b: list[str]


class Named(NamedTuple):
    """The outcome of the attempts to name a feature."""

    feature: int
    tried: Tried
    usage: Usage
    failed: str | None = None
    """The reason for the last attempt's lack of an answer; None if it has one, or no question was possible."""


async def name_feature(
    engine: Engine, groups: NamingGroups, pictures: Pictures, ledger: Ledger, known: dict[str, Any], rules: NamingRules
) -> Named:
    """Ask for a name until a reply fits the schema; `known` holds rows of the ledger by address."""
    a, b = [await _pngs(pictures, group) for group in (groups.group_a, groups.group_b)]
    if not a or not b:
        return Named(groups.feature, Tried(None, None, 0, "no image of a group can be read"), Usage())
    spent: list[Usage] = []

    async def reply_to(attempt: int) -> Reply:
        where = reply_address(_shas(a), _shas(b), engine.identity, rules.prompt(len(a)), attempt)
        row = known.get(where)
        if row is not None and not row["failed"]:
            return Reply(row["text"], row["finish"], None)
        wrote = await engine.write(rules.writing(a, b, attempt))
        spent.append(wrote.usage)
        reply = Reply.of(wrote.written)
        row = {"address": where, "feature": groups.feature, "attempt": attempt, **reply._asdict()}
        await asyncio.to_thread(ledger.append, [row])
        return reply

    tried = await until_named(rules, len(a), reply_to)
    return Named(groups.feature, tried, total(spent), tried.problem if tried.reply is None else None)


async def _pngs(pictures: Pictures, image_ids: list[str]) -> list[bytes]:
    made = [await asyncio.to_thread(pictures.png, image_id) for image_id in image_ids]
    return [png for png in made if png is not None]


def _shas(pngs: list[bytes]) -> list[str]:
    return [hashlib.sha256(png).hexdigest() for png in pngs]


def images_of(needs: Iterable[Need]) -> set[str]:
    """Return the ids of all images that some need mentions."""
    return {image_id for need in needs for image_id in need.image_ids}
