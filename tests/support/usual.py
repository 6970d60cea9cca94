"""Settings of a recipe that leaves them out, for tests of one part of a run by itself; `changed` are those that differ.

Where the usual ones would take a test too long, it gets smaller ones from here.
"""

from dataclasses import replace
from typing import Any

from medsae_ray.config import Detection, Features, Naming, Sae, Vlm
from medsae_ray.config.replication import Replication
from medsae_ray.core.analysis.replication import Rules
from medsae_ray.core.datasets.phantom import PhantomDataset
from medsae_ray.core.images.reader import ImageRules, Reading
from medsae_ray.core.naming.attempts import NamingRules
from medsae_ray.core.naming.engine import EngineSettings
from medsae_ray.core.naming.sampling import DetectionDesign, NamingDesign
from medsae_ray.core.phantom import Hospital
from medsae_ray.core.sae.config import SAEConfig
from medsae_ray.names import by_name


def sae_config(**changed: Any) -> SAEConfig:
    """Of an SAE for a few hundred rows."""
    usual = Sae().model_dump(include={"normalisation", "whiten", "init", "precision", "seed"})
    return SAEConfig.from_dict(usual | {"epochs": 100, "batch_size": 512, "lr": 1e-3} | changed)


def engine_settings(model: str, **changed: Any) -> EngineSettings:
    """Of the small model on half a CPU."""
    small = {"max_seqs": 16, "kv_cache_gb": 0.5, "cpus": 0.5, "eager": True, "start_timeout_s": 300}
    room = {"max_model_len": 2048, "max_images": 12, "max_ongoing": 64}
    return by_name(EngineSettings, Vlm(model=model), **room | small | changed)


def reading(**changed: Any) -> Reading:
    return replace(Reading.of(ImageRules()), **changed)


def naming_rules(**changed: Any) -> NamingRules:
    return by_name(NamingRules, Naming(), **changed)


def naming_design(**changed: Any) -> NamingDesign:
    return NamingDesign(top=5, middle=3, contrasts=Naming().contrasts, faint=0.0)._replace(**changed)


def detection_design(**changed: Any) -> DetectionDesign:
    return by_name(DetectionDesign, Detection(), faint=0.0)._replace(**changed)


def replication_rules(**changed: Any) -> Rules:
    return by_name(Rules, Replication(), level=Features().level)._replace(**changed)


def hospital(**changed: Any) -> Hospital:
    return replace(by_name(Hospital, PhantomDataset(kind="phantom")), **changed)
