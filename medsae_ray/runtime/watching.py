"""The listeners of a run: its terminal or log, the status file in its root, and Ray's metrics."""

from collections.abc import Iterator
from contextlib import contextmanager

from medsae_ray.errors import MedsaeError, one_line
from medsae_ray.runtime.board import DONE, FAILED, STOPPED
from medsae_ray.runtime.logs import Journal
from medsae_ray.runtime.metrics import RayMetrics
from medsae_ray.runtime.progress import listened, on
from medsae_ray.runtime.run import Run
from medsae_ray.runtime.status import StatusFile

LONGEST = 500
"""The most characters of an error in the status file."""


@contextmanager
def watched(run: Run) -> Iterator[None]:
    """Attach the listeners to a run for the length of the block, whose end is the run's."""
    status = StatusFile(run.root, run.recipe.name)
    with listened(run.board, on(run.console), status, RayMetrics(run.recipe.name, status.run), Journal(status.run)):
        try:
            yield
        except BaseException as error:
            run.board.end(FAILED if isinstance(error, Exception) else STOPPED, _said(error))
            raise
        run.board.end(DONE)


def _said(error: BaseException) -> str:
    """Return our own errors as one line. Others may quote their input, and the log has them anyway."""
    if isinstance(error, KeyboardInterrupt):
        return ""
    text = (
        f"{type(error).__name__}: {error}" if isinstance(error, MedsaeError) else f"{type(error).__name__}: see the log"
    )
    return one_line(text)[:LONGEST]
