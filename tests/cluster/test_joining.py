"""Errors of our own reach the user as one clean line, wherever on the cluster they were raised."""

import pytest
import ray
from ray.exceptions import RayTaskError

from medsae_ray.cluster.joining import own_error, told_plainly
from medsae_ray.errors import ArtifactError, DatasetError, MedsaeError, RecipeError, ShardError

CHAIN = """ray::worker() (pid=1, ip=1.2.3.4)
  File "x.py", line 3, in f
medsae_ray.errors.ImageError: truncated

The above exception was the direct cause of the following exception:

ray::worker() (pid=1, ip=1.2.3.4)
medsae_ray.errors.ShardError: shard 3: ImageError: truncated
  second line
"""


def test_the_last_error_of_a_chain_is_told_with_all_of_its_lines() -> None:
    error = own_error(CHAIN)
    assert isinstance(error, ShardError) and str(error) == "shard 3: ImageError: truncated\n  second line"


@pytest.mark.parametrize("text", ["ValueError: x", "medsae_ray.errors.NoSuchError: x", ""])
def test_other_errors_are_not_ours(text: str) -> None:
    assert own_error(text) is None


@pytest.mark.parametrize("kind", [ArtifactError, DatasetError, RecipeError, ShardError])
def test_our_error_in_a_task_comes_as_itself(ray_cluster: None, kind: type[MedsaeError]) -> None:
    @ray.remote(num_cpus=0)
    def task() -> None:
        raise kind("what was found\n  and where")

    with pytest.raises(kind) as caught, told_plainly("features"):
        ray.get(task.remote())
    assert type(caught.value) is kind and str(caught.value) == "what was found\n  and where"


def test_a_fault_of_the_program_keeps_its_traceback(ray_cluster: None) -> None:
    @ray.remote(num_cpus=0)
    def task() -> None:
        raise ZeroDivisionError("a fault")

    with pytest.raises(RayTaskError, match="a fault"), told_plainly("features"):
        ray.get(task.remote())


def test_a_lost_worker_is_told_by_its_stage(ray_cluster: None) -> None:
    @ray.remote(num_cpus=0, max_retries=0)
    def task() -> None:
        import os

        os._exit(1)

    with pytest.raises(ShardError, match=r"^features: the cluster lost the computation"), told_plainly("features"):
        ray.get(task.remote())
