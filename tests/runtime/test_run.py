import signal
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from medsae_ray.core.artifacts.artifact import Draft
from medsae_ray.core.artifacts.store import Store
from medsae_ray.outputs.summary import concurrency
from medsae_ray.preflight.ready import survey
from medsae_ray.runtime.made import Made
from medsae_ray.runtime.run import Run, Stage
from tests.support.small import recipe_of


class Kitchen:
    """Stages that take a while, and a count of how often each was made."""

    def __init__(self, seconds: float = 0.3, burn: str = "") -> None:
        self.made: list[str] = []
        self.seconds, self.burn = seconds, burn
        self.lock = threading.Lock()

    def stage(self, name: str, *parents: str) -> Stage:
        def make(run: Run, draft: Draft) -> Made:
            with self.lock:
                self.made.append(name)
            with run.bar(name, 3) as bar:
                bar.say("cooking")
                time.sleep(self.seconds)
            if name == self.burn:
                raise ValueError("burnt")
            return Made([])

        return Stage(name, 1, lambda recipe: parents, lambda run: {}, make)

    def run(self, root: Path, console: Console | None = None) -> Run:
        stages: list[Any] = [self.stage("base"), self.stage("features", "base")]
        stages += [self.stage("names", "base"), self.stage("answers", "names")]
        return Run(recipe_of(root), Store(str(root)), {s.name: s for s in stages}, console or Console(quiet=True))


def test_two_branches_are_made_at_once_and_what_they_share_only_once(tmp_path: Path) -> None:
    kitchen = Kitchen()
    with kitchen.run(tmp_path, Console(force_terminal=True, file=(tmp_path / "screen").open("w"))) as run:
        run.together("features", "answers")
        assert kitchen.made[0] == "base" and sorted(kitchen.made) == ["answers", "base", "features", "names"]
        found = concurrency(run.rows)
        assert found is not None and found["makespan_s"] < 0.85 * found["sum_s"]


def test_a_branch_that_was_there_already_gives_no_overlap(tmp_path: Path) -> None:
    for _ in range(2):
        with Kitchen(0.01).run(tmp_path) as run:
            run.together("features", "answers")
    assert concurrency(run.rows) is None


def test_an_error_in_one_branch_is_raised_and_the_other_branch_stays(tmp_path: Path) -> None:
    with Kitchen(0.05, burn="features").run(tmp_path) as run, pytest.raises(ValueError, match="burnt"):
        run.together("features", "answers")
    again = Kitchen(0.01)
    with again.run(tmp_path) as run:
        run.together("features", "answers")
    assert again.made == ["features"]


def test_one_artifact_that_two_threads_want_is_made_once(tmp_path: Path) -> None:
    kitchen = Kitchen()
    with kitchen.run(tmp_path) as run:
        threads = [threading.Thread(target=run.artifact, args=("answers",)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(kitchen.made) == ["answers", "base", "names"]


def test_a_branch_leaves_when_the_run_is_stopped(tmp_path: Path) -> None:
    """Ctrl-C comes to the main thread while one branch is done and the other works on."""
    kitchen, begun, left = Kitchen(0.01), threading.Event(), threading.Event()

    def slow(run: Run, draft: Draft) -> Made:
        begun.set()
        try:
            with run.bar("answers", None) as bar:
                for _ in range(600):
                    bar.advance()
                    time.sleep(0.1)
        except KeyboardInterrupt:
            left.set()
            raise
        return Made([])

    def stop(run: Run, draft: Draft) -> Made:
        assert begun.wait(60)  # before that the branch would leave from a stage that "answers" is made of
        signal.raise_signal(signal.SIGINT)
        return Made([])

    with kitchen.run(tmp_path) as run:
        run.stages["answers"] = replace(run.stages["answers"], make=slow)
        run.stages["features"] = replace(run.stages["features"], make=stop)
        with pytest.raises(KeyboardInterrupt):
            run.together("features", "answers")
        assert left.wait(20)


def test_what_decides_a_stage_is_asked_once_however_often_its_artifact_is_looked_for(tmp_path: Path) -> None:
    asked: list[str] = []

    def what(run: Run) -> dict[str, Any]:
        asked.append("base")
        return {"files": len(asked)}

    with Kitchen(0.0).run(tmp_path) as run:
        run.stages["base"] = replace(run.stages["base"], what=what)
        assert run.committed("base") is None
        assert run.artifact("base").record.what == {"files": 1}
        assert run.committed("answers") is None
        assert survey(run, "answers")["base"].name == run.artifact("base").name
    assert asked == ["base"]
