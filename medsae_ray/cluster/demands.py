"""The resources that processes request of a cluster, and the recipe's key for each. Plain arithmetic: no Ray here."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from medsae_ray.cluster.packing import Bundle, Unit
from medsae_ray.config import Pool, Train, Vlm


class Demand(NamedTuple):
    """The processes of one kind, which a stage needs all at once."""

    stage: str
    what: str
    """The kind of process: actors, readers, workers, ..."""
    unit: Unit
    """The resources of one process."""
    times: int = 1
    keys: Mapping[str, str] = {}
    """The recipe's key that requests each resource, and under "count" that of the number; empty without keys."""

    @property
    def units(self) -> list[Unit]:
        """The processes, one unit each."""
        return [self.unit] * self.times

    @property
    def key(self) -> str:
        """The recipe's key to name while a run waits: that of the scarcest resource, or else the stage."""
        return self.keys.get("GPU" if "GPU" in self.unit.total else "CPU", f"stage {self.stage}")

    def __str__(self) -> str:
        return f"{self.times} x {self.unit} ({self.key})"


class Phase(NamedTuple):
    """The demands that have to be met at the same time."""

    name: str
    demands: tuple[Demand, ...]
    advice: str = "Lower one of them, or use a larger cluster"
    """The advice for demands that fit one by one but not together."""

    @property
    def units(self) -> list[Unit]:
        """The processes of all demands, one unit each."""
        return [unit for demand in self.demands for unit in demand.units]


def pool_demands(stage: str, pool: Pool, place: str | None = None) -> Iterator[Demand]:
    """Yield all actors, and a reader that feeds them. `place` is the pool's key in the recipe: how.embed."""
    keys = {"CPU": f"{place}.cpus", "GPU": f"{place}.gpus", "count": f"{place}.actors"} if place else {}
    yield Demand(stage, "actors", unit_of(pool.cpus, pool.gpus), pool.actors, keys)
    reader = {"CPU": f"{place}.reader_cpus"} if place else {}
    yield Demand(stage, "readers", unit_of(pool.reader_cpus, 0), 1, reader)


def train_demand(stage: str, train: Train, workers: int | None = None) -> Demand:
    """Return the workers of an SAE, or, in a sweep, the one worker of each SAE."""
    workers = workers or train.workers
    keys = {"CPU": "how.train.cpus", "GPU": "how.train.gpus"} | ({"count": "how.train.workers"} if workers > 1 else {})
    return Demand(stage, "workers", unit_of(train.cpus, train.gpus), workers, keys)


def task_demand(stage: str) -> Demand:
    """Return one task of a stage whose size is not in the recipe."""
    return Demand(stage, "tasks", unit_of(1, 0))


def hosted(vlm: Vlm | None) -> tuple[Demand, ...]:
    """Return the engine that a recipe places on the cluster; nothing without an engine, or with one behind a URL."""
    return (engine_demand(vlm.cpus, vlm.gpus, vlm.replicas),) if vlm and not vlm.url else ()


def engine_demand(cpus: float, gpus: int, replicas: int) -> Demand:
    """Return the replicas of an engine. A model split over several GPUs keeps them on one node, as its layers exchange
    results for every token."""
    keys = {"CPU": "how.vlm.cpus", "GPU": "how.vlm.gpus", "count": "how.vlm.replicas"}
    unit = Unit(tuple(Bundle.of(bundle) for bundle in engine_bundles(cpus, gpus)))
    return Demand("engine", "replicas", unit, replicas, keys)


def engine_bundles(cpus: float, gpus: int) -> list[dict[str, float]]:
    """Return the bundles of a replica: one per GPU, the first with the replica's CPUs; or its CPUs alone."""
    cpus = max(cpus, 0.001)  # Ray refuses an empty bundle
    if not gpus:
        return [{"CPU": cpus}]
    return [{"CPU": cpus, "GPU": 1.0}] + [{"GPU": 1.0}] * (gpus - 1)


def unit_of(cpus: float, gpus: float) -> Unit:
    """Return the unit of one process that reserves so many CPUs and GPUs."""
    return Unit((Bundle.of({"CPU": cpus, "GPU": gpus}),))
