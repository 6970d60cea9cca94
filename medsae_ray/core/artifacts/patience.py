"""Retries while a store is away; a refusal (403, 404, no such bucket) is final and raised at once.

Object stores answer 503 when they are busy, and a network's switch takes a minute to come back. pyarrow retries for
some seconds; a run of hours should not end with them.
"""

import contextlib
import errno
import io
import logging
import re
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import BinaryIO, TypeVar

T = TypeVar("T")

PATIENCE_S = 900.0
"""The seconds of retries for a store that answered this process before."""
FIRST_S = 180.0
"""The seconds of retries for a store that never answered: its address may be wrong."""
_LONGEST_S = 20.0
"""The most seconds between two attempts; the first wait is a second."""
_AGAIN = re.compile(
    r"AWS Error (SLOW_DOWN|SERVICE_UNAVAILABLE|THROTTLING|INTERNAL_FAILURE|REQUEST_TIMEOUT|NETWORK_CONNECTION)\b"
    r"|HTTP status (408|429|500|502|503|504)\b"
    r"|\b(UNAVAILABLE|DEADLINE_EXCEEDED|RESOURCE_EXHAUSTED)\b"
    r"|curlCode: \d+"
)
"""The words of pyarrow's transient errors, of S3 and of Google's store."""
_NETWORK = {
    *(errno.ECONNREFUSED, errno.ECONNRESET, errno.ECONNABORTED, errno.EPIPE),
    *(errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN),
}
_STATUS = {408, 429, 500, 502, 503, 504}
_reached: set[str] = set()
_limit: ContextVar[float | None] = ContextVar("patience", default=None)
_log = logging.getLogger(__name__)
_hears: list[Callable[[str], None]] = []


def heard_by(hears: Callable[[str], None]) -> None:
    """Set another listener for a store that is away: a worker's own log has no reader."""
    _hears[:] = [hears]


@contextlib.contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Limit the retries of a block that has to know soon if a store answers."""
    token = _limit.set(seconds)
    try:
        yield
    finally:
        _limit.reset(token)


def passes(error: BaseException) -> bool:
    """Return True if an error of a store is transient."""
    if isinstance(error, FileNotFoundError | PermissionError | NotADirectoryError | IsADirectoryError):
        return False
    if isinstance(error, ConnectionError | TimeoutError) or getattr(error, "errno", None) in _NETWORK:
        return True
    if isinstance(error, OSError):
        return bool(_AGAIN.search(str(error)))
    return getattr(error, "status", None) in _STATUS  # of a web server, through fsspec


def patiently(store: str, act: Callable[[], T], sleep: Callable[[float], None] = time.sleep) -> T:
    """Return the result of `act`, retried while `store` (scheme and bucket) is away. `act` must be repeatable."""
    start, wait, told = time.monotonic(), 1.0, False
    while True:
        try:
            found = act()
        except Exception as error:
            if not passes(error):
                raise
            limit = _limit.get()
            most = (PATIENCE_S if store in _reached else FIRST_S) if limit is None else limit
            away = time.monotonic() - start
            if away + wait > most:
                raise
            if not told:
                told = True
                _tell(f"{store} does not answer ({_said(error)}) and is retried for at most {most:.0f} s")
            sleep(wait)
            wait = min(2 * wait, _LONGEST_S)
        else:
            _reached.add(store)
            if told:
                _log.warning("%s answers again, after %.0f s", store, time.monotonic() - start)
            return found


def _tell(text: str) -> None:
    _log.warning(text)
    for hears in _hears:
        hears(text)


def _said(error: Exception) -> str:
    """Return the part of an error that names no object: its path may hold a patient's identifier."""
    found = _AGAIN.search(str(error))
    return found[0] if found else type(error).__name__


class PatientFile(io.RawIOBase):
    """A seekable stream of an object, each read of which is retried while the store is away."""

    def __init__(self, store: str, opener: Callable[[], BinaryIO]) -> None:
        self._store, self._stream, self._at = store, patiently(store, opener), 0

    def read(self, size: int | None = -1) -> bytes:
        """Read up to `size` bytes, or to the end of the file if it is negative or None."""
        data = patiently(self._store, lambda: self._read(-1 if size is None else size))
        self._at += len(data)
        return data

    def _read(self, size: int) -> bytes:
        self._stream.seek(self._at)
        return self._stream.read() if size < 0 else self._stream.read(size)

    def readall(self) -> bytes:
        """Read to the end of the file."""
        return self.read()

    def readinto(self, buffer: "memoryview") -> int:  # type: ignore[override]
        """Read into `buffer` and return the number of bytes; 0 is the end of the file."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to `offset` from the position that `whence` names, and return the new position."""
        self._stream.seek(self._at)
        self._at = self._stream.seek(offset, whence)
        return self._at

    def tell(self) -> int:
        """Return the position in bytes from the start."""
        return self._at

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def close(self) -> None:
        """Close the underlying stream; a second call does nothing."""
        if not self.closed:
            self._stream.close()
        super().close()
