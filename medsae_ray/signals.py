"""Ctrl-C and SIGTERM end a run in the same quiet way: what is finished stays, and one line says so."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType

AGAIN_S = 0.1


class Terminated(KeyboardInterrupt):
    """SIGTERM, which ends a run as Ctrl-C does."""


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """SIGINT raises KeyboardInterrupt and SIGTERM Terminated in the block, if this is the thread that they come to."""
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
    """Take SIGTERM back from Ray's C++ core, which answers it with a stack trace and abort() from its start on."""
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
    """Say it and give the exit status, 130 or 143. With `leave` the process ends here, as Python would wait for the
    threads of stages that are still at work."""
    status = 143 if isinstance(stop, Terminated) else 130
    print("medsae: stopped; run it again to go on", file=sys.stderr)
    if leave:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    return status
