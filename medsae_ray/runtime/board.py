"""The state of a run: its stages, the progress of each, and its counts. There is no other bookkeeping.

Stages write here, by a bar for each piece of work. Listeners read it, each from a thread of its own: the terminal
and the log (progress.py), the status file (status.py), Ray's metrics (metrics.py).
"""

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol, Self

from medsae_ray.core.artifacts.warnings import RunWarning

RUNNING, DONE, THERE, FAILED, STOPPED = "running", "done", "already there", "failed", "stopped"
"""The states of a run or a stage; only a stage can be already there."""
WINDOW_S = 300.0
"""The seconds that a rate is measured over: the last five minutes, or all the time without progress meanwhile."""
_APART_S = 1.0
"""The shortest time between two points of a rate."""


@dataclass(frozen=True)
class StageNow:
    """The state of a stage at one moment."""

    name: str
    artifact: str | None
    """The artifact's name; None for work without one, as the start of the engine."""
    state: str
    begun: float
    """The start on the board's wall clock, seconds since 1970."""
    seconds: float
    """The seconds that it took or has taken so far; 0 if it was there already."""
    step: str
    """The current or last step; within a step, `done` never goes back."""
    unit: str
    """The unit of `done` and `total`."""
    done: int
    """The amount done, including an earlier run's."""
    total: int | None
    """The amount in all; None if it is unknown."""
    rows: int
    """The rows of the artifact (images, mostly) so far."""
    not_ok: int
    """The rows that are not ok."""
    noun: str
    """The kind of the rows: images, or files."""
    rate: float | None
    """The amount of `rate_unit` per second."""
    rate_unit: str
    left_s: float | None
    """The estimated seconds until the step is done."""
    text: str
    """The stage's own description of its work."""
    numbers: Mapping[str, float]
    """The figures of training: epoch, fvu, l0, dead."""
    counts: Mapping[str, int]
    """The counts of this run: parts, rows, not_ok, questions, prompt_tokens, ..."""
    warnings: tuple[RunWarning, ...]


class BoardListener(Protocol):
    """A reader of a board, called again and again and once more when the run has ended."""

    @property
    def every_s(self) -> float:
        """The seconds between two looks."""

    def look(self, board: "Board") -> None:
        """Read the board. Exceptions are ignored: a display must not end a run."""


@dataclass
class ShownStage:
    """A stage in the board's own form."""

    name: str
    begun: float
    wall: float
    noun: str
    """The kind of its rows."""
    artifact: str | None = None
    state: str = RUNNING
    ended: float | None = None
    bar: "Bar | None" = None
    """The last bar that was opened."""
    made: tuple[int, int] | None = None
    """The rows of the finished artifact, and the number of those that are not ok."""
    numbers: dict[str, float] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    warnings: tuple[RunWarning, ...] = ()


class Board:
    """The stages of a run, in the order in which they began. Any thread may write and read."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time) -> None:
        self.clock, self.wall = clock, wall
        self.state, self.error = RUNNING, ""
        self.stopped = threading.Event()
        self.lock = threading.RLock()
        self._stages: dict[str, ShownStage] = {}

    def stop(self) -> None:
        """Raise KeyboardInterrupt in every thread that next reports progress."""
        self.stopped.set()

    def end(self, state: str, error: str = "") -> None:
        """End the run; stages that still run end in the same state."""
        with self.lock:
            self.state, self.error = state, error
            for stage in self._stages.values():
                self._end(stage, state)

    @contextmanager
    def stage(self, name: str, noun: str = "images") -> Iterator["ShownStage"]:
        """Show a stage, whose rows are `noun`, for the length of the block; `finish` is called inside."""
        shown = self._begin(name, noun)
        try:
            yield shown
        except BaseException as error:
            self._end(shown, FAILED if isinstance(error, Exception) else STOPPED)
            raise

    def finish(
        self, name: str, rows: int, not_ok: int, parts: int, warnings: Iterable[RunWarning] = (), there: bool = False
    ) -> None:
        """End a stage with a made artifact, or with one that was `there` before it began."""
        with self.lock:
            stage = self._stages[name]
            stage.made, stage.warnings = (rows, not_ok), tuple(warnings)
            if there:
                stage.begun, stage.bar = self.clock(), Bar(self, name, parts, "parts", done=parts)
            self._end(stage, THERE if there else DONE)

    def bar(self, label: str, total: int | None, unit: str = "", step: str = "") -> "Bar":
        """Return a piece of work for a `with` block: `total` of `unit`, None if it is unknown.

        `label` is the stage's name; another becomes a stage of its own for the length of the block.
        """
        return Bar(self, label, total, unit, step)

    def now(self) -> list[StageNow]:
        """Return the state of every stage at this moment."""
        with self.lock:
            at = self.clock()
            return [_now(stage, at) for stage in self._stages.values()]

    def done(self, name: str) -> int:
        """Return the progress of a stage's step, 0 before it has one."""
        with self.lock:
            stage = self._stages.get(name)
            return stage.bar.done if stage and stage.bar else 0

    def _begin(self, name: str, noun: str = "images") -> "ShownStage":
        with self.lock:
            self._stages[name] = ShownStage(name, self.clock(), self.wall(), noun)
            return self._stages[name]

    def _end(self, stage: "ShownStage", state: str) -> None:
        """End a stage; the first end counts."""
        with self.lock:
            if stage.state == RUNNING:
                stage.state, stage.ended = state, self.clock()

    def _open(self, bar: "Bar") -> "ShownStage":
        """Return the stage that a bar belongs to. A bar that opens one closes it as well."""
        with self.lock:
            stage = self._stages.get(bar.label)
            if stage is None or stage.state != RUNNING:
                stage, bar.alone = self._begin(bar.label), True
            stage.bar = bar
            return stage


