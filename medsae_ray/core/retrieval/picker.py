"""The asking of a model for picks: tried first on names of its own list, then up to three attempts at a query."""

from dataclasses import dataclass, field

from medsae_ray.core.naming.attempts import Reply
from medsae_ray.core.naming.engine import ONLINE, Engine
from medsae_ray.core.retrieval.negation import QueryRefused, Wish
from medsae_ray.core.retrieval.picking import (
    LEAST_RIGHT,
    LISTED,
    Entry,
    Picks,
    check_picks,
    control_places,
    parse_picks,
    picking_writing,
)
from medsae_ray.errors import NamingError

ATTEMPTS = 3


@dataclass(frozen=True)
class Picker:
    """The names that a model may pick from."""

    entries: list[Entry]
    """All names, in the order of the list."""
    _able: dict[str, str | None] = field(default_factory=dict)
    """Model -> why it is not used; None if it is."""

    @property
    def listed(self) -> list[Entry]:
        """The names on the list."""
        return self.entries[:LISTED]

    async def picks(self, engine: Engine, wish: Wish, query: str, most: int, exactly: bool = False) -> Picks:
        """Ask for the picks of a query. Raises QueryRefused if the model cannot pick, gives no answer that can be read,
        or contradicts the query."""
        if len(self.listed) < max(2, most if exactly else 0):
            raise QueryRefused(f"{len(self.listed)} features have names, too few to pick from")
        if why := await self._unable(engine):
            raise QueryRefused(why)
        picks = await self._asked(engine, query, most, exactly)
        check_picks(picks, wish, self.listed)
        return picks

    async def _unable(self, engine: Engine) -> str | None:
        if engine.identity not in self._able:
            places = control_places(self.listed)
            right = [await self._finds(engine, place) for place in places]
            needed = min(LEAST_RIGHT, len(places))
            why = f"the model finds {sum(right)} of {len(right)} names of the list that are asked for literally"
            self._able[engine.identity] = None if sum(right) >= needed else f"{why}, so its picks are not used"
        return self._able[engine.identity]

    async def _finds(self, engine: Engine, place: int) -> bool:
        try:
            return (await self._asked(engine, self.listed[place].name, 3, False)).want[:1] == (place,)
        except QueryRefused:
            return False

    async def _asked(self, engine: Engine, query: str, most: int, exactly: bool) -> Picks:
        why = ""
        for attempt in range(ATTEMPTS):
            writing = picking_writing(self.listed, query, most, exactly, attempt)
            reply = Reply.of((await engine.write(writing, ONLINE)).written)
            if reply.text is None:
                why = "the model gave no answer"
                continue
            try:
                return parse_picks(reply.text, len(self.listed), most, exactly)
            except NamingError as error:
                why = str(error)
        raise QueryRefused(f"the model's answer cannot be used after {ATTEMPTS} attempts: {why}")
