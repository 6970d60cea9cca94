"""The state of a run, in files that any tool can read, and `medsae status`, which reads them. Nothing here needs Ray.

    <root>/status/<run>.json   one of each run, so that two on one root never write the same file
    <root>/status.json         a copy: that of the newest run that is at work, or else of the run that ended last

A file is one JSON object, written whole or not at all every `EVERY_S` seconds:

    run, recipe      the run's id, which begins with the time of its start, and the name of its recipe
    host, pid        those of its driver
    start, now       the times of its start and of the write (ISO 8601, UTC)
    state            running, done, failed (then `error` has one line), or stopped
    stages[]         in the order in which they began, each with
      name, artifact   artifact is null for work without one, as the start of the engine
      state            running, done, already there, failed, stopped
      start, seconds
      step, unit       the current step, and the unit of `done` and `total`; within a step `done` never falls
      done, total      including an earlier run's amount; total is null if it is unknown
      rows, not_ok     rows of the artifact so far (images, mostly), and those of them that are not ok
      rate, rate_unit  per second, over the last five minutes; null before any time has passed
      eta              the end of the step at this rate; null if it is unknown
      text             the stage's own description of its work
      numbers          of training: epoch, fvu, l0, dead
      counts           those of this run itself: parts, rows, not_ok, questions, requests, prompt_tokens, ...
      warnings[]       code, message, value
    engine           requests, prompt_tokens, cached_tokens and output_tokens of all stages

A killed run cannot report it: if `state` is running and `now` is older than `LOST_S` seconds, it is lost.
"""

import json
import os
import socket
import uuid
from collections import Counter
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

from medsae_ray.core.artifacts.patience import at_most
from medsae_ray.core.artifacts.store import Store
from medsae_ray.errors import ArtifactError
from medsae_ray.runtime.board import RUNNING, Board, StageNow

EVERY_S = 5.0
LOST_S = 120.0
"""The age at which a running run's file counts as lost: a store may be away for a minute, and clocks differ."""
FOLDER, LATEST = "status", "status.json"
LOST = "lost"
"""The state of a run whose file has state running, but is too old."""
SHOWN = 10
"""The most runs of a root that are read, the newest first."""
SPENT = ("requests", "prompt_tokens", "cached_tokens", "output_tokens")


class StatusFile:
    """A listener that keeps a run's file in its root. A root that cannot be written keeps none, and the run goes on."""

    every_s = EVERY_S

    def __init__(self, root: Store, recipe: str, start: datetime | None = None) -> None:
        self.root = root
        self.start = start or datetime.now(UTC)
        self.run = f"{self.start:%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:8]}"
        self.head = {"run": self.run, "recipe": recipe, "host": socket.gethostname(), "pid": os.getpid()}

    def look(self, board: Board) -> None:
        """Write the run's file and, unless a later run is at work, status.json; nothing before the first stage."""
        told: dict[str, Any] = self.head | {"start": _iso(self.start)} | told_of(board)
        if not told["stages"]:
            return  # a run refused before its first stage leaves no file in a root
        data = json.dumps(told, indent=1, allow_nan=False).encode()
        with at_most(EVERY_S):  # the next write has newer figures
            self.root.write(f"{FOLDER}/{self.run}.json", data)
            if self._is_newest(datetime.fromisoformat(told["now"])):
                self.root.write(LATEST, data)

    def _is_newest(self, now: datetime) -> bool:
        """Return True unless a run that began later is at work. Run ids sort by the time of their start."""
        try:
            other = json.loads(self.root.read(LATEST))
            return bool(other["run"] <= self.run or judged(other, now)["state"] != RUNNING)
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return True


def told_of(board: Board) -> dict[str, Any]:
    """Return the contents of the file, without the run's name and place."""
    with board.lock:
        stages, state, error = board.now(), board.state, board.error
    now = datetime.fromtimestamp(board.wall(), UTC)
    spent = Counter[str]()
    for stage in stages:
        spent.update({name: stage.counts.get(name, 0) for name in SPENT})
    return {
        "now": _iso(now),
        "state": state,
        "error": error or None,
        "stages": [stage_entry(stage, now) for stage in stages],
        "engine": {name: spent[name] for name in SPENT},
    }


def stage_entry(stage: StageNow, now: datetime) -> dict[str, Any]:
    """Return a stage as a JSON object."""
    told = asdict(stage) | {
        "start": _iso(datetime.fromtimestamp(stage.begun, UTC)),
        "seconds": round(stage.seconds, 1),
        "rate": None if stage.rate is None else round(stage.rate, 4),
        "eta": None if stage.left_s is None else _iso(now + timedelta(seconds=stage.left_s)),
        "numbers": {name: value for name, value in stage.numbers.items() if abs(value) < float("inf")},
    }
    return {key: value for key, value in told.items() if key not in ("begun", "left_s", "noun")}


def _iso(when: datetime) -> str:
    return when.isoformat(timespec="milliseconds")


def statuses(root: Store, now: datetime | None = None) -> list[dict[str, Any]]:
    """Return the newest runs below a root, the newest first: the contents of their files, their age (`age_s`), and the
    state `LOST` of a killed run. Raises ArtifactError if no run has left a file there."""
    names = [name for name in root.names(FOLDER) if name.endswith(".json")]
    found = [told for name in sorted(names)[-SHOWN:] if (told := _read(root, f"{FOLDER}/{name}"))]
    if not found:
        raise ArtifactError(f"{root.uri} has no status of a run (no {FOLDER}/*.json): see that it is a run's root")
    return [judged(told, now or datetime.now(UTC)) for told in reversed(found)]


def _read(root: Store, name: str) -> dict[str, Any] | None:
    """Read a status; None for another file."""
    try:
        told = json.loads(root.read(name))
        return told if {"run", "state", "now", "stages"} <= set(told) else None
    except (ValueError, TypeError):
        return None


def judged(told: dict[str, Any], now: datetime) -> dict[str, Any]:
    """Return a file's content with its age, and with the state that follows from it."""
    age = (now - datetime.fromisoformat(told["now"])).total_seconds()
    state = LOST if told["state"] == RUNNING and age > LOST_S else told["state"]
    return told | {"state": state, "age_s": round(max(0.0, age), 1)}
