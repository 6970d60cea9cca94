"""The display of a run's board for people: bars on a terminal, lines now and then in a log."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from medsae_ray.runtime.board import RUNNING, Board, BoardListener, StageNow

EVERY_S = 30.0
"""The seconds between two lines of one stage in a log."""
PATIENCE_S = 15.0
"""The longest wait, at the end of a run, for a listener at work: a store may be away."""
DOING = {
    "images": "drawing the phantoms",
    "volumes": "drawing phantoms in three dimensions",
    "organs": "reading every mask for the organs of each slice",
    "manifest": "reading the dataset, checking labels and patients, splitting patients",
    "embeddings": "embedding every image with the encoder",
    "random_embeddings": "embedding every image with random weights, a control",
    "second_embeddings": "embedding every image with another encoder, a judge",
    "sae": "training the sparse autoencoder on the embeddings",
    "activations": "computing the active features of each image",
    "features": "correlating every feature with every label",
    "probes": "fitting linear probes on all dimensions and on all features",
    "recovery": "fitting linear probes on the strongest features, with controls",
    "monosemanticity": "measuring how few concepts each feature stands for",
    "retrieval": "searching similar images by fingerprints",
    "likeness": "measuring how far images lie from those of the run",
    "feature_map": "laying features out by their directions",
    "label_names": "choosing names among the labels",
    "vocabulary_names": "choosing names among the terms of the vocabulary",
    "samples": "choosing images for names and for their tests",
    "names": "asking the vision-language model for names",
    "answers": "testing the names on other patients",
    "label_answers": "testing the labels' names on other patients",
    "vocabulary_answers": "testing the vocabulary's names on other patients",
    "scores": "scoring the answers",
    "rankings": "naming features from five images, and ranking each name among five",
    "atlas": "joining the names and figures of each feature",
    "sweep": "training the SAEs of the sweep",
    "ranking": "comparing the SAEs of the sweep on other patients",
    "dataset_features": "correlating features with the labels of each dataset",
    "replication": "testing each dataset's findings on the others",
    "fingerprints": "hashing every image for near-duplicates",
    "duplicates": "searching for near-duplicates",
}
"""The work of each stage, in the line that begins it."""


class Screen:
    """A live display of all bars, visible while one of them runs."""

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
    """A periodic line for each running stage."""

    every_s = 1.0

    def __init__(self, console: Console) -> None:
        self.console = console
        self.written: dict[tuple[str, float], float] = {}
        """The time of each stage's last line."""

    def look(self, board: Board) -> None:
        """Print a line for each running stage that has had none for `EVERY_S` seconds."""
        now = board.clock()
        for stage in board.now():
            key = stage.name, stage.begun
            if stage.state == RUNNING and now - self.written.get(key, now - stage.seconds) >= EVERY_S:
                self.written[key] = now
                self.console.print(line(stage), highlight=False, markup=False, soft_wrap=True)


def line(stage: StageNow) -> str:
    """Format a stage as one line of a log."""
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
    """Format a speed: "105 images/s", "3.2 epochs/s", "12 parts/min"; "" without one."""
    if not per_s:
        return ""
    if per_s >= 1:
        return f"{per_s:,.{0 if per_s >= 10 else 1}f} {unit}/s"
    return f"{60 * per_s:,.{0 if per_s >= 1 / 6 else 1}f} {unit}/min"


def duration(seconds: float) -> str:
    """Format a time: "40 s", "12 min", "3.5 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def on(console: Console) -> BoardListener:
    """Return the listener that shows a board on a terminal, or in a file."""
    return Screen(console) if console.is_interactive else Lines(console)


@contextmanager
def listened(board: Board, *listeners: BoardListener) -> Iterator[None]:
    """Let every listener read the board for the length of the block, each in a thread of its own: a store that does not
    answer must not delay the log."""
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
