"""Commands with a recipe and a root: run, plan, sweep, stage, query, similar, browse and serve."""

import argparse
import json
from typing import get_args

from medsae_ray.commands.arguments import Commands, Do, add_recipe, console, count, recipe_of
from medsae_ray.core.artifacts.schema import SPLITS
from medsae_ray.core.artifacts.store import Store
from medsae_ray.core.browser.access import Access
from medsae_ray.core.retrieval.answer import RANKINGS, WAYS
from medsae_ray.runtime.progress import DOING


def add(commands: Commands) -> None:
    """Add these commands to the command line."""
    _command(commands, "run", run, "all stages of a recipe, up to the report")
    _plan_arguments(_command(commands, "plan", plan, "the stages, cost and problems of a run, without running it"))
    _command(commands, "sweep", sweep, "a comparison of many SAEs on one recipe's embeddings")
    text = f"one of {', '.join(DOING)}"
    stage_ = commands.add_parser("stage", help="one stage, with the stages it needs")
    stage_.add_argument("name", metavar="NAME", choices=tuple(DOING), help=text)
    add_recipe(stage_)
    stage_.set_defaults(do=stage)
    _browse_arguments(_command(commands, "browse", browse, "the pages of a finished run, as a folder to open"))
    _serve_arguments(_command(commands, "serve", serve, "a finished run over HTTP, until Ctrl-C"))
    _query_arguments(_command(commands, "query", query, "features and images of a finished run, by words"))
    text = "images of a finished run that share an image's strongest features"
    _similar_arguments(_command(commands, "similar", similar, text))


def _command(commands: Commands, name: str, do: Do, text: str) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=text)
    add_recipe(command)
    command.set_defaults(do=do)
    return command


def _plan_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--address", metavar="ADDRESS", help="a Ray cluster to check it on; else this machine")
    command.add_argument("--json", action="store_true", help="all of it as JSON")


def _browse_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--to", required=True, metavar="FOLDER", help="folder to write; an earlier one is replaced")
    _images_argument(command)


def _images_argument(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--images",
        choices=get_args(Access),
        default="all",
        help="images in the pages: with a page each, as thumbnails only, or none (all)",
    )


def _serve_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--host", default="127.0.0.1", help="address to listen at; beyond this machine it needs a token"
    )
    command.add_argument("--port", type=int, default=8000)
    command.add_argument(
        "--token-variable",
        default="MEDSAE_TOKEN",
        metavar="NAME",
        help="environment variable with the token that callers have to send",
    )
    text = "last uploads that the drift view counts (1000)"
    command.add_argument("--window", type=_window, default=1000, metavar="N", help=text)
    _images_argument(command)


