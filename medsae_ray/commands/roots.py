"""The commands about existing artifacts: status, show and verify, by themselves and as `medsae root ...`."""

import argparse
import contextlib
import json

from medsae_ray.commands.arguments import Commands, console
from medsae_ray.core.artifacts.artifact import Artifact, open_artifact
from medsae_ray.core.artifacts.artifact import verify as problems_of
from medsae_ray.core.artifacts.store import Store
from medsae_ray.errors import ArtifactError


def add(commands: Commands) -> None:
    """Add these commands to the command line."""
    group = commands.add_parser("root", help="status, show or verify of a root's runs: the commands below")
    for place in (group.add_subparsers(required=True, metavar="COMMAND"), commands):
        _add(place)


def _add(commands: Commands) -> None:
    how = commands.add_parser("status", help="the state of a root's runs, also while they run")
    how.add_argument("root", metavar="ROOT", help="a run's root: a path, s3://..., gs://...")
    how.add_argument("--json", action="store_true", help="all of it as JSON, the newest run first")
    how.set_defaults(do=status)
    for name, do, text in (
        ("show", show, "the contents of an artifact, a run's root, or a summary.json"),
        ("verify", verify, "read every file of an artifact, or of all below a root, and compare with the record"),
    ):
        command = commands.add_parser(name, help=text)
        file = ", or a file" if name == "show" else ""
        command.add_argument("path", metavar="PATH", help=f"an artifact's folder or a run's root{file}")
        command.set_defaults(do=do)


def show(chosen: argparse.Namespace) -> int:
    """Print the contents of a path."""
    from medsae_ray.outputs.show import shown

    for part in shown(chosen.path):
        console().print(part, highlight=False, markup=False)
    return 0


def status(chosen: argparse.Namespace) -> int:
    """Print the status of a root's runs."""
    from medsae_ray.outputs.status_table import status_tables
    from medsae_ray.runtime.status import statuses

    runs = statuses(Store(chosen.root))
    if chosen.json:
        print(json.dumps({"runs": runs}, indent=1, allow_nan=False))
        return 0
    for part in status_tables(runs):
        console().print(part, highlight=False)
    return 0


def verify(chosen: argparse.Namespace) -> int:
    """Read every file; return 1 if one has changed since it was written."""
    bad = 0
    for artifact in _artifacts(chosen.path):
        problems = problems_of(artifact)
        bad += len(problems)
        print(f"{artifact.name}: {'ok' if not problems else '; '.join(problems)} ({len(artifact.record.files)} files)")
    return 1 if bad else 0


def _artifacts(path: str) -> list[Artifact]:
    """Return the artifact at `path`, or every finished one directly below it."""
    try:
        return [open_artifact(path)]
    except ArtifactError:
        store, found = Store(path), []
        with contextlib.suppress(NotADirectoryError):
            found = [store.child(name) for name in store.folders() if store.exists(f"{name}/record.json")]
        if not found:
            raise
        return [open_artifact(child.uri) for child in found]
