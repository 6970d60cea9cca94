"""The published figures of a paper, from the file beside this one: what each is, its source, and what a run has in its
place."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Literal, NamedTuple

import yaml

PaperName = Literal["medsae", "sail"]
Comparable = Literal["yes", "in part", "no"]
CONTROL = "random"
"""The arm of a paper that is its first one with random weights."""
Call = Sequence[Any]
"""The name of a measure, and its arguments."""


class Arm(NamedTuple):
    """One of a paper's encoders."""

    title: str
    how: str
    """What to add to the recipe's command for a run of this arm; "" for the recipe as it is."""
    sae: Mapping[str, list[int]]
    """The levels and ks of the SAE that the paper chose."""


class Need(NamedTuple):
    """Data or weights that a run of the paper needs."""

    path: str
    """Its key below how.paths, or `vlm`."""
    what: str
    files: str
    page: str
    access: str
    """The licence, and the way to get it."""
    size: str


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One published figure."""

    id: str
    group: str
    says: str
    arm: str | None
    """The arm that it is of; None if it is of all."""
    published: float | str
    n: str | None
    """The published number behind it, in words; None if it is not stated."""
    source: str
    """Its place in the paper, or in the repository of the paper's results."""
    definition: str | None
    here: Call
    """The measure that a run has in its place."""
    also: Call | None
    """The measure of a run of the paper's first arm, if that has one of the control."""
    comparable: Comparable
    differs: str
    """The reasons why a run may have another figure."""


@dataclass(frozen=True)
class Paper:
    """A paper and its figures."""

    name: PaperName
    title: str
    reference: str
    url: str
    recipe: str
    images: int
    """The images of its datasets, for a plan without them."""
    dimensions: int | Mapping[str, int]
    """Those of its encoder, or of each arm's."""
    targets: tuple[str, ...]
    """The targets of its probes, by this software's names."""
    arms: Mapping[str, Arm]
    needs: tuple[Need, ...]
    figures: tuple[Figure, ...]


@cache
def load(name: PaperName) -> Paper:
    """Read a packaged paper."""
    data = yaml.safe_load((resources.files("medsae_ray.core.papers") / f"{name}.yaml").read_text(encoding="utf-8"))
    groups = data.pop("groups")
    return Paper(
        name=name,
        figures=tuple(figure for group in groups for figure in _of_group(group)),
        arms={arm: Arm(**about) for arm, about in data.pop("arms").items()},
        needs=tuple(Need(**need) for need in data.pop("needs")),
        targets=tuple(data.pop("targets")),
        **data,
    )


def _of_group(group: dict[str, Any]) -> Iterator[Figure]:
    shared = {"n": None, "definition": None, "also": None} | {k: v for k, v in group.items() if k != "figures"}
    title = shared.pop("title")
    for entry in group["figures"]:
        of_arms = entry["published"] if isinstance(entry["published"], dict) else {None: entry["published"]}
        for arm, published in of_arms.items():
            own = {"id": f"{entry['id']}.{arm}" if arm else entry["id"], "arm": arm, "published": published}
            if isinstance(n_of := entry.get("n"), dict):
                own["n"] = n_of.get(arm)
            yield Figure(group=title, **(shared | entry | own))
