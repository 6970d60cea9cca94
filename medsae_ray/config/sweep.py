"""Many SAEs on the same embeddings, each as `what.sae` with some of its keys changed."""

import json
from collections.abc import Iterator
from itertools import product
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import Field, ValidationError, model_validator

from medsae_ray.config.base import Model
from medsae_ray.config.explain import explain
from medsae_ray.config.sae import Sae

Changes = dict[str, Any]


class Sweep(Model):
    """The SAEs to train."""

    grid: Annotated[dict[str, Annotated[list[Any], Field(min_length=1)]], Field(default_factory=dict)]
    """Keys of what.sae, each with the values to try; every combination is an SAE. If `levels` change, `width` is the
    last of them. Without grid and each: half, once and twice the width and the sparsity of what.sae, or of those
    chosen from the numbers of training rows and of their directions."""
    each: Annotated[list[Changes], Field(default_factory=list)]
    """Settings that belong together, such as an architecture with its own keys; the grid is applied to each of them."""
    invalid: Literal["refuse", "leave_out"] = "refuse"
    """Treatment of combinations that no SAE can have, such as a k above the width. They are counted if left out."""
    choose: bool = False
    """True: medsae run takes the SAE of this sweep that ranks best on patients of the split naming, and its held-out
    figures come from the split detection alone."""

    @property
    def by_data(self) -> bool:
        """True without grid and each: the SAEs to try follow from what.sae and the training rows."""
        return not self.grid and not any(self.each)

    @model_validator(mode="after")
    def _says_each_key_once(self) -> Self:
        both = sorted(set(self.grid) & {key for settings in self.each for key in settings})
        if both:
            raise ValueError(f"{', '.join(both)} cannot be in grid and in each: leave one of the two out")
        return self

    def combinations(self) -> Iterator[Changes]:
        """Yield the changes of each SAE, in the order of the recipe."""
        for settings in self.each or [{}]:
            for values in product(*self.grid.values()):
                changes = settings | dict(zip(self.grid, values, strict=True))
                levels = changes.get("levels")
                yield ({"width": levels[-1]} if isinstance(levels, list) and levels else {}) | changes


class Member(NamedTuple):
    """One SAE of a sweep."""

    changes: Changes
    """The differences from what.sae, as the recipe states them."""
    sae: Sae
    """The complete settings."""


class Members(NamedTuple):
    """The SAEs that a sweep asks for."""

    members: list[Member]
    left_out: int
    """The number of combinations that no SAE can have."""


def members_of(sweep: Sweep, base: Sae) -> Members:
    """Return the SAEs of `sweep` around the settings `base`; combinations that give the same SAE count once.

    ValueError on a wrong key or value, on a combination that no SAE can have unless those are left out, and on a value
    of the grid that remains in no combination.
    """
    fit, problems = [], []
    for changes in sweep.combinations():
        try:
            fit.append(Member(changes, type(base).model_validate(base.model_dump() | changes)))
        except ValidationError as error:
            problems.append(_problem(error, changes, base, sweep))
    for key, value in ((key, value) for key, values in sweep.grid.items() for value in values):
        if not any(member.changes[key] == value for member in fit):
            raise ValueError(f"sweep: no SAE can have {key} = {value!r}: {problems[0]}")
    distinct = {json.dumps(member.sae.settings(), sort_keys=True): member for member in reversed(fit)}
    return Members(list(reversed(distinct.values())), len(problems))


def _problem(error: ValidationError, changes: Changes, base: Sae, sweep: Sweep) -> str:
    """Return the reason why settings do not go together. ValueError if they are invalid alone, or may not be left
    out."""
    problem = f"{json.dumps(changes)}: " + "; ".join(explain(line, type(base)) for line in error.errors())
    if any(line["loc"] for line in error.errors()):
        raise ValueError(f"sweep: {problem}")
    if sweep.invalid == "refuse":
        raise ValueError(f"sweep: {problem}; change it, or set sweep.invalid to leave_out")
    return problem
