"""The quiet end of a run by Ctrl-C and SIGTERM: finished artifacts stay, and one line reports it."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType

AGAIN_S = 0.1


class Terminated(KeyboardInterrupt):
    """The interrupt by SIGTERM, which ends a run as Ctrl-C does."""


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Raise KeyboardInterrupt on SIGINT and Terminated on SIGTERM in the block, if this thread receives signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    kinds = {signal.SIGINT: KeyboardInterrupt, signal.SIGTERM: Terminated}
    before = {number: signal.signal(number, _raiser(kind)) for number, kind in kinds.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def rearm() -> None:
    """Take SIGTERM back from Ray's C++ core, which answers it with a stack trace and abort() once it has started."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))


def _raiser(kind: type[KeyboardInterrupt]) -> Callable[[int, FrameType | None], None]:
    def handle(number: int, frame: FrameType | None) -> None:
        if _importing(frame):
            # Compiled modules end the process by abort() if an exception comes while they are imported.
            again = threading.Timer(AGAIN_S, os.kill, (os.getpid(), number))
            again.daemon = True
            again.start()
            return
        raise kind

    return handle


def _importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False


def stopped(stop: KeyboardInterrupt, leave: bool) -> int:
    """Print that the run was stopped and return the exit status, 130 or 143. With `leave` the process ends here, as
    Python would wait for the threads of running stages."""
    status = 143 if isinstance(stop, Terminated) else 130
    print("medsae: stopped; run it again to go on", file=sys.stderr)
    if leave:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    return status
