"""The attempts at a name: their number, their temperature and their end. The same in a run and online."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import NamedTuple

from medsae_ray.core.naming.engine import Writing, Written
from medsae_ray.core.naming.prompts import naming_message, naming_prompt, naming_schema
from medsae_ray.core.naming.reply import Name, parse_name
from medsae_ray.errors import NamingError


@dataclass(frozen=True)
class NamingRules:
    """The number and the decoding of the attempts at a name."""

    attempts: int
    temperature: float
    """The temperature of every attempt but the first, which is greedy."""
    max_tokens: int
    seed: int

    def prompt(self, n_a: int) -> str:
        """Return the identity of the naming prompt for groups A of `n_a` images."""
        return naming_prompt(n_a, temperature=self.temperature, max_tokens=self.max_tokens, seed=self.seed)

    def writing(self, group_a: list[bytes], group_b: list[bytes], attempt: int) -> Writing:
        """Return the request of attempt 0, 1, ... about two groups of images."""
        message, schema = naming_message(group_a, group_b), naming_schema(len(group_a))
        return Writing(message, schema, self.seed + attempt, self.temperature if attempt else 0.0, self.max_tokens)


class Reply(NamedTuple):
    """The outcome of one attempt."""

    text: str | None
    finish: str
    failed: str | None
    """The reason if there is no text."""

    @classmethod
    def of(cls, written: Written) -> "Reply":
        """Take an engine's answer; one that finished with an error has no text."""
        failed = written.finish if written.finish.startswith("error") else None
        return cls(None if failed else written.text, written.finish, failed)


class Tried(NamedTuple):
    """The outcome of all attempts."""

    name: Name | None
    reply: str | None
    """The last answer, unchanged."""
    attempts: int
    problem: str | None
    """The reason why the last answer is not a name; None if it is one."""


async def until_named(rules: NamingRules, n_a: int, reply_to: Callable[[int], Awaitable[Reply]]) -> Tried:
    """Make attempts until a reply fits the schema for a group A of `n_a` images."""
    reply, problem = Reply(None, "", None), "no attempt is allowed"
    for attempt in range(rules.attempts):
        reply = await reply_to(attempt)
        try:
            return Tried(parse_name(reply.text or "", n_a), reply.text, attempt + 1, None)
        except NamingError as error:
            problem = reply.failed or ("cut off: " if reply.finish == "length" else "") + str(error)
    return Tried(None, reply.text, rules.attempts, problem)
