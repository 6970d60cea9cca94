"""A run's log for machines: the state of each stage, through Python's `logging`.

Logger `medsae_ray.run` has a record when a stage begins, every half minute while it runs, and when it ends. The
record's `stage` is the stage's entry of the status file. Without a handler nothing is written; the command line adds
one if the environment asks for it:

    MEDSAE_LOG        text, or json: one object a line, {"time", "level", "logger", "message"} and perhaps "run" and
                      "stage", or "request" (logger `medsae_ray.access`, of `medsae serve`)
    MEDSAE_LOG_LEVEL  debug, info (where MEDSAE_LOG is set), warning (elsewhere) or error
"""

import json
import logging
import os
import sys
from datetime import UTC, datetime
from typing import TextIO

from medsae_ray.errors import MedsaeError
from medsae_ray.runtime.board import FAILED, RUNNING, Board
from medsae_ray.runtime.progress import EVERY_S, line
from medsae_ray.runtime.status import stage_entry

FORM, LEVEL = "MEDSAE_LOG", "MEDSAE_LOG_LEVEL"
FORMS = ("text", "json")
LEVELS = ("debug", "info", "warning", "error")
_log = logging.getLogger("medsae_ray.run")


class Journal:
    """The log of one run's stages."""

    every_s = 1.0

    def __init__(self, run: str) -> None:
        self.run = run
        self.logged: dict[tuple[str, float], tuple[str, float]] = {}
        """The state and the time of each stage's last record."""

    def look(self, board: Board) -> None:
        """Log each stage in a new state, or without a record for half a minute."""
        now = board.clock()
        for stage in board.now():
            key = stage.name, stage.begun
            state, at = self.logged.get(key, ("", now))
            if stage.state == state and (state != RUNNING or now - at < EVERY_S):
                continue
            self.logged[key] = stage.state, now
            level = logging.ERROR if stage.state == FAILED else logging.INFO
            fields = {"run": self.run, "stage": stage_entry(stage, datetime.now(UTC))}
            _log.log(level, "%s (%s)", line(stage), stage.state, extra=fields)


class JsonLines(logging.Formatter):
    """A formatter of records as one JSON object on a line each."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the object, with the error's traceback under `error` if it has one."""
        said = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        said |= {key: record.__dict__[key] for key in ("run", "stage", "request") if key in record.__dict__}
        if record.exc_info:
            said["error"] = self.formatException(record.exc_info)
        return json.dumps(said, default=str)


def set_up(to: TextIO | None = None) -> None:
    """Write the package's log to `to` (standard error), if the environment asks for it. Raises MedsaeError if
    invalid."""
    form, level = _asked(FORM, FORMS), _asked(LEVEL, LEVELS)
    if not form and not level:
        return
    handler = logging.StreamHandler(to or sys.stderr)
    handler.setFormatter(JsonLines() if form == "json" else logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger("medsae_ray")
    logger.handlers[:] = [handler]
    logger.setLevel((level or "info").upper())
    logger.propagate = False


def _asked(variable: str, words: tuple[str, ...]) -> str:
    word = os.environ.get(variable, "").lower()
    if word and word not in words:
        raise MedsaeError(f"the environment's {variable} is {word!r}; it is one of {', '.join(words)}")
    return word
