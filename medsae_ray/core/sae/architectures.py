"""The architectures that a recipe can name."""

from medsae_ray.core.sae.batch_topk import BatchTopK
from medsae_ray.core.sae.config import SAEConfig
from medsae_ray.core.sae.gated import Gated
from medsae_ray.core.sae.jumprelu import JumpReLU
from medsae_ray.core.sae.matryoshka import Matryoshka, MatryoshkaPerLevel
from medsae_ray.core.sae.model import SAE
from medsae_ray.core.sae.normalise import Normalisation
from medsae_ray.core.sae.relu_l1 import ReluL1
from medsae_ray.core.sae.sail import Sail
from medsae_ray.core.sae.topk import TopK

ARCHITECTURES: dict[str, type[SAE]] = {
    "relu_l1": ReluL1,
    "topk": TopK,
    "batch_topk": BatchTopK,
    "jumprelu": JumpReLU,
    "gated": Gated,
    "matryoshka": Matryoshka,
}


def build(config: SAEConfig, normalisation: Normalisation) -> SAE:
    """Return an untrained SAE; its weights depend on the config's seed alone."""
    if config.compat == "sail":
        return Sail(config, normalisation)
    if config.selection == "per_level":
        return MatryoshkaPerLevel(config, normalisation)
    return ARCHITECTURES[config.architecture](config, normalisation)
