"""What a sparse autoencoder is and how it is trained: every setting that its weights depend on."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from difflib import get_close_matches
from math import isfinite
from typing import Any, Literal, Self, get_args

from medsae_ray.errors import RecipeError

Architecture = Literal["relu_l1", "batch_topk"]


@dataclass(frozen=True, kw_only=True)
class SAEConfig:
    """Settings of one sparse autoencoder, checked when it is made; RecipeError says which fields disagree."""

    architecture: Architecture
    """"relu_l1" (MedSAE; sparsity set by `l1`) or "batch_topk" (Bussmann et al. 2024; sparsity set by `k`)."""

    d_in: int
    """Dimension D of the embeddings; 1 or more."""

    width: int
    """Number M of features; 1 or more. MedSAE speaks of an expansion of D, e.g. 16 D."""

    k: int | None = None
    """batch_topk only: active features per image, on average over a batch; 1 to `width`."""

    l1: float | None = None
    """relu_l1 only: weight of the mean L1 norm of the codes against the squared error summed over D; 0 or more.
    Its meaning depends on the normalisation, which is E||x||^2 = D here."""

    whiten: float | None = None
    """Decorrelate the embeddings first (Saraswatula & Klindt 2025, arXiv 2511.13981): every principal component gets
    the variance v / (v + whiten * total variance), so components far below this share of the total stay small. Above
    0; None leaves the covariance as it is."""

    epochs: int = 100
    """Passes over the training rows; 1 or more."""

    batch_size: int = 512
    """Rows of the global batch, over all workers; at most the number of training rows. An incomplete last batch of
    an epoch is left out."""

    lr: float = 1e-3
    """Peak learning rate of Adam; above 0."""

    warmup_fraction: float = 0.05
    """Share of all steps in which the learning rate rises linearly from 0; 0 to 1."""

    decay_fraction: float = 0.3
    """Share of all steps, at the end, in which the learning rate falls linearly to 0; 0 to 1 - `warmup_fraction`."""

    auxk_coefficient: float = 1 / 32
    """batch_topk only: weight of the loss that revives dead features against the main loss, both as shares of variance
    (Gao et al. 2024); 0 switches it off."""

    auxk: int | None = None
    """batch_topk only: dead features per image that try to explain the residual; 1 or more. None: D / 2, at least 1."""

    dead_after_epochs: int = 2
    """Whole epochs without one activation after which a feature counts as dead; 1 or more."""

    seed: int = 0
    """Of the initial weights and of the order of the rows; 0 to 2^31 - 1."""

    def __post_init__(self) -> None:
        self._check_choices()
        for name, low, high in _RANGES:
            _check_range(name, getattr(self, name), low, high)
        if self.k is not None and self.k > self.width:
            raise RecipeError(f"sae: k = {self.k} is above width = {self.width}; lower k or widen the dictionary")
        if self.warmup_fraction + self.decay_fraction > 1:
            raise RecipeError(
                f"sae: warmup_fraction = {self.warmup_fraction} and decay_fraction = {self.decay_fraction} "
                "add to more than 1; lower one of them"
            )

    def _check_choices(self) -> None:
        if self.architecture not in get_args(Architecture):
            known = ", ".join(get_args(Architecture))
            raise RecipeError(f"sae: architecture {self.architecture!r} is unknown; known: {known}")
        needed, foreign = ("l1", "k") if self.architecture == "relu_l1" else ("k", "l1")
        if getattr(self, needed) is None:
            raise RecipeError(f"sae: architecture {self.architecture!r} needs {needed}")
        if getattr(self, foreign) is not None:
            raise RecipeError(f"sae: {foreign} has no effect on architecture {self.architecture!r}; leave it out")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`. RecipeError on an unknown or missing key."""
        known = [field.name for field in fields(cls)]
        for key in values:
            if key not in known:
                near = get_close_matches(key, known, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(known)}"
                raise RecipeError(f"sae: unknown setting {key!r}{hint}")
        missing = [key for key in ("architecture", "d_in", "width") if key not in values]
        if missing:
            raise RecipeError(f"sae: {', '.join(missing)} not given")
        return cls(**values)


_RANGES: tuple[tuple[str, float, float], ...] = (
    ("d_in", 1, 1 << 31),
    ("width", 1, 1 << 31),
    ("k", 1, 1 << 31),
    ("l1", 0.0, float("inf")),
    ("whiten", 1e-12, 1.0),
    ("epochs", 1, 1 << 31),
    ("batch_size", 1, 1 << 31),
    ("lr", 1e-12, float("inf")),
    ("warmup_fraction", 0.0, 1.0),
    ("decay_fraction", 0.0, 1.0),
    ("auxk_coefficient", 0.0, float("inf")),
    ("auxk", 1, 1 << 31),
    ("dead_after_epochs", 1, 1 << 31),
    ("seed", 0, (1 << 31) - 1),
)
"""(field, lowest, highest); a whole-number bound means that the field is a whole number."""


def _check_range(name: str, value: float | None, low: float, high: float) -> None:
    if value is None and name in ("k", "l1", "auxk", "whiten"):
        return
    whole = isinstance(low, int)
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
        raise RecipeError(f"sae: {name} = {value!r} is not a {'whole ' if whole else ''}number")
    if not (isfinite(value) and low <= value <= high):
        bounds = f"at least {low}" if high in (1 << 31, float("inf")) else f"between {low} and {high}"
        raise RecipeError(f"sae: {name} = {value} is out of range; give a number {bounds}")
