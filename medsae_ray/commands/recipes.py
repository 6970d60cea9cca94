"""The commands that lead to a recipe: the packaged ones, and a draft for a folder or table."""

import argparse
import sys
from pathlib import Path

from rich.table import Table

from medsae_ray.commands.arguments import Commands, console
from medsae_ray.config import find_recipe, packaged_recipes
from medsae_ray.config.yaml_file import GUESSED, leading_comment


def add(commands: Commands) -> None:
    """Add these commands to the command line."""
    known = commands.add_parser("recipes", help="the packaged recipes; show NAME prints one to copy")
    known.set_defaults(do=list_recipes)
    of_one = known.add_subparsers(metavar="show")
    one = of_one.add_parser("show", help="print a recipe unchanged: medsae recipes show phantom > mine.yaml")
    one.add_argument("name", metavar="NAME", help="a name from medsae recipes")
    one.set_defaults(do=show_recipe)
    first = commands.add_parser("init", help="a first recipe for a folder of images or a table, to be read and changed")
    first.add_argument("path", metavar="PATH", help="folder of images or DICOM files, dataset, or CSV or Parquet table")
    first.add_argument("-o", "--output", metavar="FILE", default="recipe.yaml", help="the file to write (recipe.yaml)")
    first.set_defaults(do=init)


def list_recipes(chosen: argparse.Namespace) -> int:
    """Print the packaged recipes, with the first sentence of each."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column()
    for name, file in packaged_recipes().items():
        table.add_row(name, leading_comment(file).partition(". ")[0].rstrip("."))
    console().print(table, highlight=False, markup=False)
    return 0


def show_recipe(chosen: argparse.Namespace) -> int:
    """Print a recipe unchanged."""
    sys.stdout.write(find_recipe(chosen.name).read_text(encoding="utf-8"))
    return 0


def init(chosen: argparse.Namespace) -> int:
    """Draft a recipe, and print its findings."""
    from medsae_ray.drafting import draft_recipe

    drafted = draft_recipe(chosen.path, Path(chosen.output))
    for file in drafted.files:
        print(f"written: {file}")
    print(f"found: {drafted.found}")
    if drafted.guesses:
        print(f"to confirm: values that are marked {GUESSED!r} ({drafted.guesses})")
    print(f"next: medsae plan {chosen.output} --root runs/first")
    return 0
