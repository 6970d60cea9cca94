"""What a failed training was, with made-up nodes."""

import pytest

from medsae_ray.errors import ArtifactError, MedsaeError
from medsae_ray.stages.sae_failures import Group, Judge
from tests.runtime.test_tries import Ward


def group_of(ward: Ward, *nodes: str) -> None:
    """Workers are started, one on each."""
    for rank, ward.here in enumerate(nodes):
        Group(ward.tries).join(rank)


def fail(judge: Judge, error: Exception | None = None) -> None:
    judge.after_exception(None, {0: error or RuntimeError("Connection closed by peer")})


def test_a_lost_node_never_counts_and_a_dead_worker_does() -> None:
    ward = Ward()
    judge = Judge(Group(ward.tries), retries=1)
    for number in range(5):
        ward.up.add(f"n{number}")
        group_of(ward, "a", f"n{number}")
        ward.lose(f"n{number}")
        fail(judge)
    group_of(ward, "a", "b")
    fail(judge)
    group_of(ward, "a", "b")
    with pytest.raises(MedsaeError, match="failed after 1 retries, on nodes that are still up: Connection closed"):
        fail(judge)


def test_a_group_is_judged_once_however_often_it_is_looked_at() -> None:
    ward = Ward()
    judge = Judge(Group(ward.tries), retries=1)
    group_of(ward, "a", "b")
    for _ in range(5):
        fail(judge)
    assert judge.failures == 1


def test_an_error_of_ours_ends_training_at_once() -> None:
    judge = Judge(Group(Ward().tries), retries=9)
    with pytest.raises(ArtifactError, match="disk is full"):
        fail(judge, ArtifactError("the disk is full"))
