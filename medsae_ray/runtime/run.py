"""A run: the artifacts that a recipe asks for, each made once, from what it is made of."""

import contextlib
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, TypeVar

import pyarrow as pa
from rich.console import Console
from rich.markup import escape

from medsae_ray.cluster.demands import Demand
from medsae_ray.cluster.joining import cluster, cluster_address, told_plainly
from medsae_ray.cluster.waiting import waiting
from medsae_ray.config import Pool, Recipe
from medsae_ray.core.artifacts.artifact import Artifact, Draft, Receipt, Record
from medsae_ray.core.artifacts.store import Store
from medsae_ray.core.artifacts.warnings import RunWarning, distinct
from medsae_ray.core.artifacts.work import ShardWork
from medsae_ray.core.images.unreadable import counted, nothing_usable
from medsae_ray.core.naming.engine import Engine
from medsae_ray.engine.session import cluster_engine
from medsae_ray.runtime.board import Bar, Board
from medsae_ray.runtime.made import Made, commit, now
from medsae_ray.runtime.places import check_seen
from medsae_ray.runtime.progress import DOING
from medsae_ray.runtime.shards import map_shards
from medsae_ray.signals import rearm

T = TypeVar("T")
REASONS = 3
"""Of the reasons why rows are not ok, the most frequent ones are printed."""
PATIENCE_S = 5
"""Seconds that a stopped run waits for its branches."""
FEW_IMAGES = 1000
"""Up to so many the start of a local cluster and of its workers takes longer than the work of most encoders."""


@dataclass(frozen=True)
class Stage:
    """How one kind of artifact is made."""

    name: str
    version: int
    """Raised whenever the same input would give another output."""
    parents: Callable[[Recipe], tuple[str, ...]]
    what: Callable[["Run"], dict[str, Any]]
    """The part of the recipe that decides the content, and the content hashes of files it names."""
    make: Callable[["Run", Draft], "Made"]
    needs: Callable[[Recipe], tuple[str, ...]] = lambda recipe: ()
    """Stages that `make` takes from the run and that `what` already says all of: made first, if there is something to
    make, and in no name."""
    warnings: Callable[["Run", Artifact], Iterable[RunWarning]] = lambda run, artifact: ()
    """What a reader of the artifact has to know, from its record."""
    demands: Callable[[Recipe], Iterable[Demand]] = lambda recipe: ()
    """What it holds of the cluster at once, beside the engine; nothing if it computes in the run's own process."""
    lacks: Callable[[Recipe], str | None] = lambda recipe: None
    """What a recipe has to have for it and does not have; None if it can be made."""


@dataclass(frozen=True)
class StageRow:
    """One line of the closing table and of summary.json."""

    name: str
    artifact: str
    start: str
    end: str
    rows: int
    not_ok: int
    seconds: float
    """Seconds this run spent on it; 0 if it was there already."""


