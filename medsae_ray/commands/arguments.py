"""The arguments that several commands share, and their checks."""

import argparse
import sys
from collections.abc import Callable
from typing import TypeAlias

from rich.console import Console

from medsae_ray.config import Change, Recipe, find_recipe, load_recipe, read_change
from medsae_ray.config.yaml_file import GUESSED, guesses
from medsae_ray.errors import RecipeError

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
Do: TypeAlias = Callable[[argparse.Namespace], int]
"""A command's function: arguments -> exit status."""
MOST = 1000
"""The most features or images of one request."""


def add_recipe(command: argparse.ArgumentParser) -> None:
    """Add RECIPE, --root and --set to a command."""
    command.add_argument(
        "recipe", metavar="RECIPE", help="a YAML file, or the name of a packaged recipe (medsae recipes)"
    )
    command.add_argument(
        "--root", required=True, type=root, metavar="URI", help="folder for artifacts: a path, s3://..., gs://..."
    )
    command.add_argument(
        "--set",
        dest="changes",
        action="append",
        default=[],
        type=change,
        metavar="KEY=VALUE",
        help="one value in place of the recipe's, in YAML: what.sae.k=16. May be given again for other keys. Paths in "
        "it start here, and not at the recipe's folder",
    )


def recipe_of(chosen: argparse.Namespace) -> Recipe:
    """Return a command's recipe with the changes of --set; stderr warns of guesses that are left."""
    recipe = load_recipe(chosen.recipe, chosen.changes)
    if left := guesses(file := find_recipe(chosen.recipe)):
        text = "confirm or change them, and remove the marks"
        print(f"medsae: {file} has values that are marked {GUESSED!r} ({left}): {text}", file=sys.stderr)
    return recipe


def root(text: str) -> str:
    """Return a run's root, which must not be empty."""
    if not text.strip() or "\0" in text:
        raise argparse.ArgumentTypeError("it is empty; is a shell variable unset?")
    return text


def count(text: str) -> int:
    """Return a whole number from 1 to `MOST`."""
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= MOST:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to {MOST}")
    return int(text)


def change(text: str) -> Change:
    """Read KEY=VALUE of --set."""
    try:
        return read_change(text)
    except RecipeError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def console() -> Console:
    """Return the console for commands. A log file has no width, and Rich's 80 columns would break the tables."""
    return Console() if sys.stdout.isatty() else Console(width=120)
