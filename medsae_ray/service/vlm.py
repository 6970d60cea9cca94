"""Naming and detection on a caller's own images, with the prompts and rules of the batch run."""

import asyncio
import re
from dataclasses import asdict
from typing import Any

from medsae_ray.config import Naming
from medsae_ray.core.artifacts.columns import nan_to_null
from medsae_ray.core.naming.attempts import NamingRules, Reply, until_named
from medsae_ray.core.naming.engine import ONLINE, Engine, ImageAnswers, Usage, YesNo, total
from medsae_ray.core.naming.plan import TRIVIAL
from medsae_ray.core.naming.prompts import question
from medsae_ray.core.naming.scores import LEAST_MASS
from medsae_ray.errors import one_line
from medsae_ray.service.errors import Problem
from medsae_ray.service.limits import RequestLimits

_ANGLE = re.compile(r"[<>]")
AT_ONCE = 4
"""The most images of one request that are with the engine at once."""


def check_groups(n_a: int, n_b: int, naming: Naming) -> None:
    """Raise Problem unless both groups have images, and no more than the engine was started for."""
    for n, most, where in ((n_a, naming.positives, "group_a"), (n_b, naming.contrasts, "group_b")):
        if not 1 <= n <= most:
            raise Problem(422, "invalid", f"{n} images were sent, 1 to {most} are taken", where)


async def name(engine: Engine, group_a: list[bytes], group_b: list[bytes], rules: NamingRules) -> dict[str, Any]:
    """Ask for a name until an answer fits the schema, as often as the recipe allows."""
    spent: list[Usage] = []

    async def reply_to(attempt: int) -> Reply:
        wrote = await engine.write(rules.writing(group_a, group_b, attempt), ONLINE)
        spent.append(wrote.usage)
        reply = Reply.of(wrote.written)
        # What the engine says of its own failure is not the caller's business.
        return reply._replace(failed="the engine could not answer") if reply.failed else reply

    tried = await until_named(rules, len(group_a), reply_to)
    status = "failed" if tried.name is None else "abstained" if tried.name.abstain else "named"
    found = None if tried.name is None else asdict(tried.name)
    done = {"status": status, "name": found, "problem": tried.problem, "attempts": tried.attempts}
    return done | {"model": engine.identity, "usage": total(spent)._asdict()}


Asking = tuple[str, str | None]
"""A name and its definition."""


def concepts(names: list[str], definitions: list[str], limits: RequestLimits) -> list[Asking]:
    """Return the names with their definitions, which come for all names or for none."""
    if not 1 <= len(names) <= limits.names:
        raise Problem(422, "invalid", f"{len(names)} names were sent, 1 to {limits.names} are taken", "names")
    if definitions and len(definitions) != len(names):
        raise Problem(
            422, "invalid", f"{len(definitions)} definitions for {len(names)} names: send one for each", "definitions"
        )
    defined = [_line(text, f"definitions[{i}]", limits) or None for i, text in enumerate(definitions)]
    named = [_line(text, f"names[{i}]", limits) for i, text in enumerate(names)]
    if "" in named:
        raise Problem(422, "invalid", "the name is empty", f"names[{named.index('')}]")
    return list(zip(named, defined or [None] * len(named), strict=True))


def _line(text: str, where: str, limits: RequestLimits) -> str:
    """Make one line. Problem for text that a chat template could take for a control token."""
    if len(text) > limits.text:
        raise Problem(422, "invalid", f"{len(text)} characters, {limits.text} are allowed", where)
    if _ANGLE.search(text):
        raise Problem(422, "invalid", "angle brackets are not allowed", where)
    return one_line(text)


async def detect(engine: Engine, images: list[bytes], asked: list[Asking]) -> dict[str, Any]:
    """Ask every question about every image, and after them the trivial name, which is true of any: a p(yes) says
    something only beside that one. All about one image go together."""
    places = asyncio.Semaphore(AT_ONCE)

    async def about(image: bytes) -> ImageAnswers:
        async with places:
            return await engine.ask(image, [question(*concept) for concept in [*asked, TRIVIAL]], ONLINE)

    of_image = await asyncio.gather(*(about(image) for image in images))
    answers = [
        {"image": i, "name": name, "definition": definition, **_said(answer)}
        for i, found in enumerate(of_image)
        for (name, definition), answer in zip(asked, found.answers[:-1], strict=True)
    ]
    return {
        "answers": answers,
        "trivial": [{"image": i, "name": TRIVIAL.name, **_said(found.answers[-1])} for i, found in enumerate(of_image)],
        "model": engine.identity,
        "usage": total(found.usage for found in of_image)._asdict(),
    }


def _said(answer: YesNo) -> dict[str, Any]:
    """Return an answer. One whose mass is below the batch run's least is none: the model said something else."""
    answered = answer.mass >= LEAST_MASS
    return {"p_yes": nan_to_null(answer.p_yes), "mass": nan_to_null(answer.mass), "answered": answered}
