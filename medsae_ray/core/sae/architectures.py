"""The architectures that a recipe can name."""

from medsae_ray.core.sae.batch_topk import BatchTopK
from medsae_ray.core.sae.config import SAEConfig
from medsae_ray.core.sae.model import SAE
from medsae_ray.core.sae.normalise import Normalisation
from medsae_ray.core.sae.relu_l1 import ReluL1

ARCHITECTURES: dict[str, type[SAE]] = {"relu_l1": ReluL1, "batch_topk": BatchTopK}


def build(config: SAEConfig, normalisation: Normalisation) -> SAE:
    """An untrained SAE; its weights depend on the config's seed alone."""
    return ARCHITECTURES[config.architecture](config, normalisation)
