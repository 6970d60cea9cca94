"""The targets of linear probes and the numbers of columns that they read."""

from collections import Counter
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from medsae_ray.config.base import Model
from medsae_ray.core.probing.targets import THRESHOLD
from medsae_ray.options import Seed

SIZES = [1, 2, 3, 5, 10, 20, 30, 50, 75, 100]
Threshold = Annotated[str, Field(pattern=f"^{THRESHOLD.pattern}$")]
Size = Annotated[int, Field(ge=1, le=1000)]


class Recovery(Model):
    """The linear probes of every label and column of metadata on the n strongest features, compared with all
    dimensions."""

    sizes: Annotated[list[Size], Field(min_length=1, max_length=20)] = SIZES
    """The numbers of features n. One above the columns of an SAE or encoder is lowered to them."""
    thresholds: dict[str, Annotated[list[Threshold], Field(min_length=1)]] = {"age": ["<40", ">=80"]}  # noqa: RUF012
    """Column of metadata, in any case -> the cuts of its numbers: `"<40"` and `">=80"` give a target each. Another
    column with more than ten distinct numbers is cut at the median of the training patients; each category of any
    other is compared with the rest."""
    groups: dict[str, Annotated[list[str], Field(min_length=1)]] = Field(default_factory=dict)
    """Group -> its labels, for the order of features that SAIL fixes by group (kind `group`): SAIL has ten of organs.
    Labels without a group are one; a column of metadata is a group of its own."""
    compat: Literal["sail"] | None = None
    """With `sail` as in SAIL's code: activations are not divided by their deviation, and C is 1."""
    random_weights: Seed | None = None
    """Seed of an encoder with weights drawn anew, SAIL's control: probes are fitted on its dimensions too. All images
    are embedded a second time."""
    seed: Seed = 0
    """Seed of the controls (features drawn by chance, shuffled labels) and of the bootstrap over targets."""

    @field_validator("groups")
    @classmethod
    def _in_one_group(cls, groups: dict[str, list[str]]) -> dict[str, list[str]]:
        counts = Counter(label for labels in groups.values() for label in labels)
        if twice := [label for label, times in counts.items() if times > 1]:
            raise ValueError(f"label {twice[0]!r} is in more than one group, or twice in one")
        return groups

    def rules(self) -> dict[str, Any]:
        """Return what decides the rows: the sizes ascending, and no setting that is newer than existing artifacts and
        not used. What a parent decides is left out."""
        groups = {"groups": {group: sorted(labels) for group, labels in self.groups.items()}} if self.groups else {}
        rules = self.model_dump(exclude={"random_weights", "groups"})
        return rules | {"sizes": sorted(set(self.sizes))} | groups
