"""A run: the artifacts that a recipe asks for, each made once from its parents."""

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
from medsae_ray.runtime.in_flight import unfinished
from medsae_ray.runtime.made import Made, commit, now
from medsae_ray.runtime.places import check_seen
from medsae_ray.runtime.progress import DOING
from medsae_ray.runtime.shards import map_shards
from medsae_ray.signals import rearm

T = TypeVar("T")
REASONS = 3
"""The most reasons of rows that are not ok in a printed line."""
NOUNS = {
    "volumes": "files",
    "organs": "files",
    "monosemanticity": "units",
    "scores": "names",
    "rankings": "rankings",
    "sweep": "SAEs",
}
"""The rows of stages that have none for images."""
PATIENCE_S = 5
"""The seconds that a stopped run waits for its branches."""
FEW_IMAGES = 1000
"""The most images for which the start of a local cluster and of its workers takes longer than most encoders."""


@dataclass(frozen=True)
class Stage:
    """The definition of one kind of artifact."""

    name: str
    version: int
    """The version, raised whenever the same input would give another output."""
    parents: Callable[[Recipe], tuple[str, ...]]
    what: Callable[["Run"], dict[str, Any]]
    """The part of the recipe that decides the content, and the content hashes of files that it names."""
    make: Callable[["Run", Draft], "Made"]
    needs: Callable[[Recipe], tuple[str, ...]] = lambda recipe: ()
    """The stages that `make` takes from the run but whose content `what` covers: made first, if needed, and part of no
    name."""
    warnings: Callable[["Run", Artifact], Iterable[RunWarning]] = lambda run, artifact: ()
    """The doubts that a reader of the artifact has to know, from its record."""
    demands: Callable[[Recipe], Iterable[Demand]] = lambda recipe: ()
    """The demands that it has on the cluster at once, besides the engine's; none if the driver computes it."""
    lacks: Callable[[Recipe], str | None] = lambda recipe: None
    """The part of a recipe that it needs and that is missing; None if it can be made."""
    chosen_by: Callable[[Recipe], tuple[str, ...]] = lambda recipe: ()
    """The stages that decide what `what` says, and are part of no name: made before it is named."""

    def before(self, recipe: Recipe) -> tuple[str, ...]:
        """Return the stages that have to be made before its artifact has a name."""
        return (*self.parents(recipe), *self.chosen_by(recipe))


@dataclass(frozen=True)
class StageRow:
    """A line of the closing table and of summary.json."""

    name: str
    artifact: str
    start: str
    end: str
    rows: int
    not_ok: int
    seconds: float
    """The seconds that this run spent on it; 0 if it was there already."""


