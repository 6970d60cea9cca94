"""The placing of processes that run at once on the nodes of a cluster, each whole on one node.

Sums do not suffice: 3 CPUs fit on no node of a cluster whose nodes have 2 each. A share of a GPU lies on one device, so
three shares of 0.6 need three of them. Placing is bin packing: a search follows a failed first attempt, and only a
proof of impossibility counts as none.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

UNIT = 10_000
"""The unit in which Ray counts resources: ten-thousandths."""
STEPS = 20_000
"""The placements that a search tries before it gives up without a proof."""
GPU = "GPU"


class Bundle(NamedTuple):
    """The resources that have to be on one node at once."""

    amounts: tuple[tuple[str, float], ...]
    """The resources and amounts, sorted by resource."""

    @classmethod
    def of(cls, amounts: Mapping[str, float]) -> "Bundle":
        """Build a bundle without the resources whose amount is 0."""
        return cls(tuple(sorted((kind, float(amount)) for kind, amount in amounts.items() if amount)))

    def __str__(self) -> str:
        return spelt(dict(self.amounts))


class Unit(NamedTuple):
    """The bundles that one node has to hold together: mostly one, and one per GPU for a model split over several."""

    bundles: tuple[Bundle, ...]

    @property
    def total(self) -> dict[str, float]:
        """The sum of each resource."""
        summed = Counter[str]()
        for bundle in self.bundles:
            summed.update(dict(bundle.amounts))
        return dict(summed)

    def __str__(self) -> str:
        return spelt(self.total)


class Node(NamedTuple):
    """A machine of the cluster and its free resources."""

    name: str
    amounts: Mapping[str, float]


class Kind(NamedTuple):
    """A type of node that the cluster may still start."""

    name: str
    amounts: Mapping[str, float]
    more: int
    """The number of such nodes."""


class Growth(NamedTuple):
    """The nodes that a cluster may still start."""

    kinds: tuple[Kind, ...]
    more: int
    """The most nodes of all kinds together."""


class Placed(NamedTuple):
    """A way to place everything."""

    new: tuple[str, ...] = ()
    """The kinds of the nodes to start, one entry for each node."""
    sure: bool = True
    """False if the search was given up without a placement or a proof that there is none."""


NO_GROWTH = Growth((), 0)


def spelt(amounts: Mapping[str, float]) -> str:
    """Write resources as Ray does: {CPU: 1, GPU: 0.5}."""
    return "{" + ", ".join(f"{kind}: {amount:g}" for kind, amount in sorted(amounts.items())) + "}"


class _Room(NamedTuple):
    """The free resources of a node, in ten-thousandths."""

    plain: tuple[tuple[str, int], ...]
    devices: tuple[int, ...]
    """The free share of each GPU, the fullest GPU first."""
    kind: str | None
    """The kind of an empty node that is yet to be started; None for an existing node."""

    @classmethod
    def of(cls, amounts: Mapping[str, float], kind: str | None = None) -> "_Room":
        units = {name: round(amount * UNIT) for name, amount in amounts.items()}
        whole, rest = divmod(units.pop(GPU, 0), UNIT)
        devices = (*([rest] if rest else []), *[UNIT] * whole)
        return cls(tuple(sorted(units.items())), devices, kind)

    def without(self, unit: Unit) -> "_Room | None":
        """Return the rest of the room after `unit`; None if it does not fit."""
        room: _Room | None = self
        for bundle in unit.bundles:
            room = room and room._without(bundle)
        return room

    def _without(self, bundle: Bundle) -> "_Room | None":
        plain = dict(self.plain)
        devices: tuple[int, ...] | None = self.devices
        for kind, amount in bundle.amounts:
            wanted = round(amount * UNIT)
            if kind == GPU:
                devices = _taken(self.devices, wanted)
            elif plain.get(kind, 0) < wanted:
                return None
            else:
                plain[kind] -= wanted
        return None if devices is None else _Room(tuple(sorted(plain.items())), devices, None)


def _taken(devices: tuple[int, ...], wanted: int) -> tuple[int, ...] | None:
    """Return the devices less a share of one, or less whole ones; Ray takes the fullest device with room."""
    if wanted >= UNIT:
        whole = [device for device in devices if device == UNIT]
        count = -(-wanted // UNIT)
        if len(whole) < count:
            return None
        return (*(device for device in devices if device != UNIT), *whole[count:])
    place = next((place for place, device in enumerate(devices) if device >= wanted), None)
    if place is None:
        return None
    left = devices[place] - wanted
    return tuple(sorted((*devices[:place], *devices[place + 1 :], left)))


def place(units: Iterable[Unit], nodes: Iterable[Node], growth: Growth = NO_GROWTH) -> Placed | None:
    """Place all `units` at once, without new nodes if possible; None if there is no way."""
    ordered = sorted(units, key=_size, reverse=True)
    rooms = [_Room.of(node.amounts) for node in nodes]
    found = _place(ordered, rooms, 0)
    if (found and found.sure) or not growth.more:
        return found
    more = min(growth.more, len(ordered))
    new = [_Room.of(kind.amounts, kind.name) for kind in growth.kinds for _ in range(min(kind.more, more))]
    return _place(ordered, rooms + new, more) or found


def _size(unit: Unit) -> tuple[float, float]:
    return unit.total.get(GPU, 0.0), sum(unit.total.values())


def _place(units: Sequence[Unit], rooms: list[_Room], more: int) -> Placed | None:
    if _too_many(units, rooms):
        return None
    return _Search(units).run(Counter(rooms), more)


def _too_many(units: Sequence[Unit], rooms: Sequence[_Room]) -> bool:
    """Return True if a resource, or room for one kind of unit, is short on all nodes together."""
    for kind in {kind for unit in units for kind in unit.total}:
        have = sum(sum(room.devices) if kind == GPU else dict(room.plain).get(kind, 0) for room in rooms)
        if sum(round(unit.total.get(kind, 0) * UNIT) for unit in units) > have:
            return True
    return any(_room_for(unit, rooms, count) < count for unit, count in Counter(units).items())


def _room_for(unit: Unit, rooms: Sequence[_Room], most: int) -> int:
    """Count the copies of `unit` alone that fit, up to `most`."""
    found = 0
    for room, alike in Counter(rooms).items():
        left, each = room.without(unit), 0
        while left is not None and each < most:
            left, each = left.without(unit), each + 1
        found += each * alike
        if found >= most:
            return most
    return found


class _Frame(NamedTuple):
    """A state of the search, with some units placed."""

    rooms: dict[_Room, int]
    """The rooms with the number of each."""
    more: int
    """The number of nodes that may still be started."""
    choices: list[_Room]
    """The rooms for the next unit, the one to try first at the end."""
    kind: str | None
    """The kind of the node that was started for this state."""


class _Search:
    """A depth-first search, the largest unit first; one of several equal rooms is tried."""

    def __init__(self, units: Sequence[Unit]) -> None:
        self.units = units
        self.failed: set[tuple[int, frozenset[tuple[_Room, int]]]] = set()

    def run(self, rooms: Mapping[_Room, int], more: int) -> Placed | None:
        """Return the first placement found; up to `more` of the rooms that are yet to be started may be used."""
        frames, steps = [self._frame(0, dict(rooms), more, None)], 0
        while frames and steps <= STEPS:
            frame, at = frames[-1], len(frames) - 1
            if at == len(self.units):
                return Placed(tuple(frame.kind for frame in frames if frame.kind))
            if not frame.choices:
                self.failed.add((at, frozenset(frame.rooms.items())))
                frames.pop()
                continue
            steps += 1
            room = frame.choices.pop()
            after = _after(frame.rooms, room, self.units[at])
            if (at + 1, frozenset(after.items())) not in self.failed:
                frames.append(self._frame(at + 1, after, frame.more - (room.kind is not None), room.kind))
        return Placed(sure=False) if frames else None

    def _frame(self, at: int, rooms: dict[_Room, int], more: int, kind: str | None) -> _Frame:
        """Order the choices: existing nodes before new ones, and the fullest first."""
        if at == len(self.units):
            return _Frame(rooms, more, [], kind)
        fitting = [room for room in rooms if (room.kind is None or more) and room.without(self.units[at])]
        ordered = sorted(fitting, key=lambda room: (room.kind is not None, _free(room), str(room)), reverse=True)
        return _Frame(rooms, more, ordered, kind)


def _after(rooms: Mapping[_Room, int], room: _Room, unit: Unit) -> dict[_Room, int]:
    left = room.without(unit)
    assert left is not None, "a choice has room"
    after = dict(rooms)
    after[room] -= 1
    if not after[room]:
        del after[room]
    after[left] = after.get(left, 0) + 1
    return after


def _free(room: _Room) -> int:
    return sum(room.devices) + sum(amount for _, amount in room.plain)
