"""The sparse autoencoder that a run trains."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from medsae_ray.config.base import Model
from medsae_ray.core.sae.rules import (
    AUXK_COEFFICIENT,
    BANDWIDTH,
    CHOSEN,
    REVIVING,
    SOME,
    START_L0,
    USED,
    check_together,
)
from medsae_ray.errors import RecipeError
from medsae_ray.options import Positive, Seed

RESTARTS = "restarts"
"""The one setting that is no part of an SAE's configuration: the SAE that is kept has the seed of its training."""


class Sae(Model):
    """The sparse autoencoder and its training."""

    architecture: Literal["relu_l1", "topk", "batch_topk", "jumprelu", "gated", "matryoshka"] = "batch_topk"
    """ReLU with an L1 penalty (MedSAE), TopK (Gao et al. 2024), BatchTopK (Bussmann et al. 2024), JumpReLU and Gated
    (Rajamanoharan et al. 2024), or Matryoshka-BatchTopK (Bussmann et al. 2025; SAIL)."""
    width: Annotated[int | None, Field(ge=2, le=1_000_000)] = None
    """Number of features. Null, allowed also for `k`, `epochs`, `batch_size` and `lr`, chooses from the numbers of
    training images and of the embedding's dimensions."""
    k: Annotated[int | None, Field(ge=1)] = None
    """TopK: active features per image. BatchTopK and Matryoshka: their mean."""
    l1: Annotated[float, Field(ge=0)] = 2.0
    """ReLU, Gated: weight of the L1 penalty, for embeddings scaled to E||x - mean||^2 = d and the squared error summed
    over d. MedSAE does not state its own. On the phantoms (d = 128) 2 leaves 12 to 24 features active per image."""
    l0: Annotated[float, Field(ge=0)] = 1.0
    """JumpReLU: cost of one more active feature, in the same units; with `target_l0` the weight of (L0 / target_l0 -
    1)^2."""
    target_l0: Annotated[float, Field(gt=0)] | None = None
    """JumpReLU: mean number of active features per image to steer to."""
    bandwidth: Annotated[float, Field(gt=0, le=10)] = BANDWIDTH
    """JumpReLU: window about a threshold in which images move it, in standard deviations of a dimension."""
    levels: Annotated[list[Positive], Field(min_length=1)] | None = None
    """Matryoshka: widths of the nested dictionaries, ascending; the last is `width`."""
    selection: Literal["shared", "per_level"] = "shared"
    """Matryoshka: one choice of `k` features per image for all levels, or one for each level (SAIL)."""
    ks: Annotated[list[Positive], Field(min_length=1)] | None = None
    """Matryoshka with selection per_level: mean active features per image, for each level."""
    compat: Literal["sail"] | None = None
    """Matryoshka: train and encode as SAIL's published code does where it departs from its paper."""
    auxk: Annotated[float, Field(ge=0)] = AUXK_COEFFICIENT
    """TopK, BatchTopK, Matryoshka: weight of the auxiliary loss that revives dead features; 0 turns it off."""
    resample: bool | None = None
    """TopK, BatchTopK, Matryoshka: restart features that were active on no image in an epoch near badly explained
    images; compat sail does not. Null: TopK only."""
    normalisation: Literal["centre", "none", "l2"] = "centre"
    """Scaling of embeddings: centre subtracts the training mean and makes E||x||^2 = d (MedSAE), none keeps them, l2
    gives each unit norm (SAIL)."""
    whiten: Annotated[float, Field(gt=0, le=1)] | None = None
    """Decorrelate embeddings first: components whose share of the variance is far below this number stay small. Null
    keeps the covariance, as MedSAE does. Findings that move embeddings little get their own features."""
    init: Literal["random", "scaled", "data"] | None = None
    """Start of the features: random directions; the same, with the encoder's length fitted to the data; or near
    training embeddings, with such a length. Null: data, or random with compat sail."""
    start_l0: Annotated[float, Field(gt=0)] | None = START_L0
    """ReLU, JumpReLU, Gated: active features per image at first, at most half of `width`, by a bias for each feature.
    Null starts without biases, half of the features active; with init random this is MedSAE's start."""
    epochs: Annotated[int | None, Field(ge=1)] = None
    """Passes over the training patients' images."""
    patience: Positive | None = None
    """TopK, BatchTopK, Matryoshka: stop after so many epochs without a lower held-out FVU and keep the best epoch."""
    batch_size: Annotated[int | None, Field(ge=1)] = None
    """Images per optimiser step, over all workers together."""
    lr: Annotated[float | None, Field(gt=0, lt=1)] = None
    """Peak learning rate of Adam."""
    precision: Literal["float32", "bfloat16", "auto"] = "float32"
    """Precision of the large matrix products. auto takes bfloat16 if a measurement finds it faster: results then
    depend on the machine, and on a shared GPU on what else it computes."""
    seed: Seed = 0
    """Seed of the weights and of the order of the data."""
    restarts: Annotated[int, Field(ge=1, le=100)] = 1
    """Trainings, from `seed` and the next ones, of which the SAE of least held-out FVU is kept. With more than one, R2,
    L0 and entropy are of the split detection alone, as the split naming chose."""

    @model_validator(mode="after")
    def _settings_go_together(self) -> Self:
        width = self.settings()["width"]
        if width is not None and (self.settings().get("k") or 0) > width:
            raise ValueError(f"k is {self.k}, more than the {width} features of width")
        defaults = {name: field.default for name, field in type(self).model_fields.items()}
        # Recipes may keep a k and an l1 for both kinds of architecture; all other keys are meant for one kind.
        for name in sorted(SOME - USED[self.architecture] - {"k", "l1", *REVIVING}):
            if getattr(self, name) != defaults[name]:
                raise ValueError(f"{name} has no effect on architecture {self.architecture}; leave it out")
        if self.architecture == "matryoshka" and self.levels is None:
            raise ValueError("architecture matryoshka needs levels, for example [512, 2048, 8192] for a width of 8192")
        try:
            check_together(self.settings(), CHOSEN)
        except RecipeError as error:
            raise ValueError(str(error).removeprefix("sae: ")) from error
        return self

    def settings(self) -> dict[str, Any]:
        """Return the settings that the architecture uses, under the names of SAEConfig; null for those to be chosen."""
        values = self.model_dump()
        values["auxk_coefficient"] = values.pop("auxk")
        if self.restarts == 1:
            del values[RESTARTS]  # newer than existing artifacts
        if self.levels and self.width is None:
            values["width"] = self.levels[-1]
        return {name: value for name, value in values.items() if name not in SOME - USED[self.architecture]}
