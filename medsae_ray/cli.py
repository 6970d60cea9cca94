"""The command line: a function for each command of `medsae`, whose work is done elsewhere."""

import argparse
import contextlib
import json
import sys
from typing import TypeAlias

from rich.console import Console

from medsae_ray import __version__
from medsae_ray.config import load_recipe
from medsae_ray.core.artifacts.artifact import Artifact, open_artifact, verify
from medsae_ray.core.artifacts.schema import SPLITS
from medsae_ray.core.artifacts.store import Store
from medsae_ray.errors import ArtifactError, MedsaeError
from medsae_ray.runtime.logs import set_up
from medsae_ray.signals import stopped, terminable

FORMATS = "saelens, dictionary_learning, sparsify or sail"
Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def main(arguments: list[str] | None = None) -> int:
    """Entry point. Exit status 0, 1 for a refused or failed run (one clear line on stderr), 2 for a wrong call, 130 for
    one that was stopped by Ctrl-C and 143 by SIGTERM. `arguments` are the process's own unless given."""
    try:
        with terminable():
            set_up()
            chosen = _parser().parse_args(arguments)
            return int(chosen.do(chosen))
    except MedsaeError as error:
        print(f"medsae: {error}", file=sys.stderr)
        return 1
    except OSError as error:  # a store that does not answer, a disk that fails
        print(f"medsae: the system says: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as stop:
        return stopped(stop, leave=arguments is None)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="medsae", description="Find, name and test the concepts inside a medical image encoder."
    )
    parser.add_argument("--version", action="version", version=f"medsae {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_recipes(commands)
    _add_engine(commands)
    _add_checkpoints(commands)
    _add_roots(commands)
    return parser


def _add_recipes(commands: Commands) -> None:
    """What is done with a recipe and a root."""
    run = commands.add_parser("run", help="everything a recipe asks for, up to the report")
    plan = commands.add_parser("plan", help="what a run would do and take, without running anything")
    plan.add_argument("--address", metavar="ADDRESS", help="a Ray cluster to hold it against; else this machine")
    plan.add_argument("--json", action="store_true", help="all of it as JSON")
    sweep = commands.add_parser("sweep", help="many SAEs on one recipe's embeddings, and how they compare")
    stage = commands.add_parser("stage", help="one stage, with whatever it needs")
    stage.add_argument(
        "name", metavar="NAME", help="manifest, embeddings, sae, activations, features, names, scores, atlas, ..."
    )
    query = commands.add_parser("query", help="features and images of a finished run, by words")
    serve = commands.add_parser("serve", help="a finished run over HTTP, until Ctrl-C")
    serve.add_argument("--host", default="127.0.0.1", help="address to listen at; beyond this machine it needs a token")
    serve.add_argument("--port", type=int, default=8000)
    serve.add_argument(
        "--token-variable",
        default="MEDSAE_TOKEN",
        metavar="NAME",
        help="environment variable with the token that callers have to send",
    )
    for command, do in ((run, _run), (plan, _plan), (sweep, _sweep), (stage, _stage), (serve, _serve), (query, _query)):
        command.add_argument(
            "recipe", metavar="RECIPE", help="a YAML file, or the name of one that comes with the package"
        )
        command.add_argument(
            "--root", required=True, type=_root, metavar="URI", help="folder for artifacts: a path, s3://..., gs://..."
        )
        command.set_defaults(do=do)
    query.add_argument("text", metavar="TEXT", help='what to look for: "large left pleural effusion"')
    query.add_argument("--features", type=_count, default=3, help="features that the images are found by (3)")
    query.add_argument("--images", type=_count, default=10, help="images to show, one of each patient (10)")
    query.add_argument("--split", choices=SPLITS, help="only images of these patients")
    query.add_argument("--json", action="store_true", help="the whole answer as JSON")


def _add_engine(commands: Commands) -> None:
    engine = commands.add_parser("engine", help="the vision-language engine that runs on a cluster: status, or stop")
    engine.add_argument("action", choices=("status", "stop"), help="say what runs and who uses it, or end it")
    engine.add_argument("--address", metavar="ADDRESS", help="the Ray cluster (RAY_ADDRESS, or this machine's)")
    engine.add_argument("--force", action="store_true", help="stop it even if others use it")
    engine.set_defaults(do=_engine)


def _add_checkpoints(commands: Commands) -> None:
    """SAEs from and for other libraries."""
    export = commands.add_parser("export", help="a trained SAE as the checkpoint of another library")
    export.add_argument("sae", metavar="SAE_URI", help="a finished sae artifact")
    export.add_argument("format", metavar="FORMAT", help=FORMATS)
    export.add_argument("folder", metavar="FOLDER", help="where the files go: a path, s3://..., gs://...")
    export.add_argument("--overwrite", action="store_true", help="replace files of the same name in FOLDER")
    export.set_defaults(do=_export)
    import_ = commands.add_parser("import", help="another library's checkpoint as an sae artifact")
    import_.add_argument("format", metavar="FORMAT", help=FORMATS)
    import_.add_argument("folder", metavar="FOLDER", help="the checkpoint's folder")
    import_.add_argument("out", metavar="OUT", help="folder for the artifact")
    import_.set_defaults(do=_import)


def _add_roots(commands: Commands) -> None:
    """What is there already."""
    status = commands.add_parser("status", help="how the runs of a root stand, also while they are at work")
    status.add_argument("root", metavar="ROOT", help="a run's root: a path, s3://..., gs://...")
    status.add_argument("--json", action="store_true", help="all of it as JSON, the newest run first")
    status.set_defaults(do=_status)
    for name, do, text in (
        ("show", _show, "what an artifact holds, a run's root, or a summary.json"),
        ("verify", _verify, "read every file of an artifact, or of all below a root, and compare with the record"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument(
            "path",
            metavar="PATH",
            help="an artifact's folder or a run's root" + (", or a file" if name == "show" else ""),
        )
        command.set_defaults(do=do)


def _run(chosen: argparse.Namespace) -> int:
    from medsae_ray.pipeline import run_recipe

    recipe = load_recipe(chosen.recipe)
    root, report = Store(chosen.root), run_recipe(recipe, chosen.root, _console())["report"]
    if not root.exists(report):
        return 1  # the run has said why
    print(f"kept as: {root.address(report)}")
    print(f"report: {root.address('report.html')}")
    return 0


def _plan(chosen: argparse.Namespace) -> int:
    from medsae_ray.outputs.plan_table import plan_tables
    from medsae_ray.plan import plan

    found = plan(load_recipe(chosen.recipe), chosen.root, chosen.address)
    if chosen.json:
        print(json.dumps(found, indent=1, allow_nan=False))
    else:
        for part in plan_tables(found):
            _console().print(part, highlight=False, soft_wrap=isinstance(part, str))
    return 1 if found["problems"] else 0


def _sweep(chosen: argparse.Namespace) -> int:
    from medsae_ray.outputs.sweep_page import PAGE
    from medsae_ray.pipeline import run_stage

    run_stage(load_recipe(chosen.recipe), chosen.root, "sweep", _console())
    print(f"page: {Store(chosen.root).address(PAGE)}")
    return 0


def _stage(chosen: argparse.Namespace) -> int:
    from medsae_ray.pipeline import run_stage

    run_stage(load_recipe(chosen.recipe), chosen.root, chosen.name, _console())
    return 0


def _serve(chosen: argparse.Namespace) -> int:
    from medsae_ray.service.command import serve_run

    recipe = load_recipe(chosen.recipe)
    serve_run(recipe, chosen.root, chosen.host, chosen.port, chosen.token_variable, _console())
    return 0


def _engine(chosen: argparse.Namespace) -> int:
    from medsae_ray.engine.command import engine_status, stop_engine

    if chosen.action == "stop":
        print(stop_engine(chosen.address, chosen.force))
        return 0
    print("\n".join(engine_status(chosen.address)))
    return 0


def _query(chosen: argparse.Namespace) -> int:
    from medsae_ray.api import query
    from medsae_ray.outputs.query_tables import query_tables

    asked = {"features": chosen.features, "images": chosen.images, "split": chosen.split}
    answer = query(load_recipe(chosen.recipe), chosen.root, chosen.text, **asked)
    if chosen.json:
        print(json.dumps(answer, indent=1, allow_nan=False))
        return 0
    for part in query_tables(answer):
        _console().print(part)
    return 0


def _root(text: str) -> str:
    if not text.strip() or "\0" in text:
        raise argparse.ArgumentTypeError("it is empty; is a variable of the shell not set?")
    return text


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 1000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 1000")
    return int(text)


def _export(chosen: argparse.Namespace) -> int:
    from medsae_ray.core.sae.formats.convert import export_sae

    folder = Store(chosen.folder)
    for name in export_sae(open_artifact(chosen.sae), chosen.format, folder, overwrite=chosen.overwrite):
        print(folder.address(name))
    return 0


def _import(chosen: argparse.Namespace) -> int:
    from medsae_ray.core.sae.formats.convert import import_sae

    print(import_sae(chosen.format, Store(chosen.folder), Store(chosen.out)).store.uri)
    return 0


def _console() -> Console:
    """A log file has no width of its own, and Rich's 80 columns would break the tables."""
    return Console() if sys.stdout.isatty() else Console(width=120)


def _show(chosen: argparse.Namespace) -> int:
    from medsae_ray.outputs.show import shown

    for part in shown(chosen.path):
        _console().print(part, highlight=False, markup=False)
    return 0


def _status(chosen: argparse.Namespace) -> int:
    from medsae_ray.outputs.status_table import status_tables
    from medsae_ray.runtime.status import statuses

    runs = statuses(Store(chosen.root))
    if chosen.json:
        print(json.dumps({"runs": runs}, indent=1, allow_nan=False))
        return 0
    for part in status_tables(runs):
        _console().print(part, highlight=False)
    return 0


def _verify(chosen: argparse.Namespace) -> int:
    bad = 0
    for artifact in _artifacts(chosen.path):
        problems = verify(artifact)
        bad += len(problems)
        print(f"{artifact.name}: {'ok' if not problems else '; '.join(problems)} ({len(artifact.record.files)} files)")
    return 1 if bad else 0


def _artifacts(path: str) -> list[Artifact]:
    """The artifact at `path`, or every finished one directly below it."""
    try:
        return [open_artifact(path)]
    except ArtifactError:
        store, found = Store(path), []
        with contextlib.suppress(NotADirectoryError):
            found = [store.child(name) for name in store.folders() if store.exists(f"{name}/record.json")]
        if not found:
            raise
        return [open_artifact(child.uri) for child in found]


if __name__ == "__main__":
    sys.exit(main())
