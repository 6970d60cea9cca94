"""Whose fault it is that a process died: the rules with made-up nodes, and the cluster's own book."""

import logging
import pickle
import socket
import time
from typing import Any

import pytest
import ray

from medsae_ray.core.artifacts.patience import patiently
from medsae_ray.errors import ShardError
from medsae_ray.runtime.tries import ControlService, Tries, _answers, standing, this_node


class Notes:
    """A book of this process."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def put(self, key: str) -> None:
        self.lines.append(key)

    def keys(self, prefix: str) -> list[str]:
        return [key for key in self.lines if key.startswith(prefix)]

    def delete(self, prefix: str) -> None:
        self.lines = [key for key in self.lines if not key.startswith(prefix)]


class Ward:
    """Nodes that come and go, and work that runs on `here`."""

    def __init__(self, allowed: int = 2) -> None:
        self.up, self.here, self.book = {"a", "b", "c"}, "a", Notes()
        self.tries = Tries(allowed, "run", self.book, lambda nodes: nodes & self.up, lambda: self.here)

    def begin(self, node: str, piece: str = "shard 1", doing: str = "it was read") -> int:
        self.here = node
        return self.tries.begin(piece, doing)

    def lose(self, node: str) -> None:
        self.up.discard(node)


def test_a_piece_that_dies_on_standing_nodes_is_refused_after_its_retries() -> None:
    ward = Ward()
    assert [ward.begin(node) for node in "aab"] == [0, 1, 2]
    with pytest.raises(ShardError, match=r"^shard 1: its worker died 3 times \(allowed retries: 2\) while it was read"):
        ward.begin("c")


@pytest.mark.parametrize("losses", [1, 5, 50])
def test_what_ends_with_its_node_never_counts(losses: int) -> None:
    ward = Ward(allowed=0)
    for number in range(losses):
        ward.up.add(f"n{number}")
        ward.begin(f"n{number}")
        ward.lose(f"n{number}")
    ward.begin("a")
    with pytest.raises(ShardError, match="died 1 times"):
        ward.begin("a")


def test_losses_between_deaths_do_not_hide_them() -> None:
    ward = Ward(allowed=1)
    for node in ("a", "b"):
        ward.begin(node)
    ward.lose("b")
    ward.begin("c")
    with pytest.raises(ShardError, match="died 2 times"):
        ward.begin("a")


def test_a_piece_that_ended_begins_anew_and_every_piece_and_doing_has_its_own_budget() -> None:
    ward = Ward(allowed=0)
    ward.begin("a")
    ward.tries.end("shard 1", "it was read")
    assert ward.begin("a") == 0
    assert ward.begin("a", "shard 11") == 0 == ward.begin("a", doing="it was computed")
    ward.tries.end("shard 1", "it was read")
    assert len(ward.book.lines) == 2, "the end of shard 1 is not that of shard 11"


def test_all_is_forgotten_at_the_end_and_no_other_run_sees_it() -> None:
    ward, other = Ward(allowed=0), Ward(allowed=0)
    with ward.tries.kept() as tries:
        tries.begin("shard 1", "it was read")
        Tries(0, book=ward.book, standing=lambda n: n, here=lambda: "a").begin("shard 1", "it was read")
    assert len(ward.book.lines) == 1 and not other.book.lines


def test_the_driver_tells_once_what_its_workers_wait_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("medsae_ray.runtime.tries._LISTEN_S", 0.05)
    ward = Ward()
    patiently("s3://b", lambda: None)  # it is known
    with ward.tries.kept(), caplog.at_level(logging.WARNING):
        ward.begin("a")
        for _ in range(2):
            left = [OSError("AWS Error SLOW_DOWN")]

            def away(left: list[OSError] = left) -> None:
                if left:
                    raise left.pop()

            patiently("s3://b", away, lambda seconds: time.sleep(0.2))
    heard = [r.getMessage() for r in caplog.records if r.name == "medsae_ray.runtime.tries"]
    assert len(heard) == 1 and heard[0].startswith("s3://b does not answer (AWS Error SLOW_DOWN) and is retried")
    assert not ward.book.lines
    monkeypatch.setattr("medsae_ray.core.artifacts.patience._hears", [])


def test_a_node_whose_raylet_does_not_answer_is_not_up() -> None:
    with socket.socket() as raylet:
        raylet.bind(("127.0.0.1", 0))
        raylet.listen()
        node = {"NodeManagerAddress": "127.0.0.1", "NodeManagerPort": raylet.getsockname()[1]}
        assert _answers(node)
    assert not _answers(node)


def test_the_book_of_the_cluster_is_written_on_workers_and_read_by_all(ray_cluster: None) -> None:
    assert standing({this_node(), "0" * 56}) == {this_node()}

    @ray.remote(num_cpus=0, max_retries=0)
    def begin(tries: Any) -> int:
        return pickle.loads(tries).begin("shard 1", "it was read")

    with Tries(1).kept() as tries:
        assert ray.get([begin.remote(pickle.dumps(tries))]) == [0]
        assert ray.get([begin.remote(pickle.dumps(tries))]) == [1]
        with pytest.raises(ShardError, match="died 2 times"):
            tries.begin("shard 1", "it was read")
        tries.end("shard 1", "it was read")
        assert tries.begin("shard 1", "it was read") == 0
    assert not ControlService().keys(f"medsae-tries/{tries.name}")


def test_without_a_control_service_work_goes_on_uncounted() -> None:
    """Not even joined to a cluster: nothing is written and nothing refused."""
    tries = Tries(0, here=lambda: "a", book=ControlService(), standing=lambda nodes: nodes)
    if not ray.is_initialized():
        assert [tries.begin("shard 1", "it was read") for _ in range(3)] == [0, 0, 0]
        tries.end("shard 1", "it was read")
