"""A run's board: what is counted, rates and estimates, the lines of a log and the bars of a terminal."""

import contextlib
import io
import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from medsae_ray.runtime.board import Board, StageNow
from medsae_ray.runtime.progress import Lines, Screen, duration, line, listened
from tests.support.clock import Clock


def written(**how: object) -> Console:
    return Console(file=io.StringIO(), width=120, **how)  # type: ignore[arg-type]


def text(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def board(clock: Clock) -> Board:
    return Board(clock, clock)


def test_a_file_has_a_line_of_each_stage_at_most_every_so_often(board: Board, clock: Clock) -> None:
    console = written()
    lines = Lines(console)
    with board.bar("sae", 4000, "epochs") as bar:
        for epoch in range(1001, 4001):
            clock.now += 0.125
            bar.reach(epoch, epoch=epoch, fvu=0.25, l0=3.14, dead=0.125)
            lines.look(board)
    said = text(console).splitlines()
    assert len(said) == 12
    assert said[0] == "sae: 1,240 of 4,000 epochs, FVU 0.250, L0 3.1, dead 12%, 8.0 epochs/s, about 6 min left"
    assert said[-1] == "sae: 3,880 of 4,000 epochs, FVU 0.250, L0 3.1, dead 12%, 8.0 epochs/s, about 15 s left"


def test_a_stage_that_says_nothing_is_not_silent_for_a_minute(board: Board, clock: Clock) -> None:
    console = written()
    lines, at = Lines(console), list[float]()
    with board.stage("samples"), board.bar("names", 50, "names"):
        for _ in range(200):
            clock.now += 1
            before = len(text(console).splitlines())
            lines.look(board)
            at += [clock.now] * (len(text(console).splitlines()) - before)
    said = text(console).splitlines()
    assert said[:2] == [
        "samples: choosing images for names and for their tests, 30 s so far",
        "names: 0 of 50 names, 30 s so far",
    ]
    assert sum(line.startswith("samples") for line in said) == sum(line.startswith("names") for line in said) == 6
    assert max(b - a for a, b in pairwise(at)) < 60


def test_parts_tell_images_their_rate_and_what_is_not_ok(board: Board, clock: Clock) -> None:
    with board.stage("embeddings"), board.bar("embeddings", 100, "parts") as bar:
        bar.found(40, rows=20_480, not_ok=3)
        for _ in range(10):
            clock.now += 10
            bar.advance(1, rows=512, not_ok=1)
        (now,) = board.now()
    assert line(now) == ("embeddings: 50 of 100 parts, 25,600 images, 13 of them not ok, 51 images/s, about 8 min left")
    assert now.counts == {"parts": 10, "rows": 5120, "not_ok": 10}, "what this run did"


def test_a_rate_is_of_the_last_minutes_and_falls_when_nothing_comes(board: Board, clock: Clock) -> None:
    with board.bar("answers", 10_000, "questions") as bar:
        bar.found(0)
        for step in [1] * 600 + [10] * 400:
            clock.now += 1
            bar.advance(step)
        assert board.now()[0].rate == pytest.approx(10, rel=0.02)
        clock.now += 300
        assert board.now()[0].rate == pytest.approx(5, rel=0.02)


@given(st.lists(st.tuples(st.integers(-5, 50), st.integers(0, 3), st.floats(0, 100)), max_size=40))
def test_done_never_goes_back(steps: list[tuple[int, int, float]]) -> None:
    clock = Clock()
    board, seen = Board(clock, clock), list[StageNow]()
    with board.bar("sae", 100, "epochs") as bar:
        for done, by, seconds in steps:
            clock.now += seconds
            bar.reach(done)
            bar.advance(by)
            seen += board.now()
    assert all(a.done <= b.done and a.begun == b.begun for a, b in pairwise(seen))
    assert all(now.left_s is None or now.left_s >= 0 for now in seen if now.done <= 100)


def test_a_bar_that_opens_a_stage_closes_it_and_an_error_is_its_state(board: Board) -> None:
    with board.bar("engine", None) as bar:
        bar.say("loading [weights]")
        assert line(board.now()[0]) == "engine: loading [weights], 0 s so far"
    with contextlib.suppress(ZeroDivisionError), board.stage("sae"):
        raise ZeroDivisionError
    with contextlib.suppress(KeyboardInterrupt), board.stage("names"):
        board.stop()
        with board.bar("names", 3, "names") as bar:
            bar.advance()
    assert [(now.name, now.state) for now in board.now()] == [
        ("engine", "done"),
        ("sae", "failed"),
        ("names", "stopped"),
    ]
    board.end("failed", "because")
    assert board.now()[0].state == "done", "the first end counts"


def test_a_terminal_has_a_bar_of_each_stage_that_counts(board: Board) -> None:
    console = written(force_terminal=True, force_interactive=True)
    screen = Screen(console)
    with board.bar("embeddings", 5, "parts") as bar:
        bar.advance(2)
        screen.look(board)
        screen.progress.refresh()
    screen.look(board)
    assert "2/5" in text(console) and not screen.tasks and not screen.progress.live.is_started


def test_a_listener_that_fails_is_not_heard(board: Board) -> None:
    class Broken:
        every_s = 0.01
        looks = 0

        def look(self, board: Board) -> None:
            self.looks += 1
            raise OSError("no space left")

    broken = Broken()
    with listened(board, broken):
        time.sleep(0.05)
    assert broken.looks > 1


def test_times_are_for_reading() -> None:
    assert [duration(s) for s in (0.4, 89, 91, 3600, 9000)] == ["0 s", "89 s", "2 min", "60 min", "2.5 h"]
