"""A run's board for people: bars on a terminal, lines now and then in a log."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from medsae_ray.runtime.board import RUNNING, Board, BoardListener, StageNow

EVERY_S = 30.0
"""Seconds between two lines of one stage in a log."""
PATIENCE_S = 15.0
"""Longest wait, at the end of a run, for a listener that is at work: a store may have gone away."""
DOING = {
    "images": "the phantoms are drawn",
    "organs": "every mask is read, for the organs of each slice",
    "manifest": "the dataset is read, labels and patients are checked, patients are split",
    "embeddings": "every image goes through the encoder",
    "sae": "the sparse autoencoder is trained on the embeddings",
    "activations": "which features are active on each image",
    "features": "every feature is held against every label",
    "probes": "linear probes on all dimensions and on all features",
    "label_names": "labels are tried as names",
    "vocabulary_names": "terms of the vocabulary are tried as names",
    "samples": "images are chosen for names and for their tests",
    "names": "the vision-language model names features",
    "answers": "the names are tested on other patients",
    "label_answers": "the labels' names are tested on other patients",
    "vocabulary_answers": "the vocabulary's names are tested on other patients",
    "scores": "the answers are scored",
    "atlas": "all that is known of each feature is put together",
    "sweep": "the SAEs of the sweep are trained",
    "dataset_features": "features are held against the labels of each dataset",
    "replication": "what one dataset shows is looked for in the others",
    "fingerprints": "every image is read for near-duplicates",
    "duplicates": "near-duplicates are looked for",
}
"""What a run says when it begins a stage."""


class Screen:
    """One live display of all bars. It is up while at least one is."""

    every_s = 0.2

    def __init__(self, console: Console) -> None:
        columns = (TextColumn("{task.description:<12}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self.progress = Progress(*columns, console=console, transient=True)
        self.tasks: dict[str, TaskID] = {}

    def look(self, board: Board) -> None:
        """Update the bars of running stages and remove those of others."""
        shown = {stage.name: stage for stage in board.now() if stage.state == RUNNING and (stage.total or stage.text)}
        for name in set(self.tasks) - set(shown):
            self.progress.remove_task(self.tasks.pop(name))
        for name, stage in shown.items():
            if name not in self.tasks:
                self.progress.start()
                self.tasks[name] = self.progress.add_task(name, total=stage.total)
            said = ": ".join(part for part in (name, _said(stage)) if part)
            self.progress.update(self.tasks[name], description=said, completed=stage.done, total=stage.total)
        if not self.tasks:
            self.progress.stop()


class Lines:
    """A line of each running stage, every so often."""

    every_s = 1.0

    def __init__(self, console: Console) -> None:
        self.console = console
        self.written: dict[tuple[str, float], float] = {}
        """When a stage had its last line."""

    def look(self, board: Board) -> None:
        """Print a line for each running stage that has had none for `EVERY_S` seconds."""
        now = board.clock()
        for stage in board.now():
            key = stage.name, stage.begun
            if stage.state == RUNNING and now - self.written.get(key, now - stage.seconds) >= EVERY_S:
                self.written[key] = now
                self.console.print(line(stage), highlight=False, markup=False, soft_wrap=True)


def line(stage: StageNow) -> str:
    """A stage as one line of a log."""
    of = "" if stage.total is None else f" of {stage.total:,}"
    counted = f"{stage.done:,}{of} {stage.unit}".strip() if stage.total is not None or stage.done else ""
    rows = f"{stage.rows:,} {stage.noun}" if stage.rows else ""
    bad = f"{stage.not_ok:,} of them not ok" if stage.not_ok else ""
    speed = rate(stage.rate, stage.rate_unit)
    left = f"about {duration(stage.left_s)} left" if stage.left_s else f"{duration(stage.seconds)} so far"
    said = _said(stage) or ("" if counted else DOING.get(stage.name, ""))
    return f"{stage.name}: " + ", ".join(part for part in (counted, rows, bad, said, speed, left) if part)


def _said(stage: StageNow) -> str:
    if {"fvu", "l0", "dead"} <= set(stage.numbers):
        of = stage.numbers
        return f"FVU {of['fvu']:.3f}, L0 {of['l0']:.1f}, dead {of['dead']:.0%}"
    return stage.text


def rate(per_s: float | None, unit: str) -> str:
    """A speed to read: "105 images/s", "3.2 epochs/s", "12 parts/min"; "" if there is none."""
    if not per_s:
        return ""
    if per_s >= 1:
        return f"{per_s:,.{0 if per_s >= 10 else 1}f} {unit}/s"
    return f"{60 * per_s:,.{0 if per_s >= 1 / 6 else 1}f} {unit}/min"


def duration(seconds: float) -> str:
    """A time to read: "40 s", "12 min", "3.5 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def on(console: Console) -> BoardListener:
    """What shows a board on a terminal, or in a file."""
    return Screen(console) if console.is_interactive else Lines(console)


@contextmanager
def listened(board: Board, *listeners: BoardListener) -> Iterator[None]:
    """Every listener looks at the board for the length of the block, each in a thread of its own: a store that does
    not answer keeps no line from the log."""
    over = threading.Event()

    def follow(listener: BoardListener) -> None:
        last = False
        while not last:
            last = over.is_set()
            with suppress(Exception):
                listener.look(board)
            over.wait(listener.every_s)

    threads = [threading.Thread(target=follow, args=(it,), name=type(it).__name__, daemon=True) for it in listeners]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        end = time.monotonic() + PATIENCE_S
        for thread in threads:
            thread.join(max(0.0, end - time.monotonic()))