def _window(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 20 <= int(text) <= 1_000_000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 20 to 1000000")
    return int(text)


def _query_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("text", metavar="TEXT", help='a query: "large left pleural effusion"')
    command.add_argument("--features", type=count, default=3, help="features that the images are found by (3)")
    command.add_argument("--images", type=count, default=10, help="images to show, one of each patient (10)")
    command.add_argument("--split", choices=SPLITS, help="only images of these patients")
    command.add_argument("--by", choices=WAYS, help="how features are found; else by the text half if there is one")
    command.add_argument("--ranking", choices=RANKINGS, default="strength", help="order of images; cosine as in SAIL")
    command.add_argument("--exactly", action="store_true", help="the model picks exactly --features, as in SAIL")
    command.add_argument("--model", metavar="NAME", help="model that picks; else the recipe's own")
    command.add_argument("--url", metavar="URL", help="OpenAI-compatible server of --model: http://host:8000/v1")
    command.add_argument("--key-variable", metavar="NAME", help="environment variable with the server's key")
    command.add_argument("--json", action="store_true", help="the whole answer as JSON")


def _similar_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("image", metavar="IMAGE", help="an image's id in the run, or a PNG, JPEG or DICOM file")
    command.add_argument("-k", type=count, default=5, metavar="K", help="the image's strongest features to share (5)")
    command.add_argument("--images", type=count, default=10, help="images to show, one of each patient (10)")
    command.add_argument("--split", choices=SPLITS, help="only images of these patients")
    command.add_argument("--json", action="store_true", help="the whole answer as JSON")


def run(chosen: argparse.Namespace) -> int:
    """Run a recipe; return 1 if its root could not be written."""
    recipe = recipe_of(chosen)  # an invalid recipe is refused before Ray and torch are imported, here and below
    from medsae_ray.pipeline import run_recipe

    root, report = Store(chosen.root), run_recipe(recipe, chosen.root, console())["report"]
    if not root.exists(report):
        return 1  # the run has printed the reason
    print(f"kept as: {root.address(report)}")
    print(f"report: {root.address('report.html')}")
    return 0


def plan(chosen: argparse.Namespace) -> int:
    """Print the plan of a run; return 1 if it has a problem."""
    recipe = recipe_of(chosen)
    from medsae_ray.outputs.plan_table import plan_tables
    from medsae_ray.plan import plan as planned

    found = planned(recipe, chosen.root, chosen.address)
    if chosen.json:
        print(json.dumps(found, indent=1, allow_nan=False))
    else:
        for part in plan_tables(found):
            console().print(part, highlight=False, soft_wrap=isinstance(part, str))
    return 1 if found["problems"] else 0


def sweep(chosen: argparse.Namespace) -> int:
    """Train the SAEs of a sweep."""
    recipe = recipe_of(chosen)
    from medsae_ray.outputs.sweep_page import PAGE
    from medsae_ray.pipeline import run_stage

    run_stage(recipe, chosen.root, "sweep", console())
    print(f"page: {Store(chosen.root).address(PAGE)}")
    return 0


def stage(chosen: argparse.Namespace) -> int:
    """Make the artifact of one stage."""
    recipe = recipe_of(chosen)
    from medsae_ray.pipeline import run_stage

    run_stage(recipe, chosen.root, chosen.name, console())
    return 0


def serve(chosen: argparse.Namespace) -> int:
    """Serve a finished run until Ctrl-C."""
    recipe = recipe_of(chosen)
    from medsae_ray.service.address import address_of

    address = address_of(chosen.host, chosen.port, chosen.token_variable)  # before Ray Serve, which takes seconds
    from medsae_ray.service.command import serve_run

    serve_run(recipe, chosen.root, address, console(), chosen.images, chosen.window)
    return 0


def browse(chosen: argparse.Namespace) -> int:
    """Write the browser of a finished run."""
    recipe = recipe_of(chosen)
    from medsae_ray.core.browser.folder import check_folder, write_folder
    from medsae_ray.finished import open_site

    folder = check_folder(chosen.to)
    with console().status("pages") as shown:
        site = open_site(recipe, chosen.root, chosen.images)
        files, size = write_folder(site, folder, lambda files: shown.update(f"pages: {files:,} files"))
    print(f"{files:,} files, {size / 1e6:,.1f} MB: {folder / 'index.html'}")
    return 0


def query(chosen: argparse.Namespace) -> int:
    """Print the answer to a query."""
    recipe = recipe_of(chosen)
    from medsae_ray.api import query as ask
    from medsae_ray.outputs.query_tables import query_tables

    keys = ("features", "images", "split", "by", "ranking", "exactly", "model", "url", "key_variable")
    answer = ask(recipe, chosen.root, chosen.text, **{key: getattr(chosen, key) for key in keys})
    if chosen.json:
        print(json.dumps(answer, indent=1, allow_nan=False))
        return 0
    for part in query_tables(answer):
        console().print(part)
    return 0


def similar(chosen: argparse.Namespace) -> int:
    """Print the images that are like an image."""
    recipe = recipe_of(chosen)
    from medsae_ray.api import similar as search
    from medsae_ray.outputs.query_tables import similar_tables

    answer = search(recipe, chosen.root, chosen.image, k=chosen.k, images=chosen.images, split=chosen.split)
    if chosen.json:
        print(json.dumps(answer, indent=1, allow_nan=False))
        return 0
    for part in similar_tables(answer):
        console().print(part)
    return 0
