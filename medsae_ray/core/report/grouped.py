"""Features that are copies of each other, shown once."""

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

Row = dict[str, Any]  # one row of the atlas


class ShownRows(NamedTuple):
    """The ranked rows without copies."""

    rows: list[Row]
    """One row of each group, at the place of its first, and all rows without a copy."""
    stands_for: dict[int, list[int]]
    """The hidden copies of each feature on the page, ascending."""

    def cards(self, carded: Collection[int]) -> dict[int, int]:
        """Return feature -> the feature whose card it shares."""
        return {f: card for card in carded for f in (card, *self.stands_for.get(card, ()))}


def one_of_each(rows: Sequence[Row], groups: Sequence[Sequence[int]], wanted: Collection[int]) -> ShownRows:
    """Choose from each group the first row that is `wanted`, or else the first."""
    group_of = {feature: number for number, group in enumerate(groups) for feature in group}
    chosen: dict[int, Row] = {}
    for row in sorted(rows, key=lambda row: row["feature"] not in wanted):
        chosen.setdefault(group_of.get(row["feature"], ~row["feature"]), row)
    kept, done = [], set()
    for row in rows:
        key = group_of.get(row["feature"], ~row["feature"])
        if key not in done:
            kept.append(chosen[key])
            done.add(key)
    copies = {
        chosen[number]["feature"]: sorted(set(group) - {chosen[number]["feature"]})
        for number, group in enumerate(groups)
        if number in chosen
    }
    return ShownRows(kept, copies)