class Run:
    """A maker of artifacts below `root`, each made once. Threads may share it."""

    def __init__(
        self, recipe: Recipe, root: Store, stages: dict[str, Stage], console: Console, engine: Engine | None = None
    ) -> None:
        self.recipe, self.root, self.stages, self.console = recipe, root, stages, console
        self.rows: list[StageRow] = []
        self.warnings: list[RunWarning] = []
        """The warnings of all artifacts so far."""
        self._artifacts: dict[str, Artifact] = {}
        self._whats: dict[tuple[Any, ...], dict[str, Any]] = {}
        self._made = defaultdict[str, threading.RLock](threading.RLock)
        self._lock, self._joining, self._starting = threading.Lock(), threading.Lock(), threading.Lock()
        # Ray's processes end with the thread that started them, and a branch's thread ends before the run does.
        self._home = ThreadPoolExecutor(1, "ray")
        self._on_exit = contextlib.ExitStack()
        self._connected = False
        self._seen: set[str] = set()
        """The nodes that have the same root."""
        self._engine = engine
        self.board = Board()
        """The progress of the run; its listeners are in watching.py."""

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, *error: object) -> None:
        self._home.submit(self._on_exit.close).result()
        self._home.shutdown()

    def artifact(self, name: str) -> Artifact:
        """Return the artifact of stage `name`: as committed, or made now with all that it needs."""
        with self._lock:
            lock = self._made[name]
        with lock:
            if name not in self._artifacts:
                stage = self.stages[name]
                before = {other: self.artifact(other) for other in stage.before(self.recipe)}
                self._artifacts[name] = self._make(stage, before)
            return self._artifacts[name]

    def known(self, name: str) -> Artifact | None:
        """Return the artifact of stage `name` if this run has it by now."""
        return self._artifacts.get(name)

    def committed(self, name: str) -> Artifact | None:
        """Return the artifact of stage `name` if it and all its parents are committed; none is made."""
        if name not in self._artifacts:
            stage = self.stages[name]
            before = {other: self.committed(other) for other in stage.before(self.recipe)}
            there = {other: artifact for other, artifact in before.items() if artifact}
            return self.draft(stage, there).committed() if len(there) == len(before) else None
        return self._artifacts[name]

    def draft(self, stage: Stage, before: dict[str, Artifact]) -> Draft:
        """Return the draft of `stage` from what is made before it, whether it is committed or not."""
        parents = {parent: before[parent] for parent in stage.parents(self.recipe)}
        return Draft(self.root, stage.name, stage.version, self._what(stage, before), parents)

    def _what(self, stage: Stage, before: dict[str, Artifact]) -> dict[str, Any]:
        """Return the stage's *what*, found once: it may list a dataset's hundred thousand files, and a run asks for it
        at each look for an artifact."""
        key = stage.name, *((other, artifact.name) for other, artifact in sorted(before.items()))
        if key not in self._whats:
            self._whats[key] = stage.what(self)
        return self._whats[key]

    def together(self, *names: str) -> None:
        """Make several artifacts at the same time, after all that more than one of them needs.

        Ctrl-C reaches this thread alone: the others stop at their next report of progress, and are abandoned if that
        takes long.
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
        """Return the stages behind stage `name`."""
        before = self.stages[name].before(self.recipe)
        return set(before).union(*map(self.ancestors, before))

    def connect(self) -> None:
        """Join the Ray cluster, once, and only if a stage computes on it. Any thread may call this, and each call
        checks that new nodes see the root."""
        with self._joining:
            if not self._connected:
                self.say("starting Ray" if not (hint := loop_hint(self)) else f"starting Ray. {hint}")
                self._home.submit(self._on_exit.enter_context, cluster(self.recipe.how)).result()
                self._connected = True
            check_seen(self.root, self._seen)
            rearm()

    @property
    def has_engine(self) -> bool:
        """True if the engine has been started, or was given."""
        return self._engine is not None

    def engine(self) -> Engine:
        """Return the vision-language engine, started on first use and stopped at the end of the run."""
        with self._starting:
            if self._engine is None:
                self.connect()
                with self.bar("engine", None) as bar:
                    opened = cluster_engine(self.recipe, bar.say, self.say)
                    self._engine = self._on_exit.enter_context(opened)
            return self._engine

    def say(self, text: str) -> None:
        """Print one line on the current work, so that no run is silent for long, also in a log."""
        self.console.print(f"[dim]· {escape(text)}[/]", highlight=False)

    def bar(self, label: str, total: int | None, unit: str = "", step: str = "") -> Bar:
        """Return a piece of work for a `with` block: see `Board.bar`."""
        return self.board.bar(label, total, unit, step)

    def map(
        self,
        work: ShardWork,
        draft: Draft,
        schema: pa.Schema | None,
        pool: Pool,
        look: Callable[[Receipt], None] = lambda receipt: None,
    ) -> Made:
        """Compute the missing parts of a sharded artifact.

        A part without a usable row is made again: an earlier run may have read the wrong folder. `look` gets each
        receipt as its part appears, and may stop the run.
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
        """Count `items` on a bar as they arrive."""
        with self.bar(label, total, unit, step) as bar:
            for item in items:
                yield item
                bar.advance()

    def _make(self, stage: Stage, before: dict[str, Artifact]) -> Artifact:
        with self.board.stage(stage.name, _noun(stage.name)) as shown:
            draft = self.draft(stage, before)
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
        """Make the artifact; return it with the start and the duration."""
        for name in stage.needs(self.recipe):
            self.artifact(name)
        self.say(f"{stage.name}: {DOING.get(stage.name, 'making it')}")
        start, clock = now(), time.perf_counter()
        with told_plainly(stage.name), self._waiting(stage):
            made = stage.make(self, draft)
        seconds = time.perf_counter() - clock
        return commit(draft, made, start, seconds), start, seconds

    def _waiting(self, stage: Stage) -> contextlib.AbstractContextManager[None]:
        """Log the demands that the stage waits for, if the cluster has no room for it."""
        demands = tuple(stage.demands(self.recipe)) if self.recipe.how.engine == "ray" else ()
        thread = threading.get_ident()
        return waiting(self.say, demands, lambda: self.board.done(stage.name), lambda: unfinished(thread))

    def _warn(self, warnings: Iterable[RunWarning]) -> None:
        for warning in warnings:
            with self._lock:
                known = warning in self.warnings
                self.warnings += [] if known else [warning]
            if not known:
                self.console.print(warning_line(warning))


def joins(recipe: Recipe) -> bool:
    """Return True if the run computes on an existing cluster."""
    return recipe.how.engine == "ray" and cluster_address(recipe.how) is not None


def loop_hint(run: Run) -> str:
    """Return advice if Ray costs more than the work; "" if it does not, or is needed anyway."""
    how, manifest = run.recipe.how, run.known("manifest")
    elsewhere = cluster_address(how)
    hosted = run.recipe.what.naming and how.vlm and not how.vlm.url
    if how.engine == "loop" or elsewhere or hosted or manifest is None or manifest.record.rows > FEW_IMAGES:
        return ""
    return f"For {manifest.record.rows:,} images how.engine: loop is quicker: the same results, and no cluster to start"


def _tick(record: Record, seconds: float) -> str:
    """Return the text after a stage's name: its time, and the rows that are not ok, with the main reasons."""
    time = f"  {seconds:.1f} s" if seconds else " (already there)"
    said = counted(record.not_ok, record.rows, REASONS, _noun(record.stage))
    return f"{time}, {said}" if record.not_ok else time


def _noun(stage: str) -> str:
    """Return the kind of a stage's rows that may be not ok."""
    return NOUNS.get(stage, "images")


def _rows(receipts: Iterable[Receipt]) -> tuple[int, int]:
    """Count the rows of parts, and those that are not ok."""
    counts = [(receipt.rows, sum(receipt.not_ok.values())) for receipt in receipts]
    return sum(rows for rows, _ in counts), sum(bad for _, bad in counts)


def warning_line(warning: RunWarning) -> str:
    """Format a warning for the console."""
    return f"[yellow]![/] {escape(warning.message)}"
