"""What processes ask of a cluster, and which key of the recipe asks for it. Plain arithmetic: no Ray here."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from medsae_ray.cluster.packing import Bundle, Unit
from medsae_ray.config import Pool, Train, Vlm


class Demand(NamedTuple):
    """Processes of one kind, all of which a stage holds at once."""

    stage: str
    what: str
    """actors, readers, workers, ..."""
    unit: Unit
    """One of them."""
    times: int = 1
    keys: Mapping[str, str] = {}
    """Resource -> the recipe's key that asks for it, and "count" -> the key of their number; none are ours."""

    @property
    def units(self) -> list[Unit]:
        """The processes, one unit each."""
        return [self.unit] * self.times

    @property
    def key(self) -> str:
        """The recipe's key to name while a run waits: the scarcest resource's, or else the stage."""
        return self.keys.get("GPU" if "GPU" in self.unit.total else "CPU", f"stage {self.stage}")

    def __str__(self) -> str:
        return f"{self.times} x {self.unit} ({self.key})"


class Phase(NamedTuple):
    """Demands that have to be met at the same time."""

    name: str
    demands: tuple[Demand, ...]
    advice: str = "Lower one of them, or use a larger cluster"
    """What to do if each of them has room, and all together have not."""

    @property
    def units(self) -> list[Unit]:
        """The processes of all demands, one unit each."""
        return [unit for demand in self.demands for unit in demand.units]


def pool_demands(stage: str, pool: Pool, place: str | None = None) -> Iterator[Demand]:
    """Actors, all at once, and one reader that feeds them. `place` is where the recipe has the pool: how.embed."""
    keys = {"CPU": f"{place}.cpus", "GPU": f"{place}.gpus", "count": f"{place}.actors"} if place else {}
    yield Demand(stage, "actors", unit_of(pool.cpus, pool.gpus), pool.actors, keys)
    reader = {"CPU": f"{place}.reader_cpus"} if place else {}
    yield Demand(stage, "readers", unit_of(pool.reader_cpus, 0), 1, reader)


def train_demand(stage: str, train: Train, workers: int | None = None) -> Demand:
    """The workers of an SAE, or, in a sweep, the one of each SAE."""
    workers = workers or train.workers
    keys = {"CPU": "how.train.cpus", "GPU": "how.train.gpus"} | ({"count": "how.train.workers"} if workers > 1 else {})
    return Demand(stage, "workers", unit_of(train.cpus, train.gpus), workers, keys)


def task_demand(stage: str) -> Demand:
    """One of a stage's own tasks, which the recipe does not size."""
    return Demand(stage, "tasks", unit_of(1, 0))


def hosted(vlm: Vlm | None) -> tuple[Demand, ...]:
    """The engine that a recipe wants on the cluster; nothing where it has none, or reaches it by a URL."""
    return (engine_demand(vlm.cpus, vlm.gpus, vlm.replicas),) if vlm and not vlm.url else ()


def engine_demand(cpus: float, gpus: int, replicas: int) -> Demand:
    """Replicas of an engine. A model that is split over several GPUs keeps them on one node: its layers exchange their
    results for every token."""
    keys = {"CPU": "how.vlm.cpus", "GPU": "how.vlm.gpus", "count": "how.vlm.replicas"}
    unit = Unit(tuple(Bundle.of(bundle) for bundle in engine_bundles(cpus, gpus)))
    return Demand("engine", "replicas", unit, replicas, keys)


def engine_bundles(cpus: float, gpus: int) -> list[dict[str, float]]:
    """What a replica reserves: one bundle per GPU, the replica itself in the first; or its CPUs."""
    cpus = max(cpus, 0.001)  # Ray refuses an empty bundle
    if not gpus:
        return [{"CPU": cpus}]
    return [{"CPU": cpus, "GPU": 1.0}] + [{"GPU": 1.0}] * (gpus - 1)


def unit_of(cpus: float, gpus: float) -> Unit:
    """Return the unit of one process that reserves so many CPUs and GPUs."""
    return Unit((Bundle.of({"CPU": cpus, "GPU": gpus}),))