class Bar:
    """A piece of work. Outside of its `with` block it counts nothing."""

    def __init__(
        self, board: Board, label: str, total: int | None, unit: str = "", step: str = "", done: int = 0
    ) -> None:
        self.board, self.label, self.total, self.unit, self.step = board, label, total, unit, step or unit
        self.done, self.rows, self.not_ok, self.text = done, 0, 0, ""
        self.points: deque[tuple[float, int, int]] = deque()
        """The times, with the work and the rows done by then."""
        self.stage: ShownStage | None = None
        self.alone = False
        """True if its stage consists of this bar alone."""

    def __enter__(self) -> Self:
        self.stage = self.board._open(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(DONE if kind is None else FAILED if issubclass(kind, Exception) else STOPPED)

    def advance(self, by: int = 1, rows: int = 0, not_ok: int = 0) -> None:
        """Count so much more as done, with so many rows of the artifact."""
        with self.board.lock:
            if self.stage is not None:
                self.count(**{self.unit: by, "rows": rows, "not_ok": not_ok})
                self.rows, self.not_ok = self.rows + rows, self.not_ok + not_ok
            self.reach(self.done + by)

    def found(self, done: int, rows: int = 0, not_ok: int = 0) -> None:
        """Count work of an earlier run: it enters neither the rate nor this run's counts."""
        with self.board.lock:
            self.rows, self.not_ok = rows, not_ok
            self.points.clear()
            self.reach(done)

    def reach(self, done: int, text: str | None = None, **numbers: float) -> None:
        """Set the amount done; a smaller one changes nothing. The first call sets no rate, as an earlier run may have
        done that much."""
        if self.board.stopped.is_set():
            raise KeyboardInterrupt
        with self.board.lock:
            if self.stage is None:
                return
            self.done, self.text = max(done, self.done), self.text if text is None else text
            self.stage.numbers.update(numbers)
            now = self.board.clock()
            if not self.points or now - self.points[-1][0] >= _APART_S:
                self.points.append((now, self.done, self.rows))
            while len(self.points) > 1 and now - self.points[1][0] > WINDOW_S:
                self.points.popleft()

    def say(self, text: str) -> None:
        """Set the description of the current work."""
        self.text = text

    def count(self, **counts: int) -> None:
        """Add to this run's counts."""
        with self.board.lock:
            if self.stage is not None:
                self.stage.counts.update({name: count for name, count in counts.items() if name and count})

    def close(self, state: str = DONE) -> None:
        """End the bar, and in `state` a stage that consists of it alone. A second call does nothing."""
        if self.stage is not None:
            if self.alone:
                self.board._end(self.stage, state)
            self.stage = None

    def rates(self, now: float) -> tuple[float, float] | None:
        """Return work and rows per second; None before any time has passed."""
        if not self.points or now <= self.points[0][0]:
            return None
        at, done, rows = self.points[0]
        return (self.done - done) / (now - at), (self.rows - rows) / (now - at)


def _now(stage: ShownStage, at: float) -> StageNow:
    at, bar = at if stage.ended is None else stage.ended, stage.bar or Bar(Board(), stage.name, None)
    rates = bar.rates(at)
    rate = rates and (rates[1] if bar.rows else rates[0])
    going = stage.state == RUNNING and bar.total is not None and rates is not None and rates[0] > 0
    rows, not_ok = stage.made or (bar.rows, bar.not_ok)
    return StageNow(
        name=stage.name,
        artifact=stage.artifact,
        state=stage.state,
        begun=stage.wall,
        seconds=at - stage.begun,
        step=bar.step,
        unit=bar.unit,
        done=bar.done,
        total=bar.total,
        rows=rows,
        not_ok=not_ok,
        noun=stage.noun,
        rate=rate,
        rate_unit=stage.noun if bar.rows else bar.unit,
        left_s=(bar.total - bar.done) / rates[0] if going and rates and bar.total is not None else None,
        text=bar.text,
        numbers=dict(stage.numbers),
        counts=dict(stage.counts),
        warnings=stage.warnings,
    )
