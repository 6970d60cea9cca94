"""Progress on the terminal: one live display that any number of stages share, from any thread.

Where the output is a file, a line now and then stands in for the display.
"""

import threading
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

EVERY_S = 30.0
"""Shortest time between two lines of one piece of work in a file."""
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


class Bars:
    """The live display. It is up while at least one bar is."""

    def __init__(self, console: Console) -> None:
        columns = (TextColumn("{task.description:<12}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self.console, self.live = console, console.is_interactive
        self.progress = Progress(*columns, console=console, transient=True, disable=not self.live)
        self.lock = threading.Lock()
        self.up = 0
        self.stopped = threading.Event()

    def stop(self) -> None:
        """Whoever next says how far it is gets KeyboardInterrupt, in its own thread."""
        self.stopped.set()

    def bar(self, label: str, total: int | None, unit: str = "") -> "Bar":
        """A bar for a `with` block; `total` None is work of unknown length, counted in `unit`."""
        return Bar(self, label, total, unit)

    def _open(self, label: str, total: int | None) -> TaskID:
        with self.lock:
            if not self.up:
                self.progress.start()
            self.up += 1
            return self.progress.add_task(label, total=total)

    def _close(self, task: TaskID) -> None:
        with self.lock:
            self.progress.remove_task(task)
            self.up -= 1
            if not self.up:
                self.progress.stop()


class Bar:
    """One line of the display, or a line now and then in a file."""

    def __init__(self, bars: Bars, label: str, total: int | None, unit: str = "") -> None:
        self.bars, self.label, self.total, self.unit = bars, label, total, unit
        self.task: TaskID | None = None
        self.done, self.text = 0, ""

    def __enter__(self) -> Self:
        self.task = self.bars._open(self.label, self.total)
        self.written = time.monotonic()
        self.since: tuple[int, float] | None = None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def advance(self, by: int = 1) -> None:
        self.reach(self.done + by)

    def reach(self, done: int, text: str | None = None) -> None:
        """So much is done now. What is first reached may be there from before: no rate is taken from it."""
        if self.bars.stopped.is_set():
            raise KeyboardInterrupt
        if self.task is None:
            return
        self.done = done
        self.since = self.since or (done, time.monotonic())
        self.bars.progress.update(self.task, completed=done)
        self.say(self.text if text is None else text)

    def say(self, text: str) -> None:
        """Show `text` behind the label."""
        if self.task is None:
            return
        if text != self.text:
            self.text = text
            self.bars.progress.update(self.task, description=f"{self.label}: {text}")
        now = time.monotonic()
        if not self.bars.live and now - self.written >= EVERY_S:
            self.written = now
            self.bars.console.print(self._line(now), highlight=False, markup=False)

    def close(self) -> None:
        if self.task is not None:
            self.bars._close(self.task)
            self.task = None

    def _line(self, now: float) -> str:
        of = "" if self.total is None else f" of {self.total:,}"
        counted = f"{self.done:,}{of} {self.unit}".strip() if self.total is not None or self.done else ""
        return f"{self.label}: " + ", ".join(part for part in (counted, self.text, self._left(now)) if part)

    def _left(self, now: float) -> str:
        if self.total is None or self.since is None or self.done <= self.since[0]:
            return ""
        seconds = (now - self.since[1]) / (self.done - self.since[0]) * (self.total - self.done)
        return f"about {duration(seconds)} left"


def duration(seconds: float) -> str:
    """A time to read: "40 s", "12 min", "3.5 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
