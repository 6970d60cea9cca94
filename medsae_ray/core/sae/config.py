"""The settings of a sparse autoencoder and of its training: all that its weights depend on."""

from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any, Literal, Self, get_args, get_origin, get_type_hints

from medsae_ray.core.sae.rules import AUXK_COEFFICIENT, BANDWIDTH, START_L0, check
from medsae_ray.errors import RecipeError
from medsae_ray.names import nearest

Architecture = Literal["relu_l1", "topk", "batch_topk", "jumprelu", "gated", "matryoshka"]


@dataclass(frozen=True, kw_only=True)
class SAEConfig:
    """The settings of one sparse autoencoder, checked at construction; RecipeError names the fields that disagree."""

    architecture: Architecture
    """"relu_l1" (MedSAE; sparsity by `l1`), "topk" (Gao et al. 2024; `k`), "batch_topk" (Bussmann et al. 2024; `k`),
    "jumprelu" (Rajamanoharan et al. 2024b; `l0`), "gated" (Rajamanoharan et al. 2024a; `l1`) or "matryoshka"
    (Bussmann et al. 2025; `levels` with `k` or `ks`)."""

    d_in: int
    """The dimension D of the embeddings; 1 or more."""

    width: int
    """The number M of features; 1 or more. MedSAE states an expansion of D, e.g. 16 D."""

    k: int | None = None
    """topk: the largest number of active features per image; batch_topk and matryoshka with shared selection: their
    mean over a batch. 1 to `width`."""

    l1: float | None = None
    """relu_l1, gated: the weight of the mean L1 norm of the codes (gated: of the gates) against the squared error
    summed over D; 0 or more. Its meaning depends on the normalisation, by default E||x||^2 = D."""

    l0: float | None = None
    """jumprelu: the weight of the mean number of active features against the squared error summed over D; with
    `target_l0` the weight of (L0 / target_l0 - 1)^2. 0 or more."""

    target_l0: float | None = None
    """jumprelu: the mean number of active features that training steers to; above 0, at most `width`."""

    bandwidth: float = BANDWIDTH
    """jumprelu: the width of the window about its threshold in which a feature's pre-activation moves the threshold,
    in standard deviations of an embedding's dimensions; above 0. Thresholds start at this value."""

    levels: tuple[int, ...] | None = None
    """matryoshka: the widths of the nested dictionaries, ascending; the last is `width`."""

    selection: Literal["shared", "per_level"] = "shared"
    """matryoshka: one BatchTopK of `k` whose codes every prefix of the dictionary decodes (Bussmann et al.), or a
    BatchTopK for each prefix (SAIL) with its own entry of `ks`."""

    ks: tuple[int, ...] | None = None
    """matryoshka with selection per_level: the mean active features per image of each level; each 1 to its level."""

    compat: Literal["sail"] | None = None
    """matryoshka: "sail" reproduces SAIL's published code where it departs from the paper; see sail.py."""

    normalisation: Literal["centre", "none", "l2"]
    """The scaling of embeddings: "centre" subtracts the training mean and makes E||x||^2 = D (MedSAE), "none" keeps
    them, "l2" gives each unit norm (SAIL)."""

    whiten: float | None
    """Decorrelate the embeddings first (Saraswatula & Klindt 2025, arXiv 2511.13981): every principal component gets
    the variance v / (v + whiten * total variance), so components far below this share of the total stay small. Above
    0; None keeps the covariance. Needs normalisation centre."""

    init: Literal["random", "scaled", "data"] | None
    """The start of the features: random directions of unit length; the same, with the encoder's length fitted to the
    data; or near randomly chosen training embeddings, with such a length. None becomes data, or random with compat
    sail."""

    start_l0: float | None = START_L0
    """relu_l1, jumprelu, gated: the active features per image at the start, above 0. Each feature gets a bias
    (jumprelu: a threshold) that this share of the training rows exceeds, at most half. The cost of a step grows with
    its active features. None starts without biases, half of the features active; with init random as MedSAE's
    trainer does."""

    epochs: int
    """The number of passes over the training rows; 1 or more."""

    patience: int | None = None
    """Architectures with k: stop after so many epochs without a lower held-out FVU, and keep the best epoch's
    weights; 1 or more. None trains all epochs and keeps the last."""

    batch_size: int
    """The rows of the global batch, over all workers; at most the number of training rows. An incomplete last batch
    of an epoch is dropped."""

    lr: float
    """The peak learning rate of Adam; above 0."""

    warmup_fraction: float = 0.05
    """The share of all steps in which the learning rate rises linearly from 0; 0 to 1."""

    decay_fraction: float = 0.3
    """The share of all steps, at the end, in which the learning rate falls linearly to 0; 0 to 1 -
    `warmup_fraction`."""

    auxk_coefficient: float = AUXK_COEFFICIENT
    """topk, batch_topk, matryoshka: the weight of the loss that revives dead features against the main loss, both as
    shares of variance (Gao et al. 2024); 0 switches it off."""

    auxk: int | None = None
    """topk, batch_topk, matryoshka: the dead features per image that try to explain the residual; 1 or more. None:
    half of D, at least 1."""

    dead_after_epochs: int = 2
    """The number of whole epochs without an activation after which a feature counts as dead for that loss; 1 or
    more."""

    resample: bool | None = None
    """topk, batch_topk, matryoshka: restart a feature that was active on no row in an epoch near a badly explained
    row (Bricken et al. 2023); see resample.py. No effect with compat sail. None: topk only."""

    precision: Literal["float32", "bfloat16", "auto"]
    """The precision of the large matrix products in training; weights, sums and the optimiser are always float32.
    "auto" takes bfloat16 if a measurement on the spot finds it faster, so results then depend on the machine."""

    seed: int
    """The seed of the initial weights and of the order of the rows; 0 to 2^31 - 1."""

    def __post_init__(self) -> None:
        for name in ("levels", "ks"):
            if isinstance(getattr(self, name), list):
                object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.init is None:
            object.__setattr__(self, "init", "random" if self.compat == "sail" else "data")
        check(vars(self), choices(type(self)), {field.name: field.default for field in fields(self)})

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Invert `to_dict`. RecipeError on an unknown or missing key."""
        known = [field.name for field in fields(cls)]
        for key in values:
            if key not in known:
                near = nearest(key, known)
                hint = f"; did you mean {near!r}?" if near else f"; known: {', '.join(known)}"
                raise RecipeError(f"sae: unknown setting {key!r}{hint}")
        missing = [field.name for field in fields(cls) if field.default is MISSING and field.name not in values]
        if missing:
            raise RecipeError(f"sae: {', '.join(missing)} not given")
        return cls(**values)


def choices(cls: type) -> dict[str, tuple[Any, ...]]:
    """Return the possible values of every field of a `Literal` type."""
    found = {}
    for name, hint in get_type_hints(cls).items():
        options = [part for part in (hint, *get_args(hint)) if get_origin(part) is Literal]
        if options:
            found[name] = get_args(options[0]) + ((None,) if type(None) in get_args(hint) else ())
    return found
