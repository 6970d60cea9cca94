"""The log of judgements below a root: lines are added, and none is ever changed or removed.

On a local disk it is one file. A writer holds a lock, adds its line by one write at the end and returns after fsync. So
a killed writer leaves at most the beginning of a line, which nobody was told of, and the next writer ends that line. On
an object store, where nothing can be added to a file, each judgement is an object of its own, which is made once.

    <root>/judgements/judgements.jsonl     local
    <root>/judgements/<key>.jsonl          on an object store
"""

import errno
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

from medsae_ray.core.artifacts.locks import locked
from medsae_ray.core.artifacts.store import Store
from medsae_ray.core.artifacts.write_errors import writing
from medsae_ray.core.judgements.record import Judgement, from_line
from medsae_ray.errors import ArtifactError, JudgementError

FOLDER, FILE, SUFFIX = "judgements", "judgements.jsonl", ".jsonl"
_READERS = 16
"""The objects that are read at once."""


class Read(NamedTuple):
    """The contents of a log."""

    judgements: list[Judgement]
    """Each once, in order of time."""
    unreadable: int
    """The lines that are not whole: a writer was killed before it had told anyone, or the file was changed."""


class Log:
    """The log below `root`. It remembers what it has read, so that each look reads only what is new.

    Any number of threads and processes may use one log. Its errors are the store's: ArtifactError for a line that
    cannot be written, OSError for a store that cannot be read.
    """

    def __init__(self, root: Store) -> None:
        self.store = root.child(FOLDER)
        self._lock = threading.Lock()
        self._kept: dict[str, Judgement] = {}
        self._until: dict[str, int] = {}
        """The bytes of each file up to the end of its last line that has one."""
        self._torn: set[str] = set()
        """The files that go on after that."""
        self._bad = 0

    def add(self, judgement: Judgement) -> Judgement:
        """Keep a judgement, and return it once it is safe; or what was kept under its key before."""
        with self._lock:
            if self.store.is_local:
                self._append(judgement)
            else:
                self._put(judgement)
            return self._kept[judgement.key]

    def read(self) -> Read:
        """Read what every writer has added so far."""
        with self._lock:
            self._look()
            found = sorted(self._kept.values(), key=lambda one: (one.at, one.key))
            return Read(found, self._bad + len(self._torn))

    def _append(self, judgement: Judgement) -> None:
        with self._alone() as stream:
            self._look()
            if FILE in self._torn:
                _write(stream, b"\n")
                self._look()  # what lacked nothing but its end is whole now
            if judgement.key not in self._kept:
                _write(stream, judgement.line())
            os.fsync(stream.fileno())  # also for a line that a killed writer left unsynchronised
            self._look()

    def _put(self, judgement: Judgement) -> None:
        name, line = f"{judgement.key}{SUFFIX}", judgement.line()
        made = self.store.write_new(name, line)
        if name not in self._until:
            self._take(name, line if made else self.store.read(name))
        if judgement.key not in self._kept:
            raise ArtifactError(f"{self.store.uri}/{name} is no judgement; move it out of the folder")

    @contextmanager
    def _alone(self) -> Iterator[BinaryIO]:
        """Open the file to be added to, by one writer of all processes at a time."""
        folder = Path(self.store.opened[1])
        with writing(f"{self.store.uri}/{FILE}"):
            folder.mkdir(parents=True, exist_ok=True)
            with locked(folder / ".lock"), (folder / FILE).open("ab", buffering=0) as stream:
                if stream.tell() == 0:  # it may be new: its name has to last too
                    _sync_folder(folder)
                yield stream

    def _look(self) -> None:
        """Read what is new."""
        sizes = {name: size for name, size in self.store.sizes().items() if name.endswith(SUFFIX)}
        new = [name for name, size in sizes.items() if size > self._until.get(name, 0)]
        for name, data in zip(new, self._rests(new), strict=True):
            self._take(name, data)

    def _rests(self, names: list[str]) -> list[bytes]:
        if len(names) < 2:
            return [self._rest(name) for name in names]
        with ThreadPoolExecutor(_READERS) as readers:
            return list(readers.map(self._rest, names))

    def _rest(self, name: str) -> bytes:
        start = self._until.get(name, 0)
        if not start:
            return self.store.read(name)
        with self.store.open(name) as stream:
            stream.seek(start)
            return stream.read()

    def _take(self, name: str, data: bytes) -> None:
        *lines, rest = data.split(b"\n")
        self._until[name] = self._until.get(name, 0) + len(data) - len(rest)
        (self._torn.add if rest else self._torn.discard)(name)
        for line in lines:
            try:
                judgement = from_line(line)
                self._kept.setdefault(judgement.key, judgement)
            except JudgementError:
                self._bad += 1


def _write(stream: BinaryIO, data: bytes) -> None:
    if stream.write(data) != len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _sync_folder(folder: Path) -> None:
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
