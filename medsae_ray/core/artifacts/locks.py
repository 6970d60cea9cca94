"""A lock that the processes and threads of one machine share."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def locked(file: Path) -> Iterator[BinaryIO]:
    """The file, made if it is not there, open to be read and written by one process and thread at a time."""
    with open(os.open(file, os.O_RDWR | os.O_CREAT, 0o600), "r+b", buffering=0) as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield held
