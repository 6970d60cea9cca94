"""The requests of SAIL's naming and ranking: each answer is kept, and asked for once."""

import asyncio
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from medsae_ray.core.naming.asking import at_most
from medsae_ray.core.naming.attempts import Reply
from medsae_ray.core.naming.engine import Engine, Usage, Writing
from medsae_ray.core.naming.failures import Failures
from medsae_ray.core.naming.ledger import Ledger
from medsae_ray.core.naming.pictures import Pictures
from medsae_ray.core.naming.plan import content_address
from medsae_ray.core.naming.ranking import Arm, Exhibit, Task, naming_writing, ranking_writing

NO_FEATURE = -1
"""The feature of a question about a label, in the ledger."""


class Request(NamedTuple):
    """A name to ask for, or a ranking if there is a `task`."""

    key: tuple[Arm, int]
    """The arm, and the feature or, below 0, the number of a label's question."""
    feature: int
    arm: Arm
    image_ids: Sequence[str]
    values: Sequence[float] | None
    """The feature's activations, for a name."""
    task: Task | None = None


class Answered(NamedTuple):
    """The answer to a request."""

    request: Request
    reply: Reply
    usage: Usage


def writing_address(writing: Writing, identity: str) -> str:
    """Return the address of a written answer: all that it depends on."""
    parts = [part if isinstance(part, str) else hashlib.sha256(part).hexdigest() for part in writing.parts]
    return content_address("written", parts, *writing[1:], identity)


@dataclass(frozen=True)
class Asker:
    """The model, its ledger, and the images as it is shown them."""

    engine: Engine
    ledger: Ledger
    pictures: Pictures
    metadata_of: Mapping[str, str]
    """Image -> its metadata in words."""
    seed: int
    limit: int
    """The requests under way at once."""

    async def each(self, what: str, requests: Sequence[Request], step: Callable[[Answered], None]) -> list[Answered]:
        """Answer all requests; those in the ledger are not asked again. Raises EngineError once most have failed."""
        known: dict[str, dict[str, Any]] = {row["address"]: row for row in self.ledger.load().table.to_pylist()}
        failures, done = Failures(what, len(requests)), list[Answered]()

        def keep(answered: Answered) -> None:
            done.append(answered)
            step(answered)
            failures.add([answered.reply.failed])

        await at_most(self.limit, requests, lambda request: self._answer(request, known), keep)
        return done

    async def _answer(self, request: Request, known: Mapping[str, dict[str, Any]]) -> Answered:
        shown = await asyncio.to_thread(self._exhibits, request)
        if shown is None:
            return Answered(request, Reply(None, "", None), Usage())
        if request.task is None:
            writing = naming_writing(shown, request.arm, self.seed)
        else:
            writing = ranking_writing(shown, request.arm, request.task, self.seed)
        where = writing_address(writing, self.engine.identity)
        row = known.get(where)
        if row is not None and not row["failed"]:
            return Answered(request, Reply(row["text"], row["finish"], None), Usage())
        wrote = await self.engine.write(writing)
        reply = Reply.of(wrote.written)
        row = {"address": where, "feature": request.feature, "attempt": 0, **reply._asdict()}
        await asyncio.to_thread(self.ledger.append, [row])
        return Answered(request, reply, wrote.usage)

    def _exhibits(self, request: Request) -> list[Exhibit] | None:
        """Return the images of a request; None if one cannot be read."""
        values: Iterable[float | None] = request.values or [None] * len(request.image_ids)
        shown = []
        for image_id, value in zip(request.image_ids, values, strict=True):
            png = b"" if request.arm == "metadata" else self.pictures.png(image_id)
            if png is None:
                return None
            shown.append(Exhibit(png, self.metadata_of.get(image_id, ""), value))
        return shown
