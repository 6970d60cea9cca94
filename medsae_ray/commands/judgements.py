"""The command about readers' judgements of a finished run."""

import argparse
import sys
from pathlib import Path

from medsae_ray.commands.arguments import Commands, add_recipe, console, recipe_of
from medsae_ray.core.artifacts.store import Store
from medsae_ray.core.judgements.log import Log
from medsae_ray.errors import JudgementError


def add(commands: Commands) -> None:
    """Add this command to the command line."""
    command = commands.add_parser("judgements", help="readers' judgements of a finished run, and their agreement")
    add_recipe(command)
    command.add_argument("--export", metavar="FILE", help="write all of them to a .csv, .jsonl or .parquet file")
    command.add_argument("--agreement", action="store_true", help="agreement of readers with each other and the model")
    command.add_argument("--study", metavar="NAME", help="only what belongs to a reader study")
    command.add_argument("--blind", action="store_true", help="only what was said before the verdict was shown")
    command.set_defaults(do=judgements)


def judgements(chosen: argparse.Namespace) -> int:
    """Print or export the judgements of a run."""
    recipe = recipe_of(chosen)
    from medsae_ray.core.judgements.agreement import agreement, votes_of
    from medsae_ray.core.judgements.export import exported, form_of
    from medsae_ray.finished import open_run
    from medsae_ray.outputs.judgement_tables import agreement_table, judgement_table

    form = form_of(chosen.export) if chosen.export else None
    atlas, read = open_run(recipe, chosen.root).atlas, Log(Store(chosen.root)).read()
    own = [one for one in read.judgements if one.atlas == atlas.name]
    found = [one for one in own if chosen.study in (None, one.study) and (one.blind or not chosen.blind)]
    table = atlas.table(["feature", "verdict"])
    verdicts = dict(zip(table["feature"].to_pylist(), table["verdict"].to_pylist(), strict=True))
    if form:
        _write(Path(chosen.export), exported(found, form))
    else:
        console().print(judgement_table(found, verdicts))
    if chosen.agreement:
        console().print(agreement_table(agreement(votes_of(found), verdicts)))
    readers = len({one.reader for one in found})
    print(f"{len(found)} judgements by {readers} readers; {len(read.judgements) - len(own)} are of other runs")
    if read.unreadable:
        text = "lines of the log are not whole: a writer was killed before it acknowledged them, or they were changed"
        print(f"medsae: {read.unreadable} {text}", file=sys.stderr)
    return 0


def _write(file: Path, data: bytes) -> None:
    try:
        file.write_bytes(data)
    except OSError as error:
        raise JudgementError(f"{file} cannot be written: {error.strerror}") from error