class Run:
    """Makes artifacts below `root`, and remembers what it made. Threads may share it."""

    def __init__(
        self, recipe: Recipe, root: Store, stages: dict[str, Stage], console: Console, engine: Engine | None = None
    ) -> None:
        self.recipe, self.root, self.stages, self.console = recipe, root, stages, console
        self.rows: list[StageRow] = []
        self.warnings: list[RunWarning] = []
        """Of all artifacts so far."""
        self._artifacts: dict[str, Artifact] = {}
        self._made = defaultdict[str, threading.RLock](threading.RLock)
        self._lock, self._joining, self._starting = threading.Lock(), threading.Lock(), threading.Lock()
        # Ray's processes end with the thread that started them, and a branch's thread ends before the run does.
        self._home = ThreadPoolExecutor(1, "ray")
        self._on_exit = contextlib.ExitStack()
        self._connected = False
        self._seen: set[str] = set()
        """Nodes that have the same root."""
        self._engine = engine
        self.board = Board()
        """How far everything is; nobody looks at it unless told to (watching.py)."""

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, *error: object) -> None:
        self._home.submit(self._on_exit.close).result()
        self._home.shutdown()

    def artifact(self, name: str) -> Artifact:
        """The artifact of stage `name`: as committed, or made now with whatever it needs."""
        with self._lock:
            lock = self._made[name]
        with lock:
            if name not in self._artifacts:
                stage = self.stages[name]
                parents = {parent: self.artifact(parent) for parent in stage.parents(self.recipe)}
                self._artifacts[name] = self._make(stage, parents)
            return self._artifacts[name]

    def known(self, name: str) -> Artifact | None:
        """The artifact of stage `name` if this run has it by now."""
        return self._artifacts.get(name)

    def committed(self, name: str) -> Artifact | None:
        """The artifact of stage `name` if it is there with all that it is made of; nothing is made."""
        if name not in self._artifacts:
            stage = self.stages[name]
            parents = {parent: self.committed(parent) for parent in stage.parents(self.recipe)}
            there = {parent: artifact for parent, artifact in parents.items() if artifact}
            return self.draft(stage, there).committed() if len(there) == len(parents) else None
        return self._artifacts[name]

    def draft(self, stage: Stage, parents: dict[str, Artifact]) -> Draft:
        """The artifact of `stage` by what it is made of, whether it is there or not."""
        return Draft(self.root, stage.name, stage.version, stage.what(self), parents)

    def together(self, *names: str) -> None:
        """Make several artifacts at the same time, after all that more than one of them needs.

        Ctrl-C reaches this thread alone: the others leave when they next say how far they are, and are left to
        themselves if that takes long.
        """
        needs = [self.ancestors(name) for name in names]
        for name in self.stages:
            if sum(name in need for need in needs) > 1:
                self.artifact(name)
        threads, stopped = ThreadPoolExecutor(len(names)), False
        branches: list[Future[Artifact]] = []
        try:
            branches += [threads.submit(self.artifact, name) for name in names]
            for made in branches:
                while not wait([made], timeout=1).done:
                    rearm()  # a branch may have started Ray
                made.result()
        except KeyboardInterrupt:
            stopped = True
            self.board.stop()
            wait(branches, timeout=PATIENCE_S)
            raise
        finally:
            threads.shutdown(wait=not stopped)

    def ancestors(self, name: str) -> set[str]:
        """The stages that stage `name` is made of."""
        parents = self.stages[name].parents(self.recipe)
        return set(parents).union(*map(self.ancestors, parents))

    def connect(self) -> None:
        """Join the Ray cluster, once, and only if something has to be computed on it. Any thread may ask, and each time
        the nodes that are new are asked whether they see the root."""
        with self._joining:
            if not self._connected:
                self.say("starting Ray" if not (hint := loop_hint(self)) else f"starting Ray. {hint}")
                self._home.submit(self._on_exit.enter_context, cluster(self.recipe.how)).result()
                self._connected = True
            check_seen(self.root, self._seen)
            rearm()

    @property
    def has_engine(self) -> bool:
        """Whether the engine has been started, or was given."""
        return self._engine is not None

    def engine(self) -> Engine:
        """The vision-language engine, started when it is first needed and stopped at the end of the run."""
        with self._starting:
            if self._engine is None:
                self.connect()
                with self.bar("engine", None) as bar:
                    opened = cluster_engine(self.recipe, bar.say, self.say)
                    self._engine = self._on_exit.enter_context(opened)
            return self._engine

    def say(self, text: str) -> None:
        """One line of what is done now, so that no run is silent for long, in a log neither."""
        self.console.print(f"[dim]· {escape(text)}[/]", highlight=False)

    def bar(self, label: str, total: int | None, unit: str = "", step: str = "") -> Bar:
        """A piece of work for a `with` block: see `Board.bar`."""
        return self.board.bar(label, total, unit, step)

    def map(
        self,
        work: ShardWork,
        draft: Draft,
        schema: pa.Schema | None,
        pool: Pool,
        look: Callable[[Receipt], None] = lambda receipt: None,
    ) -> Made:
        """Compute the parts of a sharded artifact that are not there yet.

        A part without a usable row is made again: an earlier run may have looked in the wrong folder. `look` is given
        each receipt as its part appears, and may stop the run.
        """
        writer = draft.writer(schema)
        with self.bar(draft.stage, len(work.rows), "parts", "looked at") as bar:
            there = writer.finished(work.rows, bar.reach)
        receipts = {shard: receipt for shard, receipt in there.items() if not nothing_usable(receipt)}
        todo = sorted(set(work.rows) - set(receipts))
        if todo and self.recipe.how.engine == "ray":
            self.connect()
        new = (receipt for receipt in map_shards(work, writer, todo, pool, self.recipe.how.engine))
        with contextlib.closing(new), self.bar(draft.stage, len(work.rows), "parts", "made") as bar:
            bar.found(len(receipts), *_rows(receipts.values()))
            for receipt in new:
                look(receipt)
                receipts[receipt.shard] = receipt
                bar.advance(1, *_rows([receipt]))
        return Made(list(receipts.values()), reused=len(work.rows) - len(todo))

    def track(
        self, items: Iterable[T], label: str, total: int, unit: str = "parts", step: str = ""
    ) -> Generator[T, None, None]:
        """A bar that counts `items` as they arrive."""
        with self.bar(label, total, unit, step) as bar:
            for item in items:
                yield item
                bar.advance()

    def _make(self, stage: Stage, parents: dict[str, Artifact]) -> Artifact:
        with self.board.stage(stage.name, _noun(stage.name)) as shown:
            draft = self.draft(stage, parents)
            shown.artifact = draft.name
            found, start, seconds = draft.committed(), "", 0.0
            there = found is not None
            if found is None:
                found, start, seconds = self._made_of(stage, draft)
            record = found.record
            bad = sum(record.not_ok.values())
            start = start or record.run["start"]
            self.rows.append(StageRow(stage.name, record.name, start, record.run["end"], record.rows, bad, seconds))
            self.console.print(f"[green]✓[/] {record.name}" + _tick(record, seconds))
            warnings = distinct(stage.warnings(self, found))
            self.board.finish(stage.name, record.rows, bad, len(found.parts), warnings, there)
        self._warn(warnings)
        return found

    def _made_of(self, stage: Stage, draft: Draft) -> tuple[Artifact, str, float]:
        """The artifact, when its making began, and how long that took."""
        for name in stage.needs(self.recipe):
            self.artifact(name)
        self.say(f"{stage.name}: {DOING.get(stage.name, 'is made')}")
        start, clock = now(), time.perf_counter()
        with told_plainly(stage.name), self._waiting(stage):
            made = stage.make(self, draft)
        seconds = time.perf_counter() - clock
        return commit(draft, made, start, seconds), start, seconds

    def _waiting(self, stage: Stage) -> contextlib.AbstractContextManager[None]:
        """Says what the stage waits for, if the cluster has no room for it."""
        demands = tuple(stage.demands(self.recipe)) if self.recipe.how.engine == "ray" else ()
        return waiting(self.say, demands, lambda: self.board.done(stage.name))

    def _warn(self, warnings: Iterable[RunWarning]) -> None:
        for warning in warnings:
            with self._lock:
                known = warning in self.warnings
                self.warnings += [] if known else [warning]
            if not known:
                self.console.print(warning_line(warning))


