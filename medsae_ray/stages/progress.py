"""Progress on the terminal: one live display that any number of stages share, from any thread."""

import threading
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

DOING = {
    "images": "the phantoms are drawn",
    "organs": "every mask is read, for the organs of each slice",
    "manifest": "the dataset is read, labels and patients are checked, patients are split",
    "embeddings": "every image goes through the encoder",
    "sae": "the sparse autoencoder is trained on the embeddings",
    "activations": "which features are active on each image",
    "features": "every feature is held against every label",
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
        self.progress = Progress(*columns, console=console, transient=True, disable=not console.is_interactive)
        self.lock = threading.Lock()
        self.up = 0
        self.stopped = threading.Event()

    def stop(self) -> None:
        """Whoever next says how far it is gets KeyboardInterrupt, in its own thread."""
        self.stopped.set()

    def bar(self, label: str, total: int | None) -> "Bar":
        """A bar for a `with` block; `total` None is work of unknown length."""
        return Bar(self, label, total)

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
    """One line of the display."""

    def __init__(self, bars: Bars, label: str, total: int | None) -> None:
        self.bars, self.label, self.total = bars, label, total
        self.task: TaskID | None = None

    def __enter__(self) -> Self:
        self.task = self.bars._open(self.label, self.total)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def advance(self, by: int = 1) -> None:
        if self.bars.stopped.is_set():
            raise KeyboardInterrupt
        if self.task is not None:
            self.bars.progress.advance(self.task, by)

    def say(self, text: str) -> None:
        """Show `text` behind the label."""
        if self.task is not None:
            self.bars.progress.update(self.task, description=f"{self.label}: {text}")

    def close(self) -> None:
        if self.task is not None:
            self.bars._close(self.task)
            self.task = None
