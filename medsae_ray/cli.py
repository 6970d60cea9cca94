"""The command line: `medsae`, its commands and its exit status."""

import argparse
import sys

from medsae_ray import __version__
from medsae_ray.commands import checkpoints, completion, engine, judgements, recipes, roots, runs
from medsae_ray.errors import MedsaeError
from medsae_ray.runtime.logs import set_up
from medsae_ray.signals import stopped, terminable


def main(arguments: list[str] | None = None) -> int:
    """Run a command. The exit status is 0, 1 for a refused or failed run (one clear line on stderr), 2 for a wrong
    call, 130 after Ctrl-C and 143 after SIGTERM. `arguments` are the process's own unless given."""
    try:
        with terminable():
            set_up()
            chosen = parser().parse_args(arguments)
            return int(chosen.do(chosen))
    except MedsaeError as error:
        print(f"medsae: {error}", file=sys.stderr)
        return 1
    except OSError as error:  # a store that does not answer, a disk that fails
        print(f"medsae: system error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as stop:
        return stopped(stop, leave=arguments is None)


def parser() -> argparse.ArgumentParser:
    """Return the parser of every command with its options."""
    parser = argparse.ArgumentParser(
        prog="medsae", description="Find, name and test the concepts inside a medical image encoder."
    )
    parser.add_argument("--version", action="version", version=f"medsae {__version__}")
    completion.add(parser)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for group in (recipes, runs, judgements, engine, checkpoints, roots):
        group.add(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