def joins(recipe: Recipe) -> bool:
    """Whether the run computes on a cluster that is there already."""
    return recipe.how.engine == "ray" and cluster_address(recipe.how) is not None


def loop_hint(run: Run) -> str:
    """What to do where Ray costs more than the work; "" where it does not, or is needed all the same."""
    how, manifest = run.recipe.how, run.known("manifest")
    elsewhere = cluster_address(how)
    hosted = run.recipe.what.naming and how.vlm and not how.vlm.url
    if how.engine == "loop" or elsewhere or hosted or manifest is None or manifest.record.rows > FEW_IMAGES:
        return ""
    return f"For {manifest.record.rows:,} images how.engine: loop is quicker: the same results, and no cluster to start"


def _tick(record: Record, seconds: float) -> str:
    """What stands behind a stage's name: its time, and the rows that it has nothing for, with the main reasons."""
    time = f"  {seconds:.1f} s" if seconds else " (already there)"
    said = counted(record.not_ok, record.rows, REASONS, _noun(record.stage))
    return f"{time}, {said}" if record.not_ok else time


def _noun(stage: str) -> str:
    """What the rows of a stage are that may be not ok."""
    return "files" if stage == "organs" else "images"


def _rows(receipts: Iterable[Receipt]) -> tuple[int, int]:
    """Rows of parts, and how many of them are not ok."""
    counts = [(receipt.rows, sum(receipt.not_ok.values())) for receipt in receipts]
    return sum(rows for rows, _ in counts), sum(bad for _, bad in counts)


def warning_line(warning: RunWarning) -> str:
    """As it is printed."""
    return f"[yellow]![/] {escape(warning.message)}"
